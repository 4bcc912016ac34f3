// Limits a key may have: requests and tokens a minute, each a bucket that refills evenly. They live in memory, so a restart
// begins with full buckets. What a token is, the routes say.
//
// A request's tokens are known when its answer is, so they are taken afterwards and a bucket may run into debt; the next
// request waits until the debt is paid. Over time a key gets exactly its limit, and no estimate refuses what would have fitted.
import type { ApiKey } from "../store/api-keys.ts";
import { RateLimited } from "./error-answers.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Counts tokens that were read and written for this request against its key's limit. */
    spendTokens: (count: number) => void;
  }
}

type LimitedKey = Pick<ApiKey, "id" | "prefix" | "requestsPerMinute" | "tokensPerMinute">;
type Kind = "requests" | "tokens";

interface Bucket {
  /** Below zero: debt. */
  level: number;
  atMs: number;
}

/** Keys whose buckets are remembered; beyond it, the one that was idle longest starts anew with full ones. */
const MAX_TRACKED_KEYS = 10_000;

/** The part of a key's allowance that the lines of its batches leave to its other requests. */
export const BATCH_RESERVE = 0.5;

const MINUTE_MS = 60_000;

export class RateLimits {
  readonly #now: () => number;
  /** In the order of their last use. */
  readonly #buckets = new Map<string, Partial<Record<Kind, Bucket>>>();

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** Takes one request. Throws RateLimited, and takes nothing, when a limit is reached, or its reserve (a part from 0 to 1). */
  admit(key: LimitedKey, reserve = 0): void {
    for (const kind of ["requests", "tokens"] as const) {
      const limit = limitOf(key, kind);
      if (limit === null) continue;
      const { level } = this.#filled(key, kind, limit);
      // Tokens need any rest above zero, as their number is not known yet.
      const least = kind === "requests" ? 1 : Math.min(1, limit);
      const missing = Math.max(least, limit * reserve) - level;
      if (missing > 0) throw reached(key, kind, limit, (missing / limit) * MINUTE_MS);
    }
    this.#take(key, "requests", 1);
  }

  spendTokens(key: LimitedKey, count: number): void {
    this.#take(key, "tokens", count);
  }

  /** OpenAI's headers for the limits this key has. */
  headers(key: LimitedKey): Record<string, string> {
    const headers: Record<string, string> = {};
    for (const kind of ["requests", "tokens"] as const) {
      const limit = limitOf(key, kind);
      if (limit === null) continue;
      const { level } = this.#filled(key, kind, limit);
      headers[`x-ratelimit-limit-${kind}`] = String(limit);
      headers[`x-ratelimit-remaining-${kind}`] = String(Math.max(0, Math.floor(level)));
      headers[`x-ratelimit-reset-${kind}`] = goDuration(((limit - level) / limit) * MINUTE_MS);
    }
    return headers;
  }

  #take(key: LimitedKey, kind: Kind, count: number): void {
    const limit = limitOf(key, kind);
    if (limit !== null) this.#filled(key, kind, limit).level -= count;
  }

  /** The bucket as it is now. */
  #filled(key: LimitedKey, kind: Kind, limit: number): Bucket {
    const buckets = this.#buckets.get(key.id) ?? {};
    this.#buckets.delete(key.id);
    this.#buckets.set(key.id, buckets);
    const [oldest] = this.#buckets.keys();
    if (this.#buckets.size > MAX_TRACKED_KEYS && oldest !== undefined) this.#buckets.delete(oldest);
    const now = this.#now();
    const bucket = (buckets[kind] ??= { level: limit, atMs: now });
    // A clock that is set back gives nothing and takes nothing.
    const passedMs = Math.max(0, now - bucket.atMs);
    bucket.level = Math.min(limit, bucket.level + (passedMs * limit) / MINUTE_MS);
    bucket.atMs = now;
    return bucket;
  }
}

const limitOf = (key: LimitedKey, kind: Kind) =>
  kind === "requests" ? key.requestsPerMinute : key.tokensPerMinute;

function reached(key: LimitedKey, kind: Kind, limit: number, waitMs: number): RateLimited {
  return new RateLimited(
    `Rate limit reached for ${kind} of the key ${key.prefix}…: Limit ${limit} a minute. Please try again in ${goDuration(waitMs)}.`,
    { kind, retryAfterMs: waitMs },
  );
}

/** A time as Go prints it, to the millisecond, rounded up: "0s", "250ms", "1.5s", "6m0s". */
export function goDuration(milliseconds: number): string {
  const whole = Math.max(0, Math.ceil(milliseconds));
  if (whole === 0) return "0s";
  if (whole < 1000) return `${whole}ms`;
  const seconds = `${(whole % MINUTE_MS) / 1000}s`;
  const minutes = Math.floor(whole / MINUTE_MS);
  if (minutes === 0) return seconds;
  return minutes < 60 ? `${minutes}m${seconds}` : `${Math.floor(minutes / 60)}h${minutes % 60}m${seconds}`;
}

// The header Idempotency-Key: a creation that a client names is carried out once, and its answer is repeated to whoever sends
// the same request again within 24 hours. What is stored, and for how long, store/idempotency.ts says.
import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { Conflict, InvalidRequest, OutOfSpace, TunesmithError } from "../errors.ts";
import type { Claim, IdempotencyStore, IdempotentAnswer } from "../store/idempotency.ts";
import { Busy } from "./error-answers.ts";

export type Once = <T extends object>(
  request: FastifyRequest,
  reply: FastifyReply,
  options: {
    /** What makes two requests the same, beside method and address. */
    content: unknown;
    create: () => Promise<T>;
    /** Runs in place of `create` when the answer is repeated or refused, to remove what was received. */
    discard?: () => Promise<void>;
  },
) => Promise<T | string>;

/** Carries a creation out at most once for each Idempotency-Key; without the header, always. */
export function createOnce(store: IdempotencyStore): Once {
  return async (request, reply, { content, create, discard }) => {
    const { project } = request;
    let key: string | null;
    let earlier: IdempotentAnswer | null = null;
    try {
      key = keyOf(request);
      if (key !== null) earlier = answerOf(await store.claim(project, key, fingerprintOf(request, content)));
      if (earlier !== null) await discard?.();
    } catch (error) {
      await discard?.();
      throw error;
    }
    if (key === null) return create();
    if (earlier !== null) {
      void reply.code(earlier.status).header("idempotent-replayed", "true");
      void reply.type("application/json; charset=utf-8");
      return earlier.body;
    }
    let created;
    try {
      created = await create();
    } catch (error) {
      // What this program did not mean to throw may have come after the creation.
      await (error instanceof TunesmithError ? store.release(project, key) : store.lose(project, key));
      throw error;
    }
    try {
      await store.answer(project, key, { status: reply.statusCode, body: JSON.stringify(created) });
    } catch (error) {
      // It was created, and whoever hears otherwise would create it again.
      if (!(error instanceof OutOfSpace)) throw error;
      request.log.error({ error: error.message }, "An answer could not be kept for its Idempotency-Key");
    }
    return created;
  };
}

/** The answer to repeat; null when the request is to be carried out. Throws when it is neither. */
function answerOf(claim: Claim): IdempotentAnswer | null {
  switch (claim.state) {
    case "claimed":
      return null;
    case "answered":
      return claim.answer;
    case "running":
      throw new Busy(
        "The same request, with the same 'Idempotency-Key', is being carried out. Send it again in a moment to get its answer.",
        { code: "idempotency_key_in_use" },
      );
    case "lost":
      throw new Conflict(
        "A request with this 'Idempotency-Key' was begun, but its answer was not kept: the server failed or stopped in between, or the answer was too large. It is not repeated, as it may have taken effect. Look at the list of these objects; to create another, send a new key.",
        { code: "idempotency_answer_lost" },
      );
    case "different":
      throw new InvalidRequest(
        "This 'Idempotency-Key' was used for another request within the last 24 hours: address and content must be the same. Send a new key for a new request.",
        { code: "idempotency_key_reused" },
      );
  }
}

/** Null without the header. Throws InvalidRequest for one that is no key. */
function keyOf(request: FastifyRequest): string | null {
  const key = request.headers["idempotency-key"];
  if (key === undefined) return null;
  if (typeof key === "string" && /^[\x21-\x7e]{1,255}$/.test(key)) return key;
  throw new InvalidRequest("Invalid 'Idempotency-Key': expected 1 to 255 visible ASCII characters.", {
    code: "invalid_value",
  });
}

function fingerprintOf(request: FastifyRequest, content: unknown): string {
  const [path = ""] = request.url.split("?");
  return createHash("sha256")
    .update(JSON.stringify([request.method, decodeURIComponent(path), content ?? null], sortedMembers))
    .digest("hex");
}

/** For JSON.stringify: the same members in another order are the same object, as clients build them anew for each attempt. */
function sortedMembers(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([first], [second]) => (first < second ? -1 : 1)));
}

/** Answers of a model that are kept as objects of their own, unless they are streamed. */
const KEPT_ANSWERS = ["/v1/chat/completions", "/v1/responses"] as const;

/**
 * Answers of a model that leave nothing behind, which may be asked for again and for which OpenAI's service has no such keys, and
 * preflights, of which nothing lasting is made. And API keys: their answers must not be kept.
 */
const NOT_CREATIONS = [
  "/v1/completions",
  "/v1/embeddings",
  "/v1/responses/input_tokens",
  "/v1/moderations",
  "/v1/fine_tuning/alpha/graders",
  "/tunesmith/keys",
  "/tunesmith/preflight",
] as const;

/** Whether a route's JSON bodies may be creations, to be carried out once. Forms are received first, by routes that call `Once` themselves. */
export function mayCreate(method: string, url: string): boolean {
  return method === "POST" && !NOT_CREATIONS.some((start) => url === start || url.startsWith(`${start}/`));
}

/** Whether a request to such a route is a creation. Its body has not been looked at: what is wrong with it, the route says. */
export function isCreation(url: string, body: unknown): boolean {
  if (!(KEPT_ANSWERS as readonly string[]).includes(url)) return true;
  if (typeof body !== "object" || body === null) return false;
  const { store, stream } = body as { store?: unknown; stream?: unknown };
  // Chat keeps what it is told to, responses what they are not told to forget. A stream cannot be given twice.
  return stream !== true && (url === "/v1/responses" ? store !== false : store === true);
}

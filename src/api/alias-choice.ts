// Which model answers a request that names an alias: its own, or the candidate for a share of the requests. Pure; a request is asked
// for once, so all of its answer comes from one model.
import { createHash, randomInt } from "node:crypto";
import type { Alias } from "../store/alias-rows.ts";

export interface AliasChoice {
  /** Answers the client. */
  model: string;
  /** Answers a copy of the request, for comparison. */
  shadow: string | null;
}

/** A place among so many is fine enough for any percentage that somebody writes. */
const PLACES = 2 ** 32;

/** `user`: what the request says of who asks; without it each request falls by itself. */
export function chooseModel({ name, model, candidate }: Alias, user: string | null): AliasChoice {
  if (candidate === null || placeOf(name, candidate.model, user) >= (candidate.percent / 100) * PLACES)
    return { model, shadow: null };
  return candidate.mode === "canary"
    ? { model: candidate.model, shadow: null }
    : { model, shadow: candidate.model };
}

/**
 * A user keeps the place while the candidate is the same, so a share that grows takes in new users and loses none. Another candidate
 * meets others first.
 */
function placeOf(alias: string, candidate: string, user: string | null): number {
  if (user === null) return randomInt(PLACES);
  return createHash("sha256")
    .update(JSON.stringify([alias, candidate, user]))
    .digest()
    .readUInt32BE(0);
}

// The tokens of a vocabulary by their bytes, as a tree in one row, and the walk that finds which of them a grammar lets through
// from a state. It knows no grammar beyond a Matcher, and no logits.
import type { Matcher } from "../grammar/matcher.ts";
import { DEAD } from "../grammar/matcher.ts";
import { commonLength } from "../grammar/program.ts";

/**
 * What a walk may add to a matcher's memory. Only schemas made for it get there, with many patterns at one place; tokens of
 * several bytes that were not looked at until then are forbidden, and such an answer goes on in single bytes: slow, but valid.
 */
const MAX_WALK_GROWTH = 65_536;

export interface TokenTrie {
  /** Bytes of the longest token. */
  readonly longestBytes: number;
  /** Bits of the tokens that may come next, 32 to a number, from the lowest bit on. */
  allowed(matcher: Matcher, state: number): Int32Array;
}

/** `tokens`: bytes by id; empty where an id is not text. `idCount`: ids a mask has bits for. */
export function createTokenTrie(tokens: readonly Uint8Array[], idCount: number): TokenTrie {
  const bytesOf = (id: number): Uint8Array => tokens[id] ?? NO_BYTES;
  // As texts of a character a byte, which are compared much faster.
  const spellings = tokens.map((bytes) => Buffer.from(bytes).toString("latin1"));
  const ids = tokens.flatMap((bytes, id) => (bytes.length === 0 || id >= idCount ? [] : [id]));
  ids.sort((a, b) => ((spellings[a] ?? "") < (spellings[b] ?? "") ? -1 : 1));
  let nodeCount = 0;
  let longestBytes = 0;
  for (const [i, id] of ids.entries()) {
    const bytes = bytesOf(id);
    nodeCount += bytes.length - commonLength(bytes, bytesOf(ids[i - 1] ?? -1));
    longestBytes = Math.max(longestBytes, bytes.length);
  }
  // A node is a byte; its children follow it, and then come its next siblings.
  const nodeByte = new Uint8Array(nodeCount);
  const nodeDepth = new Uint16Array(nodeCount);
  const nodeAfter = new Int32Array(nodeCount).fill(nodeCount);
  /** One of the tokens that end here, or -1; others of the same bytes are linked to it. */
  const nodeToken = new Int32Array(nodeCount).fill(-1);
  const sameBytes = new Int32Array(Math.max(idCount, tokens.length)).fill(-1);
  const path: number[] = [];
  let node = 0;
  let previous: Uint8Array = NO_BYTES;
  for (const id of ids) {
    const bytes = bytesOf(id);
    const shared = commonLength(bytes, previous);
    for (const passed of path.splice(shared)) nodeAfter[passed] = node;
    for (let depth = shared; depth < bytes.length; depth++) {
      nodeByte[node] = bytes[depth] ?? 0;
      nodeDepth[node] = depth;
      path.push(node++);
    }
    const last = path[bytes.length - 1] ?? 0;
    sameBytes[id] = nodeToken[last] ?? -1;
    nodeToken[last] = id;
    previous = bytes;
  }
  const states = new Int32Array(longestBytes + 1);
  return {
    longestBytes,
    allowed(matcher, state) {
      const mask = new Int32Array(Math.ceil(idCount / 32));
      states[0] = state;
      const mostSize = matcher.size + MAX_WALK_GROWTH;
      for (let at = 0; at < nodeCount;) {
        const depth = nodeDepth[at] ?? 0;
        if (depth > 0 && matcher.size > mostSize) {
          at = nodeAfter[at] ?? nodeCount;
          continue;
        }
        const next = matcher.step(states[depth] ?? DEAD, nodeByte[at] ?? 0);
        if (next === DEAD) {
          at = nodeAfter[at] ?? nodeCount;
          continue;
        }
        states[depth + 1] = next;
        for (let id = nodeToken[at] ?? -1; id >= 0; id = sameBytes[id] ?? -1) {
          mask[id >> 5] = (mask[id >> 5] ?? 0) | (1 << (id & 31));
        }
        at += 1;
      }
      return mask;
    },
  };
}

const NO_BYTES = new Uint8Array(0);

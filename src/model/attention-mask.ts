// The masks that attention adds to its scores.
import { float32 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";

/** What is added to forbidden scores: large enough to vanish in a softmax, small enough to stay finite. */
export const FORBIDDEN = -1e9;

/**
 * [R*U, T] for the last U of T tokens, R rows each: 0 on and below the diagonal, so that a token sees itself and what stands
 * before it, of that at most `windowTokens` in all.
 */
export function causalMask(T: number, R: number, U = T, windowTokens = Infinity): HostTensor<"float32"> {
  const mask = new Float32Array(R * U * T);
  for (let row = 0; row < R * U; row++) {
    const token = T - U + Math.floor(row / R);
    mask.fill(FORBIDDEN, row * T + token + 1, (row + 1) * T);
    const behindWindow = token + 1 - windowTokens;
    if (behindWindow > 0) mask.fill(FORBIDDEN, row * T, row * T + behindWindow);
  }
  return float32(mask, [R * U, T]);
}

/**
 * [B, 1, R*T, S] for layers with a window: which of a cache's S places the T new tokens behind each row's `lengths` filled
 * places see, R rows a token.
 */
export function slidingPastMask(
  lengths: readonly number[],
  { T, R, S, windowTokens }: { T: number; R: number; S: number; windowTokens: number },
): HostTensor<"float32"> {
  const mask = new Float32Array(lengths.length * R * T * S).fill(FORBIDDEN);
  let start = 0;
  for (const length of lengths) {
    for (let row = 0; row < R * T; row++, start += S) {
      const behindWindow = length + Math.floor(row / R) + 1 - windowTokens;
      mask.fill(0, start + Math.min(Math.max(behindWindow, 0), length), start + length);
    }
  }
  return float32(mask, [lengths.length, 1, R * T, S]);
}

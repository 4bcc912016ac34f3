// The masks that attention adds to its scores.
import { float32 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";

/** What is added to forbidden scores: large enough to vanish in a softmax, small enough to stay finite. */
export const FORBIDDEN = -1e9;

/**
 * [R*U, T] for the last U of T tokens, R rows each: 0 on and below the diagonal, so that a token sees itself and what stands
 * before it.
 */
export function causalMask(T: number, R: number, U = T): HostTensor<"float32"> {
  const mask = new Float32Array(R * U * T);
  for (let row = 0; row < R * U; row++) {
    const token = T - U + Math.floor(row / R);
    mask.fill(FORBIDDEN, row * T + token + 1, (row + 1) * T);
  }
  return float32(mask, [R * U, T]);
}

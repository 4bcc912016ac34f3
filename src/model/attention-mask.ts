// The masks that attention adds to its scores.
import { float32 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";

/** What is added to forbidden scores: large enough to vanish in a softmax, small enough to stay finite. */
export const FORBIDDEN = -1e9;

/** [T, T]: 0 on and below the diagonal, so that a token sees itself and what stands before it. */
export function causalMask(T: number): HostTensor<"float32"> {
  const mask = new Float32Array(T * T);
  for (let i = 0; i < T; i++) mask.fill(FORBIDDEN, i * T + i + 1, (i + 1) * T);
  return float32(mask, [T, T]);
}

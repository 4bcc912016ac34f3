// Low-rank adapters on linear layers: y = x W' + scale (x A') B'. LoRA, arXiv:2106.09685; names and shapes as PEFT's.
import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import type { LoraTarget } from "./lora-targets.ts";

/** One adapted layer: A [R, in], B [out, R], and with dropout a multiplier per input element (0 or 1 / (1 - p)). */
export interface LoraSite {
  a: Value;
  b: Value;
  dropout: Value | null;
}

export interface LoraSites {
  /** alpha / rank. */
  scale: number;
  sites: ReadonlyMap<LoraTarget, LoraSite>;
}

export const NO_LORA: LoraSites = { scale: 1, sites: new Map() };

/** x [N, in] times weight [out, in] transposed, plus the adapter's share where `target` has one: [N, out]. */
export function linear(g: Graph, x: Value, weight: Value, lora: LoraSites, target: LoraTarget): Value {
  const y = g.gemm(x, weight, { transB: true });
  const site = lora.sites.get(target);
  if (site === undefined) return y;
  const input = site.dropout === null ? x : g.mul(x, site.dropout);
  return g.gemm(g.gemm(input, site.a, { transB: true }), site.b, { transB: true, alpha: lora.scale, c: y });
}

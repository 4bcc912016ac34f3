// Low-rank adapters on linear layers: y = x W' + scale (x A') B'. LoRA, arXiv:2106.09685; names and shapes as PEFT's.
import type { Dimension } from "../graph/dimensions.ts";
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

/** A linear layer: its weight [out, in], and the name under which an adapter may sit on it. */
export type Linear = readonly [weight: Value, target: LoraTarget];

/** x [N, in] through one linear layer: [N, out]. */
export function linear(g: Graph, x: Value, layer: Linear, lora: LoraSites): Value {
  return linears(g, x, [layer], lora)[0] as Value;
}

/**
 * x [N, in] through several linear layers side by side. Adapters of one known rank share the product with x: their A are
 * stacked, because reading x once for each of them costs more than the few columns they have.
 */
export function linears(g: Graph, x: Value, layers: readonly Linear[], lora: LoraSites): Value[] {
  const sites = layers.flatMap(([, target]) => lora.sites.get(target) ?? []);
  const ranks = sites.map(({ a }) => a.shape[0] as Dimension);
  let reduced: readonly Value[];
  if (
    sites.length > 1 &&
    sites.every(({ a, dropout }) => dropout === null && typeof a.shape[0] === "number")
  ) {
    const stacked = g.op(
      "Concat",
      sites.map(({ a }) => a),
      { axis: 0 },
    );
    reduced = g.apply("Split", [g.gemm(x, stacked, { transB: true })], { axis: 1, sizes: ranks });
  } else {
    reduced = sites.map(({ a, dropout }) =>
      g.gemm(dropout === null ? x : g.mul(x, dropout), a, { transB: true }),
    );
  }
  return layers.map(([weight, target]) => {
    const y = g.gemm(x, weight, { transB: true });
    const site = lora.sites.get(target);
    if (site === undefined) return y;
    const z = reduced[sites.indexOf(site)] as Value;
    return g.gemm(z, site.b, { transB: true, alpha: lora.scale, c: y });
  });
}

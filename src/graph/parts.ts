// Cutting a tensor into equal parts and putting parts together again, where one part is the tensor itself.
import { quotient } from "./dimensions.ts";
import type { Dimension } from "./dimensions.ts";
import type { Graph } from "./graph.ts";
import type { Value } from "./value.ts";

/** `count` equal parts of an axis. */
export function cutEvenly(g: Graph, x: Value, axis: number, count: number): readonly Value[] {
  if (count === 1) return [x];
  const size = quotient(x.shape[axis] as Dimension, count) as Dimension;
  return g.apply("Split", [x], { axis, sizes: Array.from({ length: count }, () => size) });
}

/** Parts end to end along an axis. */
export function joined(g: Graph, parts: readonly Value[], axis: number): Value {
  return parts.length === 1 ? (parts[0] as Value) : g.op("Concat", parts, { axis });
}

// Reverse-mode differentiation of a graph: walks the nodes backwards, applies the rules of gradients.ts and adds up what
// arrives at each tensor. It emits into the same graph; subgraph.ts then cuts forward and backward apart.
import { formatShape, sameShape } from "./dimensions.ts";
import { GRADIENTS } from "./gradients.ts";
import type { BackwardRule } from "./gradients.ts";
import type { Graph } from "./graph.ts";
import { GraphError } from "./value.ts";
import type { Node, OpKind, Value } from "./value.ts";

/** A tensor and the gradient of the loss with respect to it, of the same shape. */
export interface Seed {
  value: Value;
  gradient: Value;
}

/**
 * Emits the gradients of a loss with respect to `targets`, given its gradients at `seeds`. Throws GraphError where a path
 * runs through an operator that has no derivative, or where a target has no path to a seed.
 */
export function backward(g: Graph, seeds: readonly Seed[], targets: readonly Value[]): Value[] {
  const gradients = new Map<Value, Value>();
  for (const { value, gradient } of seeds) {
    if (!sameShape(value.shape, gradient.shape)) {
      throw new GraphError(
        `internal: the gradient of ${value.name} must be ${formatShape(value.shape)}, is ${formatShape(gradient.shape)}`,
      );
    }
    accumulate(g, gradients, value, gradient);
  }
  const wanted = dependents(g, targets);
  for (const node of [...g.nodes].reverse()) {
    const dys = node.outputs.map((output) => gradients.get(output) ?? null);
    if (dys.every((dy) => dy === null)) continue;
    const composite = g.composites.get(node.outputs[0] as Value);
    if (composite !== undefined) {
      const emitted = composite.gradient(dys[0] as Value);
      for (const [i, input] of composite.inputs.entries()) {
        if (wanted.has(input)) accumulate(g, gradients, input, unbroadcast(g, emitted[i] as Value, input));
      }
      continue;
    }
    if (!node.inputs.some((input) => wanted.has(input))) continue;
    const recipes = (GRADIENTS[node.kind] as BackwardRule<OpKind>)(g, node, dys);
    for (const [i, input] of node.inputs.entries()) {
      if (!wanted.has(input)) continue;
      const recipe = recipes[i];
      if (recipe === undefined || recipe === "notDifferentiable") {
        throw new GraphError(`internal: ${node.name} has no derivative with respect to its input ${i}`);
      }
      accumulate(g, gradients, input, unbroadcast(g, recipe(), input));
    }
  }
  return targets.map((target) => {
    const gradient = gradients.get(target);
    if (gradient === undefined)
      throw new GraphError(`internal: no path leads from ${target.name} to the loss`);
    return gradient;
  });
}

/** Every tensor whose content depends on one of the targets. */
function dependents(g: Graph, targets: readonly Value[]): Set<Value> {
  const found = new Set(targets);
  for (const node of g.nodes) {
    if (node.inputs.some((input) => found.has(input))) for (const output of node.outputs) found.add(output);
  }
  return found;
}

function accumulate(g: Graph, gradients: Map<Value, Value>, value: Value, addend: Value): void {
  const sum = gradients.get(value);
  gradients.set(value, sum === undefined ? addend : addInto(g, sum, addend));
}

/** A sum with a matrix product is one Gemm, which adds while it multiplies: one pass over memory less. */
function addInto(g: Graph, sum: Value, addend: Value): Value {
  for (const [one, other] of [
    [addend, sum],
    [sum, addend],
  ] as const) {
    const node = one.node as Node<"Gemm"> | null;
    if (node?.kind === "Gemm" && node.inputs.length === 2) {
      return g.op("Gemm", [...node.inputs, other], node.attributes);
    }
  }
  return g.add(sum, addend);
}

/** Sums a gradient over the axes along which its tensor was broadcast. */
function unbroadcast(g: Graph, gradient: Value, value: Value): Value {
  if (sameShape(gradient.shape, value.shape)) return gradient;
  const extra = gradient.shape.length - value.shape.length;
  const axes = gradient.shape.flatMap((size, i) =>
    i < extra || (value.shape[i - extra] === 1 && size !== 1) ? [i] : [],
  );
  return g.reshape(g.sum(gradient, axes), value.shape);
}

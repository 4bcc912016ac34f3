// The order in which a graph's nodes are written, which decides how long ONNX Runtime keeps their results.
import type { Graph } from "./graph.ts";
import type { Value } from "./value.ts";

/**
 * Moves the nodes that depend on `roots` behind all others. ONNX Runtime (1.30) walks from the outputs to what they need, of
 * a node's inputs the one written last first. With the gradient flowing in through `roots`, what a backward rule computes
 * again from the forward pass is so computed when the gradient has arrived, not as soon as it could be, layers before.
 */
export function dependentsLast(g: Graph, roots: readonly Value[]): void {
  const dependent = new Set(roots);
  const isDependent = (node: (typeof g.nodes)[number]): boolean =>
    node.inputs.some((input) => dependent.has(input));
  const last = g.nodes.filter((node) => {
    if (!isDependent(node)) return false;
    for (const output of node.outputs) dependent.add(output);
    return true;
  });
  const first = g.nodes.filter((node) => !isDependent(node));
  g.nodes.splice(0, g.nodes.length, ...first, ...last);
}

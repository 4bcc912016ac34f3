// Cuts a part out of a graph: the nodes that lead to chosen tensors. A differentiated graph holds more than a run needs;
// each session gets only its part of it.
import { Graph } from "./graph.ts";
import { GraphError } from "./value.ts";
import type { Node, OpAttributes, Value } from "./value.ts";

/** A new graph that computes `outputs` and keeps only what they need, inputs included. */
export function subgraph(source: Graph, outputs: Readonly<Record<string, Value>>): Graph {
  const needed = new Set<Value>();
  const pending = Object.values(outputs);
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    if (needed.has(value)) continue;
    needed.add(value);
    if (value.node !== null) pending.push(...value.node.inputs);
  }

  const result = new Graph();
  const copies = new Map<Value, Value>();
  for (const input of source.inputs) {
    if (needed.has(input)) copies.set(input, result.input(input.name, input.dtype, input.shape));
  }
  for (const { value, data } of source.constants) {
    if (needed.has(value)) copies.set(value, result.constant(data, value.dtype, value.shape));
  }
  for (const node of source.nodes) {
    if (!node.outputs.some((output) => needed.has(output))) continue;
    const copied = result.apply(
      node.kind,
      node.inputs.map((input) => copyOf(copies, input)),
      copyAttributes(node, copies),
    );
    for (const [i, output] of node.outputs.entries()) copies.set(output, copied[i] as Value);
  }
  for (const [name, value] of Object.entries(outputs)) result.output(name, copyOf(copies, value));
  return result;
}

function copyOf(copies: ReadonlyMap<Value, Value>, value: Value): Value {
  const copy = copies.get(value);
  if (copy === undefined) throw new GraphError(`internal: ${value.name} is used before it is computed`);
  return copy;
}

/** Gather's inverse is only read by its backward rule, which has run by now where it was needed. */
function copyAttributes(node: Node, copies: ReadonlyMap<Value, Value>): Node["attributes"] {
  if (node.kind !== "Gather") return node.attributes;
  const { inverse } = node.attributes as OpAttributes["Gather"];
  return { inverse: inverse === null ? null : (copies.get(inverse) ?? null) };
}

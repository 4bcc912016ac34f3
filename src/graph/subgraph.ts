// Cuts a part out of a graph: the nodes that lead from chosen tensors to chosen tensors. This is how one differentiated
// graph becomes a forward and a backward graph: whatever the backward part needs and is not handed over, it computes again.
import { Graph } from "./graph.ts";
import { GraphError } from "./value.ts";
import type { Node, OpAttributes, Value } from "./value.ts";

/**
 * A new graph that computes `outputs` from `cuts` (tensors anywhere in the old graph, by their new names) and from the old
 * graph's own inputs. Only what the outputs need is kept, inputs included.
 */
export function subgraph(
  source: Graph,
  outputs: Readonly<Record<string, Value>>,
  cuts: Readonly<Record<string, Value>> = {},
): Graph {
  const cutNames = new Map(Object.entries(cuts).map(([name, value]) => [value, name]));
  const needed = new Set<Value>();
  const pending = Object.values(outputs);
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    if (needed.has(value)) continue;
    needed.add(value);
    if (!cutNames.has(value) && value.node !== null) pending.push(...value.node.inputs);
  }

  const result = new Graph();
  const copies = new Map<Value, Value>();
  for (const input of source.inputs) {
    if (needed.has(input)) copies.set(input, result.input(input.name, input.dtype, input.shape));
  }
  for (const [value, name] of cutNames) {
    if (needed.has(value) && !copies.has(value))
      copies.set(value, result.input(name, value.dtype, value.shape));
  }
  for (const { value, data } of source.constants) {
    if (needed.has(value) && !copies.has(value))
      copies.set(value, result.constant(data, value.dtype, value.shape));
  }
  for (const node of source.nodes) {
    if (!node.outputs.some((output) => needed.has(output) && !copies.has(output))) continue;
    const copied = result.apply(
      node.kind,
      node.inputs.map((input) => copyOf(copies, input)),
      copyAttributes(node, copies),
    );
    for (const [i, output] of node.outputs.entries()) {
      // A tensor that is handed over stays handed over, even where its node runs again for another output.
      if (!copies.has(output)) copies.set(output, copied[i] as Value);
    }
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

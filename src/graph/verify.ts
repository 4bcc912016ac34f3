// Checks a whole graph: order, types and names. Run before a graph becomes ONNX bytes.
import { formatShape, sameShape } from "./dimensions.ts";
import type { Graph } from "./graph.ts";
import { OPS } from "./ops.ts";
import type { OpDefinition } from "./ops.ts";
import { GraphError } from "./value.ts";
import type { OpKind, Value } from "./value.ts";

/** Throws GraphError unless each node reads only what stands before it and its outputs have the types of its shape rule. */
export function verify(graph: Graph): void {
  const known = new Set<Value>([...graph.inputs, ...graph.constants.map(({ value }) => value)]);
  const names = new Set<string>();
  const define = (value: Value): void => {
    if (names.has(value.name)) throw new GraphError(`internal: two tensors are named ${value.name}`);
    names.add(value.name);
    known.add(value);
  };
  for (const value of [...known]) define(value);
  for (const node of graph.nodes) {
    for (const input of node.inputs) {
      if (!known.has(input))
        throw new GraphError(`internal: ${node.name} reads ${input.name} before it is computed`);
    }
    const types = (OPS[node.kind] as OpDefinition<OpKind>).infer(node.inputs, node.attributes);
    for (const [i, output] of node.outputs.entries()) {
      const type = types[i];
      if (type === undefined || type.dtype !== output.dtype || !sameShape(type.shape, output.shape)) {
        throw new GraphError(
          `internal: ${output.name} claims ${formatShape(output.shape)}, against its shape rule`,
        );
      }
      define(output);
    }
  }
  for (const { name, value } of graph.outputs) {
    if (!known.has(value)) throw new GraphError(`internal: output ${name} is not computed by the graph`);
    // The tensor is renamed to it (onnx.ts), so no other tensor may have the name.
    if (names.has(name) && (value.node === null || value.name !== name)) {
      throw new GraphError(`internal: output ${name} has the name of another tensor`);
    }
  }
}

// A graph as stable text, one line a node, for snapshots in tests and for reading.
import { formatShape } from "./dimensions.ts";
import type { Graph } from "./graph.ts";
import type { Value } from "./value.ts";

/** The same graph always gives the same text. */
export function print(graph: Graph): string {
  const constants = new Map(graph.constants.map(({ value, data }) => [value, data]));
  const show = (value: Value): string => {
    const data = constants.get(value);
    if (data === undefined) return value.name;
    return data.length === 1 ? String(data[0]) : `[${data.join(" ")}]`;
  };
  const lines = graph.inputs.map((input) => `input ${input.name}: ${input.dtype}${formatShape(input.shape)}`);
  for (const node of graph.nodes) {
    const attributes = Object.entries(node.attributes)
      .map(([name, value]) => `${name}=${formatAttribute(value)}`)
      .join(" ");
    const outputs = node.outputs.map((output) => `${output.name}: ${formatShape(output.shape)}`).join(", ");
    lines.push(
      `${outputs} = ${node.kind}(${node.inputs.map(show).join(", ")})${attributes && ` {${attributes}}`}`,
    );
  }
  for (const { name, value } of graph.outputs) lines.push(`output ${name} = ${show(value)}`);
  return lines.join("\n");
}

function formatAttribute(value: unknown): string {
  if (Array.isArray(value)) return `[${value.join(", ")}]`;
  if (typeof value === "object" && value !== null) return (value as Value).name;
  return String(value);
}

// Runs a graph on ONNX Runtime (float32) and on the interpreter (float64) and compares every output.
import { expect } from "vitest";
import type { Graph } from "../../src/graph/graph.ts";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import { createSession } from "../../src/runtime/session.ts";
import { float32, int32, int64 } from "../../src/runtime/tensor.ts";
import type { HostTensor } from "../../src/runtime/tensor.ts";
import { evaluate } from "../reference/interpreter.ts";
import type { Tensor, TensorFeeds } from "../reference/interpreter.ts";

/** Relative to the largest number of an output, and never below it absolutely: float32 has 7 digits. */
const TOLERANCE = 1e-5;

/** Returns what the interpreter computed. */
export async function expectSameAsInterpreter(
  graph: Graph,
  feeds: TensorFeeds,
): Promise<Record<string, Tensor>> {
  const expected = evaluate(graph, feeds);
  const session = await createSession(encodeOnnx(graph), { threads: 1 });
  const hostFeeds = graph.inputs.map(
    ({ name, dtype }) => [name, toHost(feeds[name] as Tensor, dtype)] as const,
  );
  const found = await session.run(Object.fromEntries(hostFeeds));
  await session.release();
  expect(Object.keys(found).sort()).toEqual(Object.keys(expected).sort());
  for (const [name, { shape, data }] of Object.entries(expected)) {
    expect(found[name]?.shape, name).toEqual(shape);
    const scale = data.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1);
    const errors = data.map((value, i) => Math.abs(value - (found[name]?.data[i] as number)));
    expect(Math.max(...errors) / scale, name).toBeLessThan(TOLERANCE);
  }
  return expected;
}

function toHost({ shape, data }: Tensor, dtype: HostTensor["dtype"]): HostTensor {
  switch (dtype) {
    case "float32":
      return float32(Float32Array.from(data), shape);
    case "int32":
      return int32(Int32Array.from(data), shape);
    case "int64":
      return int64(BigInt64Array.from(data, BigInt), shape);
  }
}

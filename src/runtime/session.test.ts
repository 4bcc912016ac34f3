// A session reads its feeds in place, gives back fresh arrays and says what is missing.
import { afterAll, beforeAll, expect, it } from "vitest";
import { Graph } from "../graph/graph.ts";
import { encodeOnnx } from "../graph/onnx.ts";
import { createSession } from "./session.ts";
import type { Session } from "./session.ts";
import { float32 } from "./tensor.ts";

let session: Session;
beforeAll(async () => {
  const g = new Graph();
  const [a, b] = [g.input("a", "float32", ["N"]), g.input("b", "float32", ["N"])];
  g.output("sum", g.add(a, b));
  g.output("product", g.mul(a, b));
  session = await createSession(encodeOnnx(g), { threads: 1 });
});
afterAll(() => session.release());

it("knows its names, runs any size and passes over feeds it has no input for", async () => {
  expect(session.inputNames).toEqual(["a", "b"]);
  expect(session.outputNames).toEqual(["sum", "product"]);
  for (const size of [1, 3]) {
    const a = float32(new Float32Array(size).fill(3), [size]);
    const b = float32(new Float32Array(size).fill(4), [size]);
    const { sum, product } = await session.run({ a, b, unused: a });
    expect(sum).toEqual(float32(new Float32Array(size).fill(7), [size]));
    expect(product).toEqual(float32(new Float32Array(size).fill(12), [size]));
  }
});

it("sees numbers that changed since the last run, and gives back arrays of its own", async () => {
  const whole = Float32Array.of(9, 1, 2, 9);
  // A view into a larger array, as LoRA parameters are.
  const a = float32(whole.subarray(1, 3), [2]);
  const b = float32(Float32Array.of(10, 10), [2]);
  const first = await session.run({ a, b });
  whole.set([5, 6], 1);
  const second = await session.run({ a, b });
  expect([...(first["sum"]?.data ?? [])]).toEqual([11, 12]);
  expect([...(second["sum"]?.data ?? [])]).toEqual([15, 16]);
});

it("names the input that is missing", async () => {
  const a = float32(Float32Array.of(1), [1]);
  await expect(session.run({ a })).rejects.toThrow("internal: the session needs input b");
});

it("refuses bytes that are no model and outputs that are not float32", async () => {
  await expect(createSession(Uint8Array.of(1, 2, 3), { threads: 1 })).rejects.toThrow();
  const g = new Graph();
  g.output("out", g.input("in", "int64", [1]));
  const whole = await createSession(encodeOnnx(g), { threads: 1 });
  const feed = { dtype: "int64", shape: [1], data: BigInt64Array.of(1n) } as const;
  await expect(whole.run({ in: feed })).rejects.toThrow("internal: output out is int64");
  await whole.release();
});

// The encoder's graph on ONNX Runtime against the interpreter: what its optimizations join still computes the same, with rows
// of unlike length beside each other.
import { expect, it } from "vitest";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import { buildEncoderGraph } from "../../src/model/encoder.ts";
import type { EncoderConfig } from "../../src/model/encoder-config.ts";
import { createRandom } from "../../src/random.ts";
import type { Tensor } from "../reference/interpreter.ts";
import { expectSameAsInterpreter } from "./on-both-engines.ts";

const CONFIG: EncoderConfig = {
  vocabSize: 11,
  hiddenSize: 12,
  layerCount: 2,
  heads: 3,
  headWidth: 4,
  mlpWidth: 20,
  normEpsilon: 1e-12,
  maxPositions: 8,
  segmentCount: 2,
};

/** Rows of 3 and 2 tokens. */
const LAYOUT: Record<string, Tensor> = {
  tokens: { shape: [5], data: Float64Array.of(2, 7, 3, 2, 3) },
  positions: { shape: [5], data: Float64Array.of(0, 1, 2, 0, 1) },
  block_index: { shape: [2, 3], data: Float64Array.of(0, 1, 2, 3, 4, 0) },
  flat_index: { shape: [5], data: Float64Array.of(0, 1, 2, 3, 4) },
  mask: { shape: [2, 1, 1, 3], data: Float64Array.of(0, 0, 0, 0, 0, -1e9) },
  pool: { shape: [2, 5], data: Float64Array.of(1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0, 0, 0.5, 0.5) },
};

it("computes on ONNX Runtime what the interpreter computes, and a row does not see the others", async () => {
  const g = buildEncoderGraph(CONFIG);
  const random = createRandom(7);
  const feeds: Record<string, Tensor> = { ...LAYOUT };
  for (const { name, shape } of g.inputs) {
    if (name in feeds) continue;
    const sizes = shape as readonly number[];
    const count = sizes.reduce((total, size) => total * size, 1);
    feeds[name] = {
      shape: sizes,
      data: Float64Array.from({ length: count }, () => Math.fround(random.next() - 0.5)),
    };
  }
  const { pooled } = await expectSameAsInterpreter(g, feeds);
  const second = {
    ...feeds,
    tokens: { shape: [5], data: Float64Array.of(2, 9, 10, 2, 3) },
  };
  const { pooled: other } = await expectSameAsInterpreter(g, second);
  const row = (tensor: Tensor | undefined, i: number): number[] =>
    [...(tensor?.data ?? [])].slice(i * 12, i * 12 + 12);
  expect(row(other, 1)).toEqual(row(pooled, 1));
  expect(row(other, 0)).not.toEqual(row(pooled, 0));
});

it("is ONNX bytes of a few thousand, weights apart", () => {
  expect(encodeOnnx(buildEncoderGraph(CONFIG)).length).toBeLessThan(20_000);
});

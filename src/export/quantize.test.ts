// Quantization against the decoding that real files are read with.
import { describe, expect, it } from "vitest";
import { GGML_TYPES } from "../model/dequantize.ts";
import { createRandom } from "../random.ts";
import { BLOCK_VALUES, quantize, STORED_TYPES, storedBytes, type StoredType } from "./quantize.ts";

function back(values: Float32Array, type: StoredType): Float32Array {
  const bytes = quantize(values, type);
  expect(bytes.length).toBe(storedBytes(type, values.length));
  const decoded = new Float32Array(values.length);
  [...GGML_TYPES.values()].find(({ name }) => name === type)?.decode(bytes, decoded, 0);
  return decoded;
}

const random = createRandom(1);
const values = Float32Array.from({ length: 64 * BLOCK_VALUES }, () => 4 * (random.next() - 0.5));

describe.each(STORED_TYPES)("%s", (type) => {
  it("comes back within half a step of its block", () => {
    const found = back(values, type);
    for (let start = 0; start < values.length; start += BLOCK_VALUES) {
      const block = values.subarray(start, start + BLOCK_VALUES);
      const largest = block.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      // Of Q4_0, the side away from the outermost value has a level less, so that a value there may lose a whole step.
      const step = { F32: 0, F16: largest / 2048, Q8_0: largest / 127 / 2, Q4_0: largest / 8 }[type];
      for (let i = 0; i < BLOCK_VALUES; i++) {
        const lost = Math.abs((block[i] as number) - (found[start + i] as number));
        // The scale is rounded to an f16: at level 127 that is a sixteenth of a step.
        expect(lost).toBeLessThanOrEqual(step * 1.07);
      }
    }
  });

  it("keeps zeros", () => {
    expect(back(new Float32Array(BLOCK_VALUES), type).every((value) => value === 0)).toBe(true);
  });
});

it("Q8_0 keeps its 255 levels, Q4_0 its 16, exactly", () => {
  // Scales that an f16 holds; each block begins with the value that sets them.
  const levels = Array.from({ length: 255 }, (_, i) => i - 127);
  const bytes = Float32Array.from({ length: 9 * BLOCK_VALUES }, (_, i) =>
    i % BLOCK_VALUES === 0 ? 127 : (levels[i % 255] as number),
  );
  expect(back(bytes, "Q8_0")).toEqual(bytes);
  for (const outermost of [-8, 8]) {
    const nibbles = Float32Array.from({ length: BLOCK_VALUES }, (_, i) => (outermost / -8) * ((i % 16) - 8));
    expect(back(nibbles, "Q4_0")).toEqual(nibbles);
  }
});

it("Q8_0 rounds halfway cases away from zero, as C does", () => {
  const block = new Float32Array(BLOCK_VALUES);
  block.set([127, 2.5, -2.5, 3.5]);
  expect([...back(block, "Q8_0").subarray(0, 4)]).toEqual([127, 3, -3, 4]);
});

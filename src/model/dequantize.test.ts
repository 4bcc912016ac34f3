import { describe, expect, test } from "vitest";
import { GGML_TYPES, ggmlTypeName } from "./dequantize.ts";
import { halfTable } from "./half-precision.ts";

const byName = (name: string) => [...GGML_TYPES.values()].find((type) => type.name === name);

describe("block formats by hand", () => {
  const half = (value: number) => halfTable().findIndex((candidate) => Object.is(candidate, value));
  const scale = (value: number) => [half(value) & 255, half(value) >> 8];
  const nibbles = Array.from({ length: 16 }, (_, i) => i | ((15 - i) << 4));

  test.each<[string, number[], (i: number) => number]>([
    ["Q4_0", [...scale(0.5), ...nibbles], (i) => 0.5 * ((i < 16 ? i : 31 - i) - 8)],
    ["Q4_1", [...scale(0.25), ...scale(-3), ...nibbles], (i) => 0.25 * (i < 16 ? i : 31 - i) - 3],
    [
      "Q8_0",
      [...scale(2), ...Array.from({ length: 32 }, (_, i) => (i * 8 - 128) & 255)],
      (i) => 2 * (i * 8 - 128),
    ],
  ])("%s", (name, block, expected) => {
    const type = byName(name);
    expect(type?.blockBytes).toBe(block.length);
    const target = new Float32Array(96).fill(NaN);
    // Two blocks, from element 32 on: both must land in their place and nowhere else.
    type?.decode(Uint8Array.from([...block, ...block]), target, 32);
    expect([...target.subarray(0, 32)].every(Number.isNaN)).toBe(true);
    for (const start of [32, 64])
      expect([...target.subarray(start, start + 32)]).toEqual(
        Array.from({ length: 32 }, (_, i) => expected(i)),
      );
  });
});

test("the f16 table holds every value: against Float32 arithmetic on the bits", () => {
  const table = halfTable();
  expect(table[0]).toBe(0);
  expect(Object.is(table[0x8000], -0)).toBe(true);
  expect(table[0x3c00]).toBe(1);
  expect(table[0x7bff]).toBe(65504);
  expect(table[0x0001]).toBe(2 ** -24);
  expect(table[0x03ff]).toBe(1023 * 2 ** -24);
  expect(table[0x0400]).toBe(2 ** -14);
  expect(table[0xfc00]).toBe(-Infinity);
  expect(table[0x7e00]).toBeNaN();
  for (let bits = 0; bits < 0x7c00; bits++)
    if (!((table[bits + 1] ?? 0) > (table[bits] ?? 0))) throw new Error(`not rising at ${bits}`);
});

test("names of types for messages", () => {
  expect([0, 3, 12, 10, 99].map(ggmlTypeName)).toEqual(["F32", "Q4_1", "Q4_K", "Q2_K", "type 99"]);
});

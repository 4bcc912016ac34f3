// f16 and bf16 there and back: every value of 16 bits, and the cases between two of them.
import { describe, expect, it } from "vitest";
import { decodeBrain, decodeHalf, encodeBrain, encodeHalf, halfBits, halfTable } from "./half-precision.ts";

const ALL = new Uint8Array(Uint16Array.from({ length: 65_536 }, (_, bits) => bits).buffer);

describe.each([
  ["f16", decodeHalf, encodeHalf],
  ["bf16", decodeBrain, encodeBrain],
] as const)("%s", (_name, decode, encode) => {
  it("every value comes back; NaN stays NaN", () => {
    const values = new Float32Array(65_536);
    decode(ALL, values, 0);
    const again = new Float32Array(65_536);
    decode(encode(values), again, 0);
    expect(again).toEqual(values);
  });

  it("between two values the nearer one is taken, in the middle the even one", () => {
    const values = new Float32Array(65_536);
    decode(ALL, values, 0);
    for (let bits = 0; bits < 0x7bff; bits += 7) {
      const [low, high] = [values[bits] as number, values[bits + 1] as number];
      if (!Number.isFinite(high)) break;
      const middle = low / 2 + high / 2;
      const below = Math.fround(low + (middle - low) * 0.9);
      const above = Math.fround(low + (middle - low) * 1.1);
      const found = new Float32Array(4);
      decode(encode(Float32Array.of(below, middle, above, -middle)), found, 0);
      const even = bits % 2 === 0 ? low : high;
      // Below 2^-140 an f32 has no values between two of bf16's.
      if (Math.fround(middle) !== middle || below === low || above === high) continue;
      expect([...found], `bits ${bits}`).toEqual([low, even, high, -even]);
    }
  });
});

it("f16 beyond its range is infinite, from where rounding would reach the next value", () => {
  const largest = halfTable()[0x7bff] as number;
  expect([halfBits(largest), halfBits(65_519), halfBits(65_520), halfBits(-1e9)]).toEqual([
    0x7bff, 0x7bff, 0x7c00, 0xfc00,
  ]);
  expect([halfBits(2 ** -25), halfBits(2 ** -24), halfBits(-0)]).toEqual([0, 1, 0x8000]);
});

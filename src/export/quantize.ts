// f32 values as GGUF stores them: the inverse of model/dequantize for the formats that exports offer. Rounding as in
// quantize_row_q8_0_ref and quantize_row_q4_0_ref of llama.cpp's ggml-quants.c.
import { encodeHalf, halfBits, halfTable } from "../model/half-precision.ts";

export const STORED_TYPES = ["F32", "F16", "Q8_0", "Q4_0"] as const;
export type StoredType = (typeof STORED_TYPES)[number];

/** Values that share a scale in both block formats. */
export const BLOCK_VALUES = 32;
const Q8_BYTES = 34;
const Q4_BYTES = 18;

/** Bytes of so many values; whole blocks where the type has blocks. */
export function storedBytes(type: StoredType, count: number): number {
  switch (type) {
    case "F32":
      return 4 * count;
    case "F16":
      return 2 * count;
    case "Q8_0":
      return (count / BLOCK_VALUES) * Q8_BYTES;
    case "Q4_0":
      return (count / BLOCK_VALUES) * Q4_BYTES;
  }
}

/** The values, whole blocks of them, as bytes. */
export function quantize(values: Float32Array, type: StoredType): Uint8Array {
  switch (type) {
    case "F32":
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    case "F16":
      return encodeHalf(values);
    case "Q8_0":
      return encodeQ8_0(values);
    case "Q4_0":
      return encodeQ4_0(values);
  }
}

/** d · q with signed bytes; d takes the largest value to 127. */
function encodeQ8_0(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(storedBytes("Q8_0", values.length));
  for (let start = 0, at = 0; start < values.length; start += BLOCK_VALUES, at += Q8_BYTES) {
    const { largest } = extremesOf(values, start);
    const scale = Math.fround(largest / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    writeScale(bytes, at, scale);
    for (let i = 0; i < BLOCK_VALUES; i++) {
      const value = Math.fround((values[start + i] as number) * inverse);
      // Halfway cases go away from zero, as C's roundf takes them.
      bytes[at + 2 + i] = (Math.sign(value) * Math.floor(Math.abs(value) + 0.5)) & 255;
    }
  }
  return bytes;
}

/** d · (q - 8); d takes the value of the largest magnitude to -8, with its sign. */
function encodeQ4_0(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(storedBytes("Q4_0", values.length));
  for (let start = 0, at = 0; start < values.length; start += BLOCK_VALUES, at += Q4_BYTES) {
    const { outermost } = extremesOf(values, start);
    const scale = Math.fround(outermost / -8);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    writeScale(bytes, at, scale);
    const nibble = (i: number): number =>
      Math.min(15, Math.floor(Math.fround(Math.fround((values[start + i] as number) * inverse) + 8.5)));
    for (let i = 0; i < BLOCK_VALUES / 2; i++) {
      bytes[at + 2 + i] = nibble(i) | (nibble(i + BLOCK_VALUES / 2) << 4);
    }
  }
  return bytes;
}

function writeScale(bytes: Uint8Array, at: number, scale: number): void {
  const bits = halfBits(scale);
  bytes[at] = bits & 255;
  bytes[at + 1] = bits >> 8;
}

/** Of a block: the largest magnitude, and the value that has it. */
function extremesOf(values: Float32Array, start: number): { largest: number; outermost: number } {
  let largest = 0;
  let outermost = 0;
  for (let i = start; i < start + BLOCK_VALUES; i++) {
    const value = values[i] as number;
    if (Math.abs(value) > largest) {
      largest = Math.abs(value);
      outermost = value;
    }
  }
  return { largest, outermost };
}

/** The largest magnitude that a half holds. */
export const LARGEST_HALF = halfTable()[0x7bff] as number;

// f16 and bf16 to f32. Both are exact: every half-precision value is an f32 value.

let table: Float32Array | null = null;

/** All 65,536 f16 values by their bits: one look-up is several times faster than the arithmetic. */
export function halfTable(): Float32Array {
  if (table !== null) return table;
  table = new Float32Array(65_536);
  for (let bits = 0; bits < 65_536; bits++) {
    const exponent = (bits >> 10) & 0x1f;
    const mantissa = bits & 0x3ff;
    const magnitude =
      exponent === 0x1f
        ? mantissa === 0
          ? Infinity
          : NaN
        : exponent === 0
          ? mantissa * 2 ** -24
          : (1 + mantissa / 1024) * 2 ** (exponent - 15);
    table[bits] = bits & 0x8000 ? -magnitude : magnitude;
  }
  return table;
}

/** Decodes little-endian f16 values into `target` from `start` on. */
export function decodeHalf(bytes: Uint8Array, target: Float32Array, start: number): void {
  const values = halfTable();
  const count = bytes.length >> 1;
  for (let i = 0; i < count; i++)
    target[start + i] = values[(bytes[2 * i] as number) | ((bytes[2 * i + 1] as number) << 8)] as number;
}

/** Decodes little-endian bf16 values (the upper half of an f32) into `target` from `start` on. */
export function decodeBrain(bytes: Uint8Array, target: Float32Array, start: number): void {
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
  const count = bytes.length >> 1;
  for (let i = 0; i < count; i++)
    bits[start + i] = ((bytes[2 * i] as number) << 16) | ((bytes[2 * i + 1] as number) << 24);
}

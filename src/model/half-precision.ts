// f16 and bf16 to f32, which is exact since every half-precision value is an f32 value, and back, rounded to the nearest value
// and halfway cases to the even one, as ggml, numpy and torch round.

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

/** Where f32 values and their bits are the same memory. */
const single = new Float32Array(1);
const singleBits = new Uint32Array(single.buffer);

/** The bits of the nearest f16; what lies beyond its range becomes infinite. */
export function halfBits(value: number): number {
  single[0] = value;
  const bits = singleBits[0] as number;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fff_ffff;
  if (magnitude > 0x7f80_0000) return sign | 0x7e00;
  if (magnitude >= 0x4780_0000) return sign | 0x7c00;
  if (magnitude >= 0x3880_0000) {
    // Thirteen bits are dropped; the carry of rounding up may run into the exponent, where it belongs.
    const shifted = magnitude - 0x3800_0000;
    return sign | ((shifted + 0xfff + ((shifted >>> 13) & 1)) >>> 13);
  }
  // Below 2^-14 the step is 2^-24 throughout.
  const steps = Math.abs(single[0]) * 2 ** 24;
  const down = Math.floor(steps);
  const rest = steps - down;
  return sign | (rest > 0.5 || (rest === 0.5 && (down & 1) === 1) ? down + 1 : down);
}

/** Little-endian f16 of the values. */
export function encodeHalf(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(2 * values.length);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < values.length; i++) view.setUint16(2 * i, halfBits(values[i] as number), true);
  return bytes;
}

/** Little-endian bf16 of the values. */
export function encodeBrain(values: Float32Array): Uint8Array {
  const source = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const bytes = new Uint8Array(2 * values.length);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < source.length; i++) {
    const bits = source[i] as number;
    const isNaN = (bits & 0x7fff_ffff) > 0x7f80_0000;
    const rounded = isNaN ? (bits >>> 16) | 0x40 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
    view.setUint16(2 * i, rounded & 0xffff, true);
  }
  return bytes;
}

// The block formats of GGUF tensors and their decoding to f32. Formulas and layouts as in ggml-common.h and
// ggml-quants.c of llama.cpp; knows no files and no names.
import { decodeBrain, decodeHalf, halfTable } from "./half-precision.ts";

export interface GgmlType {
  name: string;
  /** Values that share one scale and lie in one block. */
  blockElements: number;
  blockBytes: number;
  /** Decodes whole blocks into `target` from `start` on. */
  decode(bytes: Uint8Array, target: Float32Array, start: number): void;
}

/** The types that can be read, by ggml's type number. */
export const GGML_TYPES: ReadonlyMap<number, GgmlType> = new Map<number, GgmlType>([
  [0, { name: "F32", blockElements: 1, blockBytes: 4, decode: decodeSingle }],
  [1, { name: "F16", blockElements: 1, blockBytes: 2, decode: decodeHalf }],
  [2, { name: "Q4_0", blockElements: 32, blockBytes: 18, decode: decodeQ4_0 }],
  [3, { name: "Q4_1", blockElements: 32, blockBytes: 20, decode: decodeQ4_1 }],
  [6, { name: "Q5_0", blockElements: 32, blockBytes: 22, decode: decodeQ5_0 }],
  [7, { name: "Q5_1", blockElements: 32, blockBytes: 24, decode: decodeQ5_1 }],
  [8, { name: "Q8_0", blockElements: 32, blockBytes: 34, decode: decodeQ8_0 }],
  [12, { name: "Q4_K", blockElements: 256, blockBytes: 144, decode: decodeQ4_K }],
  [13, { name: "Q5_K", blockElements: 256, blockBytes: 176, decode: decodeQ5_K }],
  [14, { name: "Q6_K", blockElements: 256, blockBytes: 210, decode: decodeQ6_K }],
  [30, { name: "BF16", blockElements: 1, blockBytes: 2, decode: decodeBrain }],
]);

/** Names of the other types, so that a refusal can say what was found. */
const OTHER_TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [9, "Q8_1"],
  [10, "Q2_K"],
  [11, "Q3_K"],
  [15, "Q8_K"],
  [16, "IQ2_XXS"],
  [17, "IQ2_XS"],
  [18, "IQ3_XXS"],
  [19, "IQ1_S"],
  [20, "IQ4_NL"],
  [21, "IQ3_S"],
  [22, "IQ2_S"],
  [23, "IQ4_XS"],
  [24, "I8"],
  [25, "I16"],
  [26, "I32"],
  [27, "I64"],
  [28, "F64"],
  [29, "IQ1_M"],
  [34, "TQ1_0"],
  [35, "TQ2_0"],
  [39, "MXFP4"],
]);

export function ggmlTypeName(type: number): string {
  return GGML_TYPES.get(type)?.name ?? OTHER_TYPE_NAMES.get(type) ?? `type ${type}`;
}

function decodeSingle(bytes: Uint8Array, target: Float32Array, start: number): void {
  new Uint8Array(target.buffer, target.byteOffset + 4 * start, bytes.length).set(bytes);
}

// In the loops below every index is inside the arrays by construction: `bytes` holds whole blocks, `target` their values.

/** d · (q - 8); the low nibbles are values 0-15 of the block, the high ones 16-31. */
function decodeQ4_0(bytes: Uint8Array, target: Float32Array, start: number): void {
  const half = halfTable();
  for (let block = 0, out = start; block < bytes.length; block += 18, out += 32) {
    const scale = half[(bytes[block] as number) | ((bytes[block + 1] as number) << 8)] as number;
    for (let i = 0; i < 16; i++) {
      const pair = bytes[block + 2 + i] as number;
      target[out + i] = scale * ((pair & 15) - 8);
      target[out + i + 16] = scale * ((pair >> 4) - 8);
    }
  }
}

/** d · q + m, nibbles as in Q4_0. */
function decodeQ4_1(bytes: Uint8Array, target: Float32Array, start: number): void {
  const half = halfTable();
  for (let block = 0, out = start; block < bytes.length; block += 20, out += 32) {
    const scale = half[(bytes[block] as number) | ((bytes[block + 1] as number) << 8)] as number;
    const minimum = half[(bytes[block + 2] as number) | ((bytes[block + 3] as number) << 8)] as number;
    for (let i = 0; i < 16; i++) {
      const pair = bytes[block + 4 + i] as number;
      target[out + i] = scale * (pair & 15) + minimum;
      target[out + i + 16] = scale * (pair >> 4) + minimum;
    }
  }
}

/** d · (q - 16); nibbles as in Q4_0, bit i of the four bytes before them is the fifth bit of value i. */
function decodeQ5_0(bytes: Uint8Array, target: Float32Array, start: number): void {
  const half = halfTable();
  for (let block = 0, out = start; block < bytes.length; block += 22, out += 32) {
    const scale = half[(bytes[block] as number) | ((bytes[block + 1] as number) << 8)] as number;
    const high = highBits(bytes, block + 2);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[block + 6 + i] as number;
      target[out + i] = scale * (((pair & 15) | (((high >>> i) & 1) << 4)) - 16);
      target[out + i + 16] = scale * (((pair >> 4) | (((high >>> (i + 16)) & 1) << 4)) - 16);
    }
  }
}

/** d · q + m, bits as in Q5_0. */
function decodeQ5_1(bytes: Uint8Array, target: Float32Array, start: number): void {
  const half = halfTable();
  for (let block = 0, out = start; block < bytes.length; block += 24, out += 32) {
    const scale = half[(bytes[block] as number) | ((bytes[block + 1] as number) << 8)] as number;
    const minimum = half[(bytes[block + 2] as number) | ((bytes[block + 3] as number) << 8)] as number;
    const high = highBits(bytes, block + 4);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[block + 8 + i] as number;
      target[out + i] = scale * ((pair & 15) | (((high >>> i) & 1) << 4)) + minimum;
      target[out + i + 16] = scale * ((pair >> 4) | (((high >>> (i + 16)) & 1) << 4)) + minimum;
    }
  }
}

/** The fifth bits of a block of 32 values. */
function highBits(bytes: Uint8Array, at: number): number {
  const [a, b, c, d] = bytes.subarray(at, at + 4) as unknown as [number, number, number, number];
  return a | (b << 8) | (c << 16) | (d << 24);
}

/** d · q with signed bytes. */
function decodeQ8_0(bytes: Uint8Array, target: Float32Array, start: number): void {
  const half = halfTable();
  for (let block = 0, out = start; block < bytes.length; block += 34, out += 32) {
    const scale = half[(bytes[block] as number) | ((bytes[block + 1] as number) << 8)] as number;
    for (let i = 0; i < 32; i++) target[out + i] = scale * (((bytes[block + 2 + i] as number) << 24) >> 24);
  }
}

// The K formats: 256 values in eight groups of 32 (Q6_K: sixteen of 16), each with a small whole number for its scale that
// the block's own scale multiplies. Products are rounded to f32 in the order of ggml, so that the values are exactly its.

/** d · scale · q - dmin · minimum; each 32 bytes hold a group in the low nibbles and the next one in the high nibbles. */
function decodeQ4_K(bytes: Uint8Array, target: Float32Array, start: number): void {
  for (let block = 0, out = start; block < bytes.length; block += 144, out += 256) {
    const { scales, minimums } = groupScales(bytes, block);
    for (let group = 0; group < 8; group++) {
      const [scale, minimum] = [scales[group] as number, minimums[group] as number];
      const from = block + 16 + 32 * (group >> 1);
      const shift = 4 * (group & 1);
      for (let i = 0; i < 32; i++) {
        const q = ((bytes[from + i] as number) >> shift) & 15;
        target[out + 32 * group + i] = Math.fround(scale * q) - minimum;
      }
    }
  }
}

/** As Q4_K, with a fifth bit each: bit g of byte i of the 32 bytes before the nibbles is that of value i of group g. */
function decodeQ5_K(bytes: Uint8Array, target: Float32Array, start: number): void {
  for (let block = 0, out = start; block < bytes.length; block += 176, out += 256) {
    const { scales, minimums } = groupScales(bytes, block);
    for (let group = 0; group < 8; group++) {
      const [scale, minimum] = [scales[group] as number, minimums[group] as number];
      const from = block + 48 + 32 * (group >> 1);
      const shift = 4 * (group & 1);
      for (let i = 0; i < 32; i++) {
        const low = ((bytes[from + i] as number) >> shift) & 15;
        const high = ((bytes[block + 16 + i] as number) >> group) & 1;
        target[out + 32 * group + i] = Math.fround(scale * (low | (high << 4))) - minimum;
      }
    }
  }
}

const groups = { scales: new Float32Array(8), minimums: new Float32Array(8) };

/**
 * Scales and minimums of a Q4_K or Q5_K block's groups, in arrays that the next call fills anew. d and dmin are followed by
 * twelve bytes with two numbers of six bits a group: those of the first four in the low bits of bytes 0-3 and 4-7, of the
 * last four in the nibbles of bytes 8-11, their upper two bits in the high bits of bytes 0-7.
 */
function groupScales(bytes: Uint8Array, block: number): typeof groups {
  const half = halfTable();
  const d = half[(bytes[block] as number) | ((bytes[block + 1] as number) << 8)] as number;
  const dmin = half[(bytes[block + 2] as number) | ((bytes[block + 3] as number) << 8)] as number;
  for (let i = 0; i < 4; i++) {
    const scaleByte = bytes[block + 4 + i] as number;
    const minimumByte = bytes[block + 8 + i] as number;
    const shared = bytes[block + 12 + i] as number;
    groups.scales[i] = d * (scaleByte & 63);
    groups.minimums[i] = dmin * (minimumByte & 63);
    groups.scales[i + 4] = d * ((shared & 15) | ((scaleByte >> 6) << 4));
    groups.minimums[i + 4] = dmin * ((shared >> 4) | ((minimumByte >> 6) << 4));
  }
  return groups;
}

/**
 * d · scale · (q - 32): low nibbles of 256 values, their upper two bits, sixteen signed scales, d. In each half of 128 values,
 * byte i of 64 holds the nibbles of values i and i + 64; byte i of 32 the upper bits of values i, i + 32, i + 64, i + 96.
 */
function decodeQ6_K(bytes: Uint8Array, target: Float32Array, start: number): void {
  const half = halfTable();
  for (let block = 0, out = start; block < bytes.length; block += 210, out += 256) {
    const d = half[(bytes[block + 208] as number) | ((bytes[block + 209] as number) << 8)] as number;
    for (let group = 0; group < 16; group++) {
      const scale = Math.fround(d * (((bytes[block + 192 + group] as number) << 24) >> 24));
      const [side, quarter] = [group >> 3, (group & 7) >> 1];
      const low = block + 64 * side + 32 * (quarter & 1) + 16 * (group & 1);
      const high = block + 128 + 32 * side + 16 * (group & 1);
      const [lowShift, highShift] = [4 * (quarter >> 1), 2 * quarter];
      for (let i = 0; i < 16; i++) {
        const nibble = ((bytes[low + i] as number) >> lowShift) & 15;
        const upper = ((bytes[high + i] as number) >> highShift) & 3;
        target[out + 16 * group + i] = scale * ((nibble | (upper << 4)) - 32);
      }
    }
  }
}

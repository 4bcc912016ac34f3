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
  [8, { name: "Q8_0", blockElements: 32, blockBytes: 34, decode: decodeQ8_0 }],
  [30, { name: "BF16", blockElements: 1, blockBytes: 2, decode: decodeBrain }],
]);

/** Names of the other types, so that a refusal can say what was found. */
const OTHER_TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [6, "Q5_0"],
  [7, "Q5_1"],
  [9, "Q8_1"],
  [10, "Q2_K"],
  [11, "Q3_K"],
  [12, "Q4_K"],
  [13, "Q5_K"],
  [14, "Q6_K"],
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

/** d · q with signed bytes. */
function decodeQ8_0(bytes: Uint8Array, target: Float32Array, start: number): void {
  const half = halfTable();
  for (let block = 0, out = start; block < bytes.length; block += 34, out += 32) {
    const scale = half[(bytes[block] as number) | ((bytes[block + 1] as number) << 8)] as number;
    for (let i = 0; i < 32; i++) target[out + i] = scale * (((bytes[block + 2 + i] as number) << 24) >> 24);
  }
}

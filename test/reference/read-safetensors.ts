// A reader of safetensors files (F32 and F64 only) for the reference tests. It shares no code with src/ on purpose.
// Format: u64 header length, JSON header, then the data that data_offsets points into, all little-endian.
import { readFileSync } from "node:fs";

export interface StoredTensor {
  readonly shape: readonly number[];
  /** Row-major values, widened to float64. */
  readonly values: Float64Array;
}

interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** Reads every tensor of a file; throws on a dtype other than F32 and F64. */
export function readSafetensors(file: string): Map<string, StoredTensor> {
  const bytes = readFileSync(file);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerBytes = Number(view.getBigUint64(0, true));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + headerBytes)) as Record<string, HeaderEntry>;
  const tensors = new Map<string, StoredTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const width = entry.dtype === "F32" ? 4 : entry.dtype === "F64" ? 8 : 0;
    if (width === 0) throw new Error(`${file}: ${name} has dtype ${entry.dtype}, expected F32 or F64`);
    const start = 8 + headerBytes + entry.data_offsets[0];
    const values = new Float64Array(entry.shape.reduce((product, size) => product * size, 1));
    for (let i = 0; i < values.length; i++) {
      const at = start + i * width;
      values[i] = width === 4 ? view.getFloat32(at, true) : view.getFloat64(at, true);
    }
    tensors.set(name, { shape: entry.shape, values });
  }
  return tensors;
}

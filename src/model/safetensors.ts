// Reads and writes safetensors files: a length, a JSON header, then the tensors back to back. Knows no tensor names and
// no model. Format: https://huggingface.co/docs/safetensors (checks follow its reference reader).
import { z } from "zod";
import { writeFileAtomically } from "./atomic-write.ts";
import { decodeBrain, decodeHalf, encodeBrain, encodeHalf } from "./half-precision.ts";
import { READ_CHUNK_BYTES, WeightFile, type TensorSource } from "./weight-file.ts";

/** The reference reader's own limit; a longer header is a corrupt length field, and reading it would fill the memory. */
const MAX_HEADER_BYTES = 100_000_000;

/** Bytes per element of every dtype that may stand in a header; only the four float types can be read. */
const DTYPE_BYTES = new Map([
  ["BOOL", 1],
  ["U8", 1],
  ["I8", 1],
  ["F8_E5M2", 1],
  ["F8_E4M3", 1],
  ["I16", 2],
  ["U16", 2],
  ["F16", 2],
  ["BF16", 2],
  ["I32", 4],
  ["U32", 4],
  ["F32", 4],
  ["F64", 8],
  ["I64", 8],
  ["U64", 8],
]);

const tensorSchema = z.strictObject({
  dtype: z.string(),
  shape: z.array(z.number().int().min(0)),
  data_offsets: z.tuple([z.number().int().min(0), z.number().int().min(0)]),
});
type TensorEntry = z.infer<typeof tensorSchema>;

/** One safetensors file, open. Every offset was checked against the file's size before this object exists. */
export class SafetensorsFile implements TensorSource {
  readonly metadata: Readonly<Record<string, string>>;
  readonly #file: WeightFile;
  readonly #entries: Map<string, TensorEntry>;
  readonly #dataStart: number;

  constructor(path: string) {
    this.#file = new WeightFile(path);
    try {
      const header = readHeader(this.#file);
      this.metadata = header.metadata;
      this.#entries = header.entries;
      this.#dataStart = header.dataStart;
    } catch (error) {
      this.#file.close();
      throw error;
    }
  }

  names(): Iterable<string> {
    return this.#entries.keys();
  }

  shape(name: string): readonly number[] | undefined {
    return this.#entries.get(name)?.shape;
  }

  read(name: string): Float32Array {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw new Error(`internal: ${this.#file.path} has no tensor "${name}"`);
    const [begin, end] = entry.data_offsets;
    const offset = this.#dataStart + begin;
    const elementBytes = DTYPE_BYTES.get(entry.dtype) ?? 0;
    const target = new Float32Array((end - begin) / elementBytes);
    switch (entry.dtype) {
      case "F32":
        this.#file.readInto(new Uint8Array(target.buffer), offset);
        return target;
      case "F16":
        this.#decode(offset, end - begin, 2, (bytes, start) => decodeHalf(bytes, target, start));
        return target;
      case "BF16":
        this.#decode(offset, end - begin, 2, (bytes, start) => decodeBrain(bytes, target, start));
        return target;
      case "F64":
        this.#decode(offset, end - begin, 8, (bytes, start) =>
          target.set(new Float64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8), start),
        );
        return target;
      default:
        throw this.#file.broken(
          `tensor "${name}" has dtype ${entry.dtype}, but only F32, F16, BF16 and F64 can be used as weights`,
        );
    }
  }

  #decode(
    offset: number,
    byteCount: number,
    elementBytes: number,
    decode: (bytes: Uint8Array, startElement: number) => void,
  ): void {
    const buffer = new Uint8Array(Math.min(READ_CHUNK_BYTES, byteCount));
    for (let done = 0; done < byteCount; done += buffer.length) {
      const bytes = buffer.subarray(0, Math.min(buffer.length, byteCount - done));
      this.#file.readInto(bytes, offset + done);
      decode(bytes, done / elementBytes);
    }
  }

  close(): void {
    this.#file.close();
  }
}

function readHeader(file: WeightFile): {
  metadata: Record<string, string>;
  entries: Map<string, TensorEntry>;
  dataStart: number;
} {
  if (file.sizeBytes < 8) throw file.broken(`it has ${file.sizeBytes} bytes, less than a header`);
  const lengthBytes = new Uint8Array(8);
  file.readInto(lengthBytes, 0);
  const length = new DataView(lengthBytes.buffer).getBigUint64(0, true);
  const available = Math.min(MAX_HEADER_BYTES, file.sizeBytes - 8);
  if (length > BigInt(available))
    throw file.broken(
      `its header claims ${length} bytes, but at most ${available} are possible in ${file.sizeBytes} bytes`,
    );
  const headerBytes = new Uint8Array(Number(length));
  file.readInto(headerBytes, 8);
  const json = parseHeader(file, headerBytes);

  let metadata: Record<string, string> = {};
  const entries = new Map<string, TensorEntry>();
  for (const [name, value] of Object.entries(json)) {
    if (name === "__metadata__") {
      const parsed = z.record(z.string(), z.string()).safeParse(value);
      if (!parsed.success) throw file.broken("__metadata__ must map texts to texts");
      metadata = parsed.data;
      continue;
    }
    const parsed = tensorSchema.safeParse(value);
    if (!parsed.success)
      throw file.broken(
        `the header entry of "${name}" must have dtype, shape and data_offsets, and nothing else`,
      );
    checkEntry(file, name, parsed.data);
    entries.set(name, parsed.data);
  }
  const dataStart = 8 + Number(length);
  checkLayout(file, entries, file.sizeBytes - dataStart);
  return { metadata, entries, dataStart };
}

function parseHeader(file: WeightFile, bytes: Uint8Array): object {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw file.broken("its header is not JSON text");
  }
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw file.broken("its header is not a JSON object");
  return json;
}

function checkEntry(file: WeightFile, name: string, entry: TensorEntry): void {
  const elementBytes = DTYPE_BYTES.get(entry.dtype);
  if (elementBytes === undefined)
    throw file.broken(
      `tensor "${name}" has the unknown dtype ${entry.dtype}; known: ${[...DTYPE_BYTES.keys()].join(", ")}`,
    );
  const expected = entry.shape.reduce((product, length) => product * length, elementBytes);
  const [begin, end] = entry.data_offsets;
  if (end - begin !== expected)
    throw file.broken(
      `tensor "${name}" of shape [${entry.shape.join(", ")}] and dtype ${entry.dtype} needs ${expected} bytes, ` +
        `but its data_offsets [${begin}, ${end}] give ${end - begin}`,
    );
}

/** Tensors must lie back to back and fill the file: overlaps, holes and cut-off files all show here. */
function checkLayout(file: WeightFile, entries: Map<string, TensorEntry>, dataBytes: number): void {
  const sorted = [...entries].sort(
    ([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0] || a.data_offsets[1] - b.data_offsets[1],
  );
  let position = 0;
  for (const [name, { data_offsets }] of sorted) {
    if (data_offsets[0] !== position)
      throw file.broken(
        `tensor "${name}" begins at data byte ${data_offsets[0]}, but the one before it ends at ${position}`,
      );
    position = data_offsets[1];
  }
  if (position !== dataBytes)
    throw file.broken(`its tensors end at data byte ${position}, but it has ${dataBytes} data bytes`);
}

export interface HostTensor {
  /** Row-major. */
  shape: readonly number[];
  data: Float32Array;
}

/** How values are stored, by safetensors' names. */
export const FLOAT_TYPES = ["F32", "F16", "BF16"] as const;
export type FloatType = (typeof FLOAT_TYPES)[number];

/** A tensor whose values are made when they are written, so that a file may be larger than the memory. */
export interface LateTensor {
  shape: readonly number[];
  type: FloatType;
  /** As many as the shape holds. */
  values(): Float32Array;
}

/**
 * Writes f32 tensors so that the file appears whole or not at all. The same tensors give the same bytes, in whatever
 * order the map holds them. `metadata` adds texts to the `format: "pt"` that transformers insists on.
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, HostTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const late = [...tensors].map(
    ([name, { shape, data }]) => [name, { shape, type: "F32", values: () => data }] as const,
  );
  await writeLateSafetensors(path, new Map<string, LateTensor>(late), metadata);
}

/** The same of tensors that are made one after the other, in the order of their names. */
export async function writeLateSafetensors(
  path: string,
  tensors: ReadonlyMap<string, LateTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const sorted = [...tensors].sort(([a], [b]) => (a < b ? -1 : 1));
  await writeFileAtomically(path, fileChunks(sorted, metadata));
}

/** Bytes of a stored tensor. */
export function storedBytes({ shape, type }: Pick<LateTensor, "shape" | "type">): number {
  return shape.reduce((product, length) => product * length, DTYPE_BYTES.get(type) as number);
}

function* fileChunks(
  tensors: readonly (readonly [string, LateTensor])[],
  metadata: Readonly<Record<string, string>>,
): Generator<Uint8Array> {
  const header: Record<string, unknown> = { __metadata__: { format: "pt", ...metadata } };
  let position = 0;
  for (const [name, tensor] of tensors) {
    const end = position + storedBytes(tensor);
    header[name] = { dtype: tensor.type, shape: tensor.shape, data_offsets: [position, end] };
    position = end;
  }
  const text = JSON.stringify(header);
  // Data must begin at a multiple of 8; the header is padded with spaces, which JSON ignores.
  const unpadded = new TextEncoder().encode(text);
  const headerBytes = new Uint8Array(8 + Math.ceil(unpadded.length / 8) * 8).fill(0x20);
  headerBytes.set(unpadded, 8);
  new DataView(headerBytes.buffer).setBigUint64(0, BigInt(headerBytes.length - 8), true);
  yield headerBytes;
  for (const [name, tensor] of tensors) {
    const values = tensor.values();
    const elements = tensor.shape.reduce((product, length) => product * length, 1);
    if (elements !== values.length)
      throw new Error(
        `internal: "${name}" has shape [${tensor.shape.join(", ")}] but ${values.length} values`,
      );
    for (let start = 0; start < values.length; start += WRITE_CHUNK_VALUES)
      yield encode(values.subarray(start, start + WRITE_CHUNK_VALUES), tensor.type);
  }
}

/** Values encoded at a time, so that a large tensor is not in memory a second time. */
const WRITE_CHUNK_VALUES = 1 << 20;

function encode(values: Float32Array, type: FloatType): Uint8Array {
  switch (type) {
    case "F32":
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    case "F16":
      return encodeHalf(values);
    case "BF16":
      return encodeBrain(values);
  }
}

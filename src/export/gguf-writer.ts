// Writes GGUF files (version 3, little-endian), tensor after tensor. Knows the container only, not what the metadata or the names
// mean; its counterpart is model/gguf. Format: docs/gguf.md of the ggml repository.
import { writeFileAtomically } from "../model/atomic-write.ts";
import { GGML_TYPES } from "../model/dequantize.ts";
import { BLOCK_VALUES, quantize, storedBytes, type StoredType } from "./quantize.ts";

/** A metadata value with the type it is stored as. */
export type StoredValue =
  | { u32: number }
  | { f32: number }
  | { bool: boolean }
  | { text: string }
  | { texts: readonly string[] }
  | { i32s: readonly number[] }
  | { f32s: readonly number[] };

/** Made when it is written, so that a file may be larger than the memory. */
export interface StoredTensor {
  name: string;
  /** Row-major; GGUF has it the other way round. */
  shape: readonly number[];
  type: StoredType;
  values(): Float32Array;
}

const VERSION = 3;
const ALIGNMENT_BYTES = 32;
/** Values encoded at a time; a multiple of every block. */
const CHUNK_VALUES = 1 << 20;
const TYPE = { u32: 4, i32: 5, f32: 6, bool: 7, text: 8, array: 9 } as const;

/** Writes the file so that it appears whole or not at all. The same input gives the same bytes. */
export async function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, StoredValue>,
  tensors: readonly StoredTensor[],
): Promise<void> {
  await writeFileAtomically(path, chunksOf(metadata, tensors));
}

function* chunksOf(
  metadata: ReadonlyMap<string, StoredValue>,
  tensors: readonly StoredTensor[],
): Generator<Uint8Array> {
  const header = new ByteWriter();
  header.raw(Buffer.from("GGUF"));
  header.u32(VERSION);
  header.u64(tensors.length);
  header.u64(metadata.size);
  for (const [key, value] of metadata) {
    header.text(key);
    writeValue(header, value);
  }
  let offset = 0;
  for (const tensor of tensors) {
    header.text(tensor.name);
    header.u32(tensor.shape.length);
    for (const length of [...tensor.shape].reverse()) header.u64(length);
    header.u32(typeNumber(tensor.type));
    header.u64(offset);
    offset = aligned(offset + storedBytes(tensor.type, elementsOf(tensor)));
  }
  const bytes = header.bytes();
  yield bytes;
  yield new Uint8Array(aligned(bytes.length) - bytes.length);
  for (const tensor of tensors) {
    const values = tensor.values();
    const rowLength = tensor.shape.at(-1) ?? 1;
    const isBlocked = tensor.type === "Q8_0" || tensor.type === "Q4_0";
    if (values.length !== elementsOf(tensor) || (isBlocked && rowLength % BLOCK_VALUES !== 0))
      throw new Error(`internal: ${tensor.name} of [${tensor.shape.join(", ")}] cannot be ${tensor.type}`);
    for (let start = 0; start < values.length; start += CHUNK_VALUES)
      yield quantize(values.subarray(start, start + CHUNK_VALUES), tensor.type);
    const size = storedBytes(tensor.type, values.length);
    yield new Uint8Array(aligned(size) - size);
  }
}

const aligned = (bytes: number) => Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
const elementsOf = ({ shape }: StoredTensor) => shape.reduce((product, length) => product * length, 1);

function typeNumber(type: StoredType): number {
  const found = [...GGML_TYPES].find(([, { name }]) => name === type);
  if (found === undefined) throw new Error(`internal: no GGUF type ${type}`);
  return found[0];
}

function writeValue(writer: ByteWriter, value: StoredValue): void {
  if ("u32" in value) {
    writer.u32(TYPE.u32);
    writer.u32(value.u32);
  } else if ("f32" in value) {
    writer.u32(TYPE.f32);
    writer.f32(value.f32);
  } else if ("bool" in value) {
    writer.u32(TYPE.bool);
    writer.raw(Uint8Array.of(value.bool ? 1 : 0));
  } else if ("text" in value) {
    writer.u32(TYPE.text);
    writer.text(value.text);
  } else if ("texts" in value) {
    writer.array(TYPE.text, value.texts, (text) => writer.text(text));
  } else if ("i32s" in value) {
    writer.array(TYPE.i32, value.i32s, (number) => writer.i32(number));
  } else {
    writer.array(TYPE.f32, value.f32s, (number) => writer.f32(number));
  }
}

/** Little-endian bytes, appended. */
class ByteWriter {
  #buffer = Buffer.alloc(1 << 16);
  #length = 0;

  u32(value: number): void {
    this.#length = this.#room(4).writeUInt32LE(value, this.#length);
  }

  i32(value: number): void {
    this.#length = this.#room(4).writeInt32LE(value, this.#length);
  }

  f32(value: number): void {
    this.#length = this.#room(4).writeFloatLE(value, this.#length);
  }

  u64(value: number): void {
    this.#length = this.#room(8).writeBigUInt64LE(BigInt(value), this.#length);
  }

  text(text: string): void {
    const bytes = Buffer.from(text);
    this.u64(bytes.length);
    this.raw(bytes);
  }

  raw(bytes: Uint8Array): void {
    this.#room(bytes.length).set(bytes, this.#length);
    this.#length += bytes.length;
  }

  array<Value>(type: number, values: readonly Value[], write: (value: Value) => void): void {
    this.u32(TYPE.array);
    this.u32(type);
    this.u64(values.length);
    values.forEach(write);
  }

  bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  #room(bytes: number): Buffer {
    if (this.#length + bytes > this.#buffer.length) {
      const larger = Buffer.alloc(2 * (this.#length + bytes));
      larger.set(this.bytes());
      this.#buffer = larger;
    }
    return this.#buffer;
  }
}

// Reads GGUF files (versions 2 and 3, little-endian): metadata, tensor directory, and tensors as f32. Knows the container
// only, not what the metadata or the names mean. Format: docs/gguf.md of the ggml repository.
import { UnsupportedModel } from "../errors.ts";
import { GGML_TYPES, ggmlTypeName, type GgmlType } from "./dequantize.ts";
import { READ_CHUNK_BYTES, WeightFile, type TensorSource } from "./weight-file.ts";

/** u64 and i64 become numbers where a number holds them exactly. */
export type GgufValue = number | bigint | string | boolean | GgufValue[];
export type GgufMetadata = ReadonlyMap<string, GgufValue>;

// Counts in a corrupt header must not size anything. Real files have hundreds of tensors, dozens of keys, names under 64
// bytes, one chat template of a few kB and token lists of at most some hundred thousand texts.
const MAX_TENSORS = 100_000;
const MAX_METADATA_PAIRS = 100_000;
const MAX_NAME_BYTES = 65_535;
const MAX_STRING_BYTES = 64 * 1024 * 1024;
const MAX_ARRAY_ELEMENTS = 64 * 1024 * 1024;
const MAX_DIMENSIONS = 4;
const MAX_ALIGNMENT_BYTES = 65_536;
const DEFAULT_ALIGNMENT_BYTES = 32;

interface TensorInfo {
  /** Row-major: GGUF's own order reversed. */
  shape: number[];
  elements: number;
  type: number;
  offset: number;
}

/** One GGUF file, open. Every offset was checked against the file's size before this object exists. */
export class GgufFile implements TensorSource {
  readonly metadata: GgufMetadata;
  readonly path: string;
  readonly #file: WeightFile;
  readonly #tensors: Map<string, TensorInfo>;
  readonly #dataStart: number;

  constructor(path: string) {
    this.path = path;
    this.#file = new WeightFile(path);
    try {
      const cursor = new Cursor(this.#file);
      const { tensorCount, pairCount } = readCounts(cursor);
      this.metadata = readMetadata(cursor, pairCount);
      this.#tensors = readTensorInfos(cursor, tensorCount);
      const alignment = alignmentOf(cursor, this.metadata);
      this.#dataStart = Math.ceil(cursor.position / alignment) * alignment;
      checkLayout(cursor, this.#tensors, alignment, this.#file.sizeBytes - this.#dataStart);
    } catch (error) {
      this.#file.close();
      throw error;
    }
  }

  names(): Iterable<string> {
    return this.#tensors.keys();
  }

  shape(name: string): readonly number[] | undefined {
    return this.#tensors.get(name)?.shape;
  }

  /** The tensor's type by ggml's name ("Q4_1"). */
  typeName(name: string): string | undefined {
    const info = this.#tensors.get(name);
    return info && ggmlTypeName(info.type);
  }

  read(name: string): Float32Array {
    const info = this.#tensors.get(name);
    if (info === undefined) throw new Error(`internal: ${this.path} has no tensor "${name}"`);
    const type = typeOf(this.#file, name, info);
    const target = new Float32Array(info.elements);
    const totalBytes = (info.elements / type.blockElements) * type.blockBytes;
    const chunkBytes = Math.floor(READ_CHUNK_BYTES / type.blockBytes) * type.blockBytes;
    const buffer = new Uint8Array(Math.min(chunkBytes, totalBytes));
    for (let done = 0; done < totalBytes; done += buffer.length) {
      const bytes = buffer.subarray(0, Math.min(buffer.length, totalBytes - done));
      this.#file.readInto(bytes, this.#dataStart + info.offset + done);
      type.decode(bytes, target, (done / type.blockBytes) * type.blockElements);
    }
    return target;
  }

  close(): void {
    this.#file.close();
  }
}

const VALUE_TYPE = { string: 8, array: 9 } as const;

/** Fixed-size metadata value types by their number: bytes and how to read them. */
const SCALARS: ReadonlyMap<number, { bytes: number; read: (view: DataView, at: number) => GgufValue }> =
  new Map([
    [0, { bytes: 1, read: (view, at) => view.getUint8(at) }],
    [1, { bytes: 1, read: (view, at) => view.getInt8(at) }],
    [2, { bytes: 2, read: (view, at) => view.getUint16(at, true) }],
    [3, { bytes: 2, read: (view, at) => view.getInt16(at, true) }],
    [4, { bytes: 4, read: (view, at) => view.getUint32(at, true) }],
    [5, { bytes: 4, read: (view, at) => view.getInt32(at, true) }],
    [6, { bytes: 4, read: (view, at) => view.getFloat32(at, true) }],
    [7, { bytes: 1, read: (view, at) => view.getUint8(at) !== 0 }],
    [10, { bytes: 8, read: (view, at) => exact(view.getBigUint64(at, true)) }],
    [11, { bytes: 8, read: (view, at) => exact(view.getBigInt64(at, true)) }],
    [12, { bytes: 8, read: (view, at) => view.getFloat64(at, true) }],
  ]);

function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** Reads forward through the header, a chunk of the file at a time. */
class Cursor {
  readonly file: WeightFile;
  /** Bytes read so far. */
  position = 0;
  #window = new Uint8Array(0);
  #view = new DataView(this.#window.buffer);
  #windowStart = 0;
  // A mark at the beginning of a text belongs to it: Gemma has tokens that begin with one.
  readonly #text = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(file: WeightFile) {
    this.file = file;
  }

  get remainingBytes(): number {
    return this.file.sizeBytes - this.position;
  }

  /** Moves past `count` bytes and says where in the window they begin. */
  #take(count: number, what: string): number {
    if (count > this.remainingBytes)
      throw this.file.broken(
        `its header ends inside ${what}: ${count} bytes expected at byte ${this.position}, ${this.remainingBytes} left`,
      );
    if (this.position + count > this.#windowStart + this.#window.length) {
      this.#window = new Uint8Array(Math.min(Math.max(count, READ_CHUNK_BYTES), this.remainingBytes));
      this.#view = new DataView(this.#window.buffer);
      this.#windowStart = this.position;
      this.file.readInto(this.#window, this.position);
    }
    const at = this.position - this.#windowStart;
    this.position += count;
    return at;
  }

  uint32(what: string): number {
    const at = this.#take(4, what);
    return this.#view.getUint32(at, true);
  }

  /** A count or size: refused above `max`. */
  count(what: string, max: number): number {
    const at = this.#take(8, what);
    const value = this.#view.getBigUint64(at, true);
    if (value > BigInt(max))
      throw this.file.broken(`${what} is ${value}, but at most ${max} can be right here`);
    return Number(value);
  }

  string(what: string, maxBytes: number): string {
    const length = this.count(`the length of ${what}`, Math.min(maxBytes, this.remainingBytes));
    const at = this.#take(length, what);
    return this.#text.decode(this.#window.subarray(at, at + length));
  }

  value(type: number, what: string): GgufValue {
    if (type === VALUE_TYPE.string) return this.string(what, MAX_STRING_BYTES);
    if (type === VALUE_TYPE.array) return this.#array(what);
    const scalar = SCALARS.get(type);
    if (scalar === undefined) throw this.file.broken(`${what} has the unknown value type ${type}`);
    const at = this.#take(scalar.bytes, what);
    return scalar.read(this.#view, at);
  }

  #array(what: string): GgufValue[] {
    const type = this.uint32(`the element type of ${what}`);
    // Nothing reads arrays of arrays, and nesting is how a small file asks for much work.
    if (type === VALUE_TYPE.array) throw this.file.broken(`${what} is an array of arrays`);
    const elementBytes = type === VALUE_TYPE.string ? 8 : (SCALARS.get(type)?.bytes ?? 1);
    const max = Math.min(MAX_ARRAY_ELEMENTS, Math.floor((this.remainingBytes - 8) / elementBytes));
    const count = this.count(`the element count of ${what}`, Math.max(0, max));
    const values: GgufValue[] = [];
    for (let i = 0; i < count; i++) values.push(this.value(type, what));
    return values;
  }
}

function readCounts(cursor: Cursor): { tensorCount: number; pairCount: number } {
  const MAGIC = 0x46554747; // "GGUF" read as a little-endian number
  if (cursor.remainingBytes < 24 || cursor.uint32("the magic") !== MAGIC)
    throw cursor.file.broken('it does not begin with "GGUF" and a header');
  const version = cursor.uint32("the version");
  if (version !== 2 && version !== 3)
    throw new UnsupportedModel(
      `${cursor.file.path} is GGUF version ${version}; supported: 2 and 3, little-endian. Convert it with a current llama.cpp.`,
      { code: "unsupported_model", param: "version" },
    );
  return {
    tensorCount: cursor.count("the tensor count", MAX_TENSORS),
    pairCount: cursor.count("the metadata count", MAX_METADATA_PAIRS),
  };
}

function readMetadata(cursor: Cursor, count: number): Map<string, GgufValue> {
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    const key = cursor.string(`metadata key ${i}`, MAX_NAME_BYTES);
    if (metadata.has(key)) throw cursor.file.broken(`metadata key "${key}" stands twice`);
    const type = cursor.uint32(`the type of "${key}"`);
    metadata.set(key, cursor.value(type, `"${key}"`));
  }
  return metadata;
}

function readTensorInfos(cursor: Cursor, count: number): Map<string, TensorInfo> {
  const tensors = new Map<string, TensorInfo>();
  for (let i = 0; i < count; i++) {
    const name = cursor.string(`the name of tensor ${i}`, MAX_NAME_BYTES);
    if (tensors.has(name)) throw cursor.file.broken(`tensor "${name}" stands twice`);
    const dimensions = cursor.uint32(`the dimension count of "${name}"`);
    if (dimensions > MAX_DIMENSIONS)
      throw cursor.file.broken(
        `tensor "${name}" has ${dimensions} dimensions, at most ${MAX_DIMENSIONS} are possible`,
      );
    const shape: number[] = [];
    for (let d = 0; d < dimensions; d++)
      shape.unshift(cursor.count(`dimension ${d} of "${name}"`, Number.MAX_SAFE_INTEGER));
    const elements = shape.reduce((product, length) => product * length, 1);
    if (!Number.isSafeInteger(elements))
      throw cursor.file.broken(`tensor "${name}" has the impossible shape [${shape.join(", ")}]`);
    const type = cursor.uint32(`the type of "${name}"`);
    const offset = cursor.count(`the offset of "${name}"`, cursor.file.sizeBytes);
    tensors.set(name, { shape, elements, type, offset });
  }
  return tensors;
}

function alignmentOf(cursor: Cursor, metadata: GgufMetadata): number {
  const alignment = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT_BYTES;
  const isPowerOfTwo = typeof alignment === "number" && Number.isInteger(Math.log2(alignment));
  if (!isPowerOfTwo || alignment < 8 || alignment > MAX_ALIGNMENT_BYTES)
    throw cursor.file.broken(
      `general.alignment is ${String(alignment)}, expected a power of two from 8 to ${MAX_ALIGNMENT_BYTES}`,
    );
  return alignment;
}

/** Every tensor must begin aligned, end inside the file and not overlap another. */
function checkLayout(
  cursor: Cursor,
  tensors: Map<string, TensorInfo>,
  alignment: number,
  dataBytes: number,
): void {
  let end = 0;
  let previous = "";
  for (const [name, info] of [...tensors].sort(([, a], [, b]) => a.offset - b.offset)) {
    const type = typeOf(cursor.file, name, info);
    const rowLength = info.shape.at(-1) ?? 1;
    if (rowLength % type.blockElements !== 0)
      throw cursor.file.broken(
        `tensor "${name}" has rows of ${rowLength} values, but ${type.name} needs a multiple of ${type.blockElements}`,
      );
    if (info.offset % alignment !== 0)
      throw cursor.file.broken(
        `tensor "${name}" begins at data byte ${info.offset}, not a multiple of ${alignment}`,
      );
    if (info.offset < end) throw cursor.file.broken(`tensors "${previous}" and "${name}" overlap`);
    end = info.offset + (info.elements / type.blockElements) * type.blockBytes;
    if (end > dataBytes)
      throw cursor.file.broken(
        `tensor "${name}" ends at data byte ${end}, but the file has only ${Math.max(0, dataBytes)} data bytes; it is cut off`,
      );
    previous = name;
  }
}

function typeOf(file: WeightFile, name: string, info: TensorInfo): GgmlType {
  const type = GGML_TYPES.get(info.type);
  if (type === undefined)
    throw new UnsupportedModel(
      `${file.path}: tensor "${name}" is stored as ${ggmlTypeName(info.type)}; supported: ` +
        `${[...GGML_TYPES.values()].map((known) => known.name).join(", ")}. Take a GGUF of one of these types.`,
      { code: "unsupported_model", param: name },
    );
  return type;
}

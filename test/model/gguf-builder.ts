// Builds GGUF files for tests, right or wrong on purpose.

/** Metadata value types by the names tests use. */
const VALUE_TYPES = { uint32: 4, float32: 6, bool: 7, string: 8, array: 9 } as const;

export type BuilderValue =
  | { uint32: number }
  | { float32: number }
  | { bool: boolean }
  | { string: string }
  | { strings: string[] }
  | { uint32s: number[] };

export interface BuilderTensor {
  name: string;
  /** Row-major; written in GGUF's reverse order. */
  shape: number[];
  type: number;
  data: Uint8Array;
  /** Instead of the right offset. */
  offset?: number;
}

/** Little-endian bytes, appended. */
export class ByteList {
  readonly #parts: Buffer[] = [];

  uint32(value: number): this {
    const buffer = Buffer.alloc(4);
    buffer.writeUInt32LE(value);
    return this.raw(buffer);
  }

  uint64(value: number | bigint): this {
    const buffer = Buffer.alloc(8);
    buffer.writeBigUInt64LE(BigInt(value));
    return this.raw(buffer);
  }

  float32(value: number): this {
    const buffer = Buffer.alloc(4);
    buffer.writeFloatLE(value);
    return this.raw(buffer);
  }

  string(text: string): this {
    const bytes = Buffer.from(text);
    return this.uint64(bytes.length).raw(bytes);
  }

  raw(bytes: Uint8Array): this {
    this.#parts.push(Buffer.from(bytes));
    return this;
  }

  padTo(multiple: number): this {
    return this.raw(Buffer.alloc((multiple - (this.bytes().length % multiple)) % multiple));
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** A GGUF v3 file. */
export function buildGguf(
  metadata: Readonly<Record<string, BuilderValue>>,
  tensors: readonly BuilderTensor[],
  options: { version?: number; tensorCount?: number | bigint; pairCount?: number | bigint } = {},
): Buffer {
  const header = new ByteList().raw(Buffer.from("GGUF")).uint32(options.version ?? 3);
  header.uint64(options.tensorCount ?? tensors.length);
  header.uint64(options.pairCount ?? Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) writeValue(header.string(key), value);
  const data = new ByteList();
  for (const tensor of tensors) {
    header.string(tensor.name).uint32(tensor.shape.length);
    for (const length of [...tensor.shape].reverse()) header.uint64(length);
    header.uint32(tensor.type).uint64(tensor.offset ?? data.bytes().length);
    data.raw(tensor.data).padTo(32);
  }
  return Buffer.concat([header.padTo(32).bytes(), data.bytes()]);
}

function writeValue(bytes: ByteList, value: BuilderValue): void {
  if ("uint32" in value) bytes.uint32(VALUE_TYPES.uint32).uint32(value.uint32);
  else if ("float32" in value) bytes.uint32(VALUE_TYPES.float32).float32(value.float32);
  else if ("bool" in value) bytes.uint32(VALUE_TYPES.bool).raw(Uint8Array.of(value.bool ? 1 : 0));
  else if ("string" in value) bytes.uint32(VALUE_TYPES.string).string(value.string);
  else if ("strings" in value) {
    bytes.uint32(VALUE_TYPES.array).uint32(VALUE_TYPES.string).uint64(value.strings.length);
    for (const text of value.strings) bytes.string(text);
  } else {
    bytes.uint32(VALUE_TYPES.array).uint32(VALUE_TYPES.uint32).uint64(value.uint32s.length);
    for (const number of value.uint32s) bytes.uint32(number);
  }
}

/** f32 values as a tensor's bytes. */
export function singles(values: ArrayLike<number>): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

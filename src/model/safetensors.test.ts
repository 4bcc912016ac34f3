import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SafetensorsFile, writeSafetensors } from "./safetensors.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "safetensors-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** A file with this header and data, for tests of what is wrong with it. */
async function fileOf(header: string | object, data: Uint8Array = new Uint8Array(0), length?: bigint) {
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(text.length));
  const path = join(folder, "made.safetensors");
  await writeFile(path, Buffer.concat([prefix, text, data]));
  return path;
}

const entry = (dtype: string, shape: number[], begin: number, end: number) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

describe("writing and reading", () => {
  test("what is written is read back, and the same tensors give the same bytes", async () => {
    const a = { shape: [2, 3], data: Float32Array.of(1, -2, 3.5, 0, Infinity, 1e-40) };
    const b = { shape: [], data: Float32Array.of(7) };
    const empty = { shape: [0, 4], data: new Float32Array(0) };
    const first = join(folder, "first.safetensors");
    const second = join(folder, "second.safetensors");
    await writeSafetensors(
      first,
      new Map([
        ["b", b],
        ["a", a],
        ["empty", empty],
      ]),
      { note: "x" },
    );
    await writeSafetensors(
      second,
      new Map([
        ["empty", empty],
        ["a", a],
        ["b", b],
      ]),
      { note: "x" },
    );
    expect(await readFile(first)).toEqual(await readFile(second));
    const file = new SafetensorsFile(first);
    expect([...file.names()].sort()).toEqual(["a", "b", "empty"]);
    expect(file.shape("a")).toEqual([2, 3]);
    expect(file.shape("none")).toBeUndefined();
    expect(file.read("a")).toEqual(a.data);
    expect(file.read("b")).toEqual(b.data);
    expect(file.read("empty")).toEqual(empty.data);
    expect(file.metadata).toEqual({ format: "pt", note: "x" });
    file.close();
  });

  test("the data begins at a multiple of 8", async () => {
    const path = join(folder, "aligned.safetensors");
    for (const name of ["a", "ab", "abc", "abcd"]) {
      await writeSafetensors(path, new Map([[name, { shape: [1], data: Float32Array.of(1) }]]));
      expect((await readFile(path)).readBigUInt64LE() % 8n).toBe(0n);
    }
  });

  test("f16, bf16 and f64 become f32, across chunks of the reader", async () => {
    const half = Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7c00, 0xfbff);
    const brain = Uint16Array.of(0x3f80, 0xc000, 0x0001, 0xff80, 0x4049);
    const double = Float64Array.of(Math.PI, -1e300);
    const large = new Uint16Array(1_500_000).map((_, i) => (i % 2 === 0 ? 0x3f80 : 0x4000));
    const parts = [double, half, brain, large].map((array) => Buffer.from(array.buffer));
    const ends = parts.map((_, i) => parts.slice(0, i + 1).reduce((sum, part) => sum + part.length, 0));
    const path = await fileOf(
      {
        double: entry("F64", [2], 0, ends[0] ?? 0),
        half: entry("F16", [5], ends[0] ?? 0, ends[1] ?? 0),
        brain: entry("BF16", [5], ends[1] ?? 0, ends[2] ?? 0),
        large: entry("BF16", [1_500_000], ends[2] ?? 0, ends[3] ?? 0),
      },
      Buffer.concat(parts),
    );
    const file = new SafetensorsFile(path);
    expect([...file.read("half")]).toEqual([1, -2, 2 ** -24, Infinity, -65504]);
    expect([...file.read("brain")]).toEqual([1, -2, 2 ** -133, -Infinity, 3.140625]);
    expect([...file.read("double")]).toEqual([Math.fround(Math.PI), -Infinity]);
    const read = file.read("large");
    expect(read.every((value, i) => value === (i % 2 === 0 ? 1 : 2))).toBe(true);
    file.close();
  });

  test("a failed write leaves neither the file nor a temporary one, and the old file unharmed", async () => {
    const own = await mkdtemp(join(folder, "full-"));
    const path = join(own, "x.safetensors");
    await writeSafetensors(path, new Map([["a", { shape: [1], data: Float32Array.of(1) }]]));
    const before = await readFile(path);
    const wrong = new Map([["a", { shape: [2], data: Float32Array.of(1) }]]);
    await expect(writeSafetensors(path, wrong)).rejects.toThrow('"a" has shape [2] but 1 values');
    expect(await readdir(own)).toEqual(["x.safetensors"]);
    expect(await readFile(path)).toEqual(before);
  });
});

describe("files that cannot be what they claim", () => {
  const eight = new Uint8Array(8);
  test.each<[string, () => Promise<string>, string]>([
    [
      "a header longer than the file",
      () => fileOf({}, eight, 2n ** 62n),
      "its header claims 4611686018427387904 bytes, but at most 10 are possible in 18 bytes",
    ],
    ["no JSON", () => fileOf("nonsense"), "its header is not JSON text"],
    [
      "invalid UTF-8 in the header",
      () =>
        fileOf("{}", eight, 3n).then(async (path) => {
          const bytes = await readFile(path);
          bytes[8] = 0xff;
          await writeFile(path, bytes);
          return path;
        }),
      "its header is not JSON text",
    ],
    ["a list as header", () => fileOf("[]"), "its header is not a JSON object"],
    [
      "a negative offset",
      () => fileOf({ a: entry("F32", [2], -8, 0) }, eight),
      'the header entry of "a" must have dtype, shape and data_offsets',
    ],
    [
      "a shape that does not fit the bytes",
      () => fileOf({ a: entry("F32", [3], 0, 8) }, eight),
      'tensor "a" of shape [3] and dtype F32 needs 12 bytes, but its data_offsets [0, 8] give 8',
    ],
    [
      "a shape that overflows",
      () => fileOf({ a: entry("F32", [2 ** 52, 2 ** 52, 0], 0, 8) }, eight),
      'tensor "a" of shape',
    ],
    [
      "an unknown dtype",
      () => fileOf({ a: entry("F4", [2], 0, 8) }, eight),
      'tensor "a" has the unknown dtype F4; known: BOOL, U8',
    ],
    [
      "overlapping tensors",
      () => fileOf({ a: entry("F32", [2], 0, 8), b: entry("F32", [1], 4, 8) }, eight),
      'tensor "b" begins at data byte 4, but the one before it ends at 8',
    ],
    [
      "a hole",
      () => fileOf({ a: entry("F32", [1], 4, 8) }, eight),
      'tensor "a" begins at data byte 4, but the one before it ends at 0',
    ],
    [
      "a file cut off",
      () => fileOf({ a: entry("F32", [4], 0, 16) }, eight),
      "its tensors end at data byte 16, but it has 8 data bytes",
    ],
    [
      "bytes behind the last tensor",
      () => fileOf({ a: entry("F32", [1], 0, 4) }, eight),
      "its tensors end at data byte 4, but it has 8 data bytes",
    ],
    [
      "metadata that is not texts",
      () => fileOf({ __metadata__: { a: 1 } }),
      "__metadata__ must map texts to texts",
    ],
  ])("%s", async (_, make, message) => {
    const path = await make();
    expect(() => new SafetensorsFile(path)).toThrow(message);
    expect(() => new SafetensorsFile(path)).toThrow(/Get the file again and compare its checksum\.$/);
  });

  test("a file shorter than a header, a folder, and no file", async () => {
    const path = join(folder, "short.safetensors");
    await writeFile(path, "abc");
    expect(() => new SafetensorsFile(path)).toThrow("it has 3 bytes, less than a header");
    expect(() => new SafetensorsFile(folder)).toThrow("it is not a file");
    expect(() => new SafetensorsFile(join(folder, "none"))).toThrow("cannot be opened: ENOENT");
  });

  test("integers may lie in the file but are no weights", async () => {
    const file = new SafetensorsFile(await fileOf({ a: entry("I64", [1], 0, 8) }, eight));
    expect(() => file.read("a")).toThrow('tensor "a" has dtype I64, but only F32, F16, BF16 and F64');
    file.close();
  });
});

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildGguf, ByteList, singles } from "../../test/model/gguf-builder.ts";
import { UnsupportedModel } from "../errors.ts";
import { GgufFile } from "./gguf.ts";

const GOLDENS = join(import.meta.dirname, "../../test/goldens");
let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "gguf-"));
  path = join(folder, "made.gguf");
});
afterAll(() => rm(folder, { recursive: true }));

async function open(bytes: Uint8Array): Promise<GgufFile> {
  await writeFile(path, bytes);
  return new GgufFile(path);
}

const tensor = (name: string, values: number[], shape = [values.length]) => ({
  name,
  shape,
  type: 0,
  data: singles(values),
});

describe("reading", () => {
  test("metadata of every used type, and tensors in row-major order", async () => {
    const file = await open(
      buildGguf(
        {
          number: { uint32: 7 },
          fraction: { float32: 0.5 },
          yes: { bool: true },
          text: { string: "größe" },
          texts: { strings: ["a", "", "b", "\u{FEFF}a"] },
          numbers: { uint32s: [1, 2] },
        },
        [tensor("a", [1, 2, 3, 4, 5, 6], [2, 3]), tensor("b", [9])],
      ),
    );
    expect(Object.fromEntries(file.metadata)).toEqual({
      number: 7,
      fraction: 0.5,
      yes: true,
      text: "größe",
      texts: ["a", "", "b", "\u{FEFF}a"],
      numbers: [1, 2],
    });
    expect([...file.names()]).toEqual(["a", "b"]);
    expect(file.shape("a")).toEqual([2, 3]);
    expect([...file.read("a")]).toEqual([1, 2, 3, 4, 5, 6]);
    expect([...file.read("b")]).toEqual([9]);
    file.close();
  });

  test("64-bit numbers stay exact", async () => {
    const header = new ByteList().raw(Buffer.from("GGUF")).uint32(2).uint64(0).uint64(2);
    header.string("small").uint32(10).uint64(5);
    header
      .string("large")
      .uint32(10)
      .uint64(2n ** 63n);
    const file = await open(header.bytes());
    expect(file.metadata.get("small")).toBe(5);
    expect(file.metadata.get("large")).toBe(2n ** 63n);
    file.close();
  });

  test("every type of quants.gguf gives the values that llama.cpp's Python package gives", async () => {
    const golden = JSON.parse(await readFile(join(GOLDENS, "quants.json"), "utf8")) as {
      tensors: { name: string; type: string; shape: number[]; values: number[] }[];
    };
    const file = new GgufFile(join(GOLDENS, "quants.gguf"));
    expect(golden.tensors.map((expected) => expected.type).sort()).toEqual([
      "BF16",
      "F16",
      "F32",
      "Q4_0",
      "Q4_1",
      "Q4_K",
      "Q5_0",
      "Q5_1",
      "Q5_K",
      "Q6_K",
      "Q8_0",
    ]);
    for (const expected of golden.tensors) {
      expect(file.typeName(expected.name)).toBe(expected.type);
      expect(file.shape(expected.name)).toEqual(expected.shape);
      const values = file.read(expected.name);
      expect(values.length).toBe(expected.values.length);
      // The golden holds nine digits, enough to name every f32.
      for (const [i, value] of expected.values.entries())
        expect(values[i], `${expected.name}[${i}]`).toBe(Math.fround(value));
    }
    file.close();
  });
});

describe("files that cannot be what they claim", () => {
  const good = () => buildGguf({ "general.architecture": { string: "llama" } }, [tensor("a", [1, 2])]);
  const patched = (at: number, bytes: number[]) => {
    const file = good();
    file.set(bytes, at);
    return file;
  };
  const huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];

  test.each<[string, () => Buffer, string]>([
    ["an empty file", () => Buffer.alloc(0), 'it does not begin with "GGUF" and a header'],
    ["another format", () => Buffer.alloc(100, "x"), 'it does not begin with "GGUF" and a header'],
    [
      "version 1",
      () => buildGguf({}, [], { version: 1 }),
      "is GGUF version 1; supported: 2 and 3, little-endian",
    ],
    [
      "big-endian",
      () => buildGguf({}, [], { version: 3 << 24 }),
      "is GGUF version 50331648; supported: 2 and 3",
    ],
    [
      "a huge tensor count",
      () => patched(8, huge),
      "the tensor count is 9223372036854775807, but at most 100000",
    ],
    ["a huge metadata count", () => patched(16, huge), "the metadata count is 9223372036854775807"],
    ["a huge key length", () => patched(24, huge), "the length of metadata key 0 is 9223372036854775807"],
    [
      "more pairs than there are",
      () => buildGguf({}, [], { pairCount: 5 }),
      'its header ends inside the type of "": 4 bytes expected at byte 32, 0 left',
    ],
    [
      "an unknown value type",
      () => patched(24 + 8 + 20, [99]),
      '"general.architecture" has the unknown value type 99',
    ],
    ["a key twice", () => twice("key"), 'metadata key "a" stands twice'],
    ["a tensor twice", () => buildGguf({}, [tensor("a", [1]), tensor("a", [1])]), 'tensor "a" stands twice'],
    ["a huge array", () => hugeArray(), 'the element count of "a" is 72057594037927936'],
    ["arrays of arrays", () => nestedArray(), '"a" is an array of arrays'],
    [
      "five dimensions",
      () => buildGguf({}, [tensor("a", [1], [1, 1, 1, 1, 1])]),
      'tensor "a" has 5 dimensions, at most 4',
    ],
    [
      "a shape that overflows",
      () => buildGguf({}, [tensor("a", [1], [2 ** 50, 2 ** 50])]),
      'tensor "a" has the impossible shape',
    ],
    [
      "a tensor behind the end",
      () => buildGguf({}, [tensor("a", [1], [100])]),
      'tensor "a" ends at data byte 400, but the file has only 32 data bytes; it is cut off',
    ],
    [
      "an unaligned tensor",
      () => buildGguf({}, [{ ...tensor("a", [1]), offset: 4 }]),
      'tensor "a" begins at data byte 4, not a multiple of 32',
    ],
    [
      "overlapping tensors",
      () => buildGguf({}, [tensor("a", [1, 2]), { ...tensor("b", [1]), offset: 0 }]),
      'tensors "a" and "b" overlap',
    ],
    [
      "a zero alignment",
      () => buildGguf({ "general.alignment": { uint32: 0 } }, []),
      "general.alignment is 0, expected a power of two from 8 to 65536",
    ],
    [
      "rows that are no whole blocks",
      () => buildGguf({}, [{ name: "a", shape: [3, 33], type: 8, data: new Uint8Array(200) }]),
      'tensor "a" has rows of 33 values, but Q8_0 needs a multiple of 32',
    ],
    [
      "a type that is not read",
      () => buildGguf({}, [{ name: "a", shape: [256], type: 10, data: new Uint8Array(84) }]),
      'tensor "a" is stored as Q2_K; supported: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16',
    ],
    [
      "an unheard-of type",
      () => buildGguf({}, [{ name: "a", shape: [256], type: 77, data: new Uint8Array(210) }]),
      'tensor "a" is stored as type 77',
    ],
  ])("%s", async (_, make, message) => {
    await expect(open(make())).rejects.toThrow(message);
    await expect(open(make())).rejects.toBeInstanceOf(UnsupportedModel);
  });

  function twice(_kind: "key"): Buffer {
    const pair = new ByteList().string("a").uint32(4).uint32(1).bytes();
    return new ByteList().raw(Buffer.from("GGUF")).uint32(3).uint64(0).uint64(2).raw(pair).raw(pair).bytes();
  }
  function hugeArray(): Buffer {
    const header = new ByteList().raw(Buffer.from("GGUF")).uint32(3).uint64(0).uint64(1);
    return header
      .string("a")
      .uint32(9)
      .uint32(8)
      .uint64(2n ** 56n)
      .raw(new Uint8Array(64))
      .bytes();
  }
  function nestedArray(): Buffer {
    const header = new ByteList().raw(Buffer.from("GGUF")).uint32(3).uint64(0).uint64(1);
    return header.string("a").uint32(9).uint32(9).uint64(1).raw(new Uint8Array(64)).bytes();
  }

  test("a file cut off at any byte is refused, and never read past its end", async () => {
    const whole = await readFile(join(GOLDENS, "tiny-llama.gguf"));
    const cuts = fc.sample(fc.integer({ min: 0, max: whole.length - 32 }), { numRuns: 60, seed: 1 });
    for (const cut of cuts)
      await expect(open(whole.subarray(0, cut)), `cut at ${cut}`).rejects.toBeInstanceOf(UnsupportedModel);
  });

  test("a header with any byte changed is read or refused, but nothing else happens", async () => {
    const whole = await readFile(join(GOLDENS, "tiny-llama.gguf"));
    const changes = fc.sample(
      fc.tuple(fc.integer({ min: 0, max: 4_000 }), fc.integer({ min: 1, max: 255 })),
      {
        numRuns: 150,
        seed: 2,
      },
    );
    for (const [at, change] of changes) {
      const bytes = Buffer.from(whole);
      bytes[at] = (bytes[at] ?? 0) ^ change;
      try {
        const file = await open(bytes);
        for (const name of file.names()) file.read(name);
        file.close();
      } catch (error) {
        expect(error, `byte ${at} ^ ${change}`).toBeInstanceOf(UnsupportedModel);
      }
    }
  });
});

// Remembered words against the library itself, which knows nothing of them: on every pattern that is cut at words.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { loadTokenizer } from "./tokenizer.ts";
import { createWordEncoder, GPT2_PATTERN, joined } from "./word-encoder.ts";

let folder: string;
let json: Record<string, unknown>;
let config: Record<string, unknown>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "word-encoder-test-"));
  await makeTinyModel(folder);
  const read = async (name: string) =>
    JSON.parse(await readFile(join(folder, name), "utf8")) as Record<string, unknown>;
  json = { ...(await read("tokenizer.json")), post_processor: null };
  config = await read("tokenizer_config.json");
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const split = (pattern: string) => ({
  type: "Split",
  pattern: { Regex: pattern },
  behavior: "Isolated",
  invert: false,
});
const words = (digits: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
const sequence = (...parts: object[]) => ({ type: "Sequence", pretokenizers: [...parts, bytes] });

const PRE_TOKENIZERS = {
  SmolLM2: sequence(split("\\p{N}"), split(GPT2_PATTERN)),
  "Llama 3": sequence(split(words("\\p{N}{1,3}"))),
  Qwen: sequence(split(words("\\p{N}"))),
} as const;

/** What stands at places where words are cut, and what looks like one and is none. */
const text = fc
  .array(
    fc.oneof(
      fc.constantFrom(" ", "  ", "\n", " \n", "\t", "\u00a0", "\ufeff", "\u0085", "\u3000", "\u0301"),
      fc.constantFrom("the", "order", "Größe", "价格", "don't", "'s", "'S", "12", "²", "(x)", "!", "…", "😀"),
      fc.constantFrom("<|im_start|>", "<|im_end|>", "<|im_", '{"a":"b","c":1}', "it's", "e\u0301.", "x's y"),
      fc.string({ unit: "grapheme", maxLength: 4 }),
    ),
    { maxLength: 20 },
  )
  .map((parts) => parts.join(""));

describe.each(Object.entries(PRE_TOKENIZERS))("the words of %s", (_, pre_tokenizer) => {
  it("have the library's ids, seen for the first time or again", () => {
    const given = { ...json, pre_tokenizer };
    const encoder = createWordEncoder(loadTokenizer(given, config), given, config);
    const library = loadTokenizer(given, config);
    fc.assert(
      fc.property(text, (x) => {
        const wanted = library.encode(x, { add_special_tokens: false }).ids;
        expect(joined(encoder.encode(x))).toEqual(wanted);
        expect(joined(encoder.encode(x))).toEqual(wanted);
      }),
      { numRuns: 1000, seed: 1 },
    );
  });

  it("have the library's ids where one is thousands of characters long, but are merged in steps without it", () => {
    const given = { ...json, pre_tokenizer };
    const merged = loadTokenizer(given, config);
    const encoder = createWordEncoder(merged, given, config);
    const library = loadTokenizer(given, config);
    const lookUp = vi.spyOn(merged.model, "encode");
    const long = fc
      .array(fc.tuple(fc.constantFrom(" ", "a", "er", "the", "é", "价", "\n", "=", "er th"), fc.nat(2_000)), {
        minLength: 1,
        maxLength: 4,
      })
      .map((runs) => runs.map(([unit, count]) => unit.repeat(count)).join(""));
    fc.assert(
      fc.property(long, (x) => {
        expect(joined(encoder.encode(x))).toEqual(library.encode(x, { add_special_tokens: false }).ids);
      }),
      { numRuns: 60, seed: 1 },
    );
    for (const [asked] of lookUp.mock.calls) {
      const lengths = asked.map((word) => word.length);
      expect(Math.max(0, ...lengths)).toBeLessThanOrEqual(256);
    }
    const longest = " ".repeat(100_000);
    const parts = [...encoder.encode(longest)];
    expect(parts.length).toBeGreaterThan(20);
  });

  it("are looked up once", () => {
    const given = { ...json, pre_tokenizer };
    const library = loadTokenizer(given, config);
    const encoder = createWordEncoder(library, given, config);
    const lookUp = vi.spyOn(library.model, "encode");
    joined(encoder.encode("one order and one more"));
    expect(lookUp).toHaveBeenCalledTimes(5);
    joined(encoder.encode("one order more and one order"));
    expect(lookUp).toHaveBeenCalledTimes(5);
  });
});

it("leaves patterns that it does not know, and added tokens that take the space beside them, to the library", () => {
  const unknown = { ...json, pre_tokenizer: sequence(split("\\w+ \\w+")) };
  const stripping = {
    ...json,
    pre_tokenizer: PRE_TOKENIZERS.SmolLM2,
    added_tokens: (json["added_tokens"] as object[]).map((token) => ({ ...token, lstrip: true })),
  };
  for (const given of [unknown, stripping]) {
    const encoder = createWordEncoder(loadTokenizer(given, config), given, config);
    const library = loadTokenizer(given, config);
    for (const x of ["the order the order", "the <|im_end|> order"])
      expect(joined(encoder.encode(x))).toEqual(library.encode(x, { add_special_tokens: false }).ids);
  }
});

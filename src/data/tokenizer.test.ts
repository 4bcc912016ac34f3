// The tokenizer's laws, on the tiny model's tokenizer and on vocabularies made to show one behaviour each.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { UnsupportedModel } from "../errors.ts";
import { createTextStream, createTokenizer } from "./tokenizer.ts";
import type { Tokenizer } from "./tokenizer.ts";

let folder: string;
let tinyJson: Record<string, unknown>;
let tinyConfig: Record<string, unknown>;
let tiny: Tokenizer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tokenizer-test-"));
  await makeTinyModel(folder);
  const read = async (name: string) =>
    JSON.parse(await readFile(join(folder, name), "utf8")) as Record<string, unknown>;
  tinyJson = await read("tokenizer.json");
  tinyConfig = await read("tokenizer_config.json");
  tiny = createTokenizer({ tokenizerJson: tinyJson, tokenizerConfig: tinyConfig });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Any well-formed text, with words, spaces and special tokens' texts more often than chance would have them. */
const text = fc
  .array(
    fc.oneof(
      fc.string({ unit: "binary" }),
      fc.string({ unit: "grapheme" }),
      fc.constantFrom(
        " ",
        "\n\n",
        "  ",
        "\ufeff",
        "\u0085",
        "the order ",
        "<|im_end|>",
        "<|im_start|>",
        "12²",
      ),
    ),
  )
  .map((parts) => parts.join(""));

describe("encode and decode", () => {
  it("decode(encode(x)) = x, whether special tokens' texts are read as such or not", () => {
    fc.assert(
      fc.property(text, (x) => {
        expect(tiny.decode(tiny.encode(x))).toBe(x);
        expect(tiny.decode(tiny.encodePlain(x))).toBe(x);
      }),
      { numRuns: 500, seed: 1 },
    );
  });

  it("encodePlain makes no special token and equals encode where no special token is spelled", () => {
    fc.assert(
      fc.property(text, (x) => {
        const plain = tiny.encodePlain(x);
        expect(plain.some((id) => tiny.isSpecial(id))).toBe(false);
        if (!tiny.specialTokens.some((token) => x.includes(token))) expect(plain).toEqual(tiny.encode(x));
      }),
      { numRuns: 500, seed: 2 },
    );
  });

  it("adds no bos or eos and reads special tokens in a text", () => {
    expect(tiny.encode("")).toEqual([]);
    expect(tiny.encode("<|im_start|>")).toEqual([1]);
    expect(tiny.encodePlain("<|im_start|>").length).toBeGreaterThan(1);
    expect(tiny.tokenId("<|im_end|>")).toBe(2);
    expect(tiny.tokenId("no such token")).toBeUndefined();
    expect(tiny.eosTokenIds).toEqual([2]);
  });

  it("decodes nothing to nothing, an unknown id to nothing, and can leave out special tokens", () => {
    expect(tiny.decode([])).toBe("");
    expect(tiny.decode([tiny.vocabSize + 7])).toBe("");
    const ids = tiny.encode("<|im_start|>hello<|im_end|>");
    expect(tiny.decode(ids)).toBe("<|im_start|>hello<|im_end|>");
    expect(tiny.decode(ids, { skipSpecialTokens: true })).toBe("hello");
  });

  it("does not tidy spaces before punctuation, whatever the configuration says", () => {
    const config = { ...tinyConfig, clean_up_tokenization_spaces: true };
    const tokenizer = createTokenizer({ tokenizerJson: tinyJson, tokenizerConfig: config });
    expect(tokenizer.decode(tokenizer.encode("what ? it 's , n't"))).toBe("what ? it 's , n't");
  });
});

describe("text stream", () => {
  it("joined equals decode, and no piece holds half a character", () => {
    fc.assert(
      fc.property(text, fc.boolean(), (x, skipSpecialTokens) => {
        const ids = tiny.encode(x);
        const stream = createTextStream(tiny, { skipSpecialTokens });
        const pieces = ids.map((id) => stream.push(id));
        if (!x.includes("\ufffd")) expect(pieces.filter((piece) => piece.includes("\ufffd"))).toEqual([]);
        expect(stream.flush()).toBe("");
        expect(pieces.join("")).toBe(tiny.decode(ids, { skipSpecialTokens }));
      }),
      { numRuns: 500, seed: 3 },
    );
  });

  it("holds a character back until its last byte, and gives what is left as U+FFFD at the end", () => {
    const ids = tiny.encode("é😀");
    expect(ids).toHaveLength(6);
    const stream = createTextStream(tiny);
    expect(ids.map((id) => stream.push(id))).toEqual(["", "é", "", "", "", "😀"]);
    for (const id of ids.slice(2, 5)) expect(stream.push(id)).toBe("");
    expect(stream.flush()).toBe("\ufffd");
    expect(stream.flush()).toBe("");
  });
});

describe("what differs between the library and the Rust original", () => {
  const bytes = (value: string) => {
    const printable = (byte: number) =>
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    const others = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => !printable(byte));
    return [...new TextEncoder().encode(value)].map((byte) =>
      String.fromCharCode(printable(byte) ? byte : 256 + others.indexOf(byte)),
    );
  };
  /** A tokenizer that would make one token of the text, if the pre-tokenizer let it. */
  const merging = (word: string, preTokenizer: unknown): Tokenizer => {
    const alphabet = [...new Set(bytes(word))];
    const merges: [string, string][] = [];
    bytes(word).reduce((left, right) => {
      merges.push([left, right]);
      return left + right;
    });
    const tokens = [...new Set([...alphabet, ...merges.map((pair) => pair.join(""))])];
    return createTokenizer({
      tokenizerConfig: {},
      tokenizerJson: {
        pre_tokenizer: preTokenizer,
        decoder: { type: "ByteLevel" },
        model: { type: "BPE", merges, vocab: Object.fromEntries(tokens.map((token, id) => [token, id])) },
      },
    });
  };
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, use_regex: true };
  const digits = (individual: boolean) => ({
    type: "Sequence",
    pretokenizers: [{ type: "Digits", individual_digits: individual }, byteLevel],
  });

  it("keeps every numeric character apart, not only 0 to 9", () => {
    expect(merging("²½", byteLevel).encode("²½")).toHaveLength(1);
    expect(merging("²½", digits(true)).encode("²½").length).toBeGreaterThan(1);
    expect(merging("²½", digits(false)).encode("²½")).toHaveLength(1);
    expect(merging(" ½", digits(false)).encode(" ½").length).toBeGreaterThan(1);
  });

  it("takes U+0085 for white space and U+FEFF for none", () => {
    expect(merging("\ufeff!", byteLevel).encode("\ufeff!")).toHaveLength(1);
    expect(merging("\u0085!", byteLevel).encode("\u0085!").length).toBeGreaterThan(1);
  });
});

describe("tokenizers that are refused", () => {
  it.each([
    [[], "tokenizer.json must hold one JSON object."],
    [{}, "model.type is missing, expected BPE"],
    [{ model: { type: "Unigram" } }, "model.type is Unigram, expected BPE"],
    [
      { model: { type: "BPE" }, decoder: { type: "Metaspace" } },
      "decoder.type is Metaspace, expected ByteLevel",
    ],
    [{ model: { type: "BPE" }, decoder: { type: "ByteLevel" } }, "model.vocab is undefined, expected a map"],
    [
      {
        model: { type: "BPE", vocab: {}, merges: [] },
        decoder: { type: "ByteLevel" },
        added_tokens: [{ id: "1" }],
      },
      'added_tokens[0] must have a text "content" and a number "id", found {"id":"1"}',
    ],
    [
      {
        model: { type: "BPE", vocab: {}, merges: [] },
        decoder: { type: "ByteLevel" },
        normalizer: { type: "Odd" },
      },
      "tokenizer.json cannot be loaded: Unknown Normalizer type: Odd",
    ],
  ])("%j", (tokenizerJson, message) => {
    const create = () => createTokenizer({ tokenizerJson, tokenizerConfig: {} });
    expect(create).toThrow(UnsupportedModel);
    expect(create).toThrow(message);
  });
});

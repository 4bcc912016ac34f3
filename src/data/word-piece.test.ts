// WordPiece where the library's reading differs from the Rust original's, and where text is cut; the goldens of
// test/engine/embedding-goldens.test.ts hold the rest.
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createWordPieceTokenizer } from "./word-piece.ts";

const FOLDER = new URL("../../test/goldens/tiny-bert/", import.meta.url);
const tokenizerJson = JSON.parse(readFileSync(new URL("tokenizer.json", FOLDER), "utf8")) as Record<
  string,
  unknown
>;
const tokenizer = createWordPieceTokenizer({ tokenizerJson, tokenizerConfig: {} });
const { vocab } = tokenizerJson["model"] as { vocab: Record<string, number> };
const idsOf = (...tokens: string[]): (number | undefined)[] => tokens.map((token) => vocab[token]);
const UNKNOWN = 1;

describe("the tokenizer", () => {
  it("knows its frame and its size", () => {
    expect([tokenizer.startId, tokenizer.endId, tokenizer.vocabSize]).toEqual([2, 3, 116]);
    expect([0, 1, 2, 3, 4, 5].map((id) => tokenizer.isSpecial(id))).toEqual([
      true,
      true,
      true,
      true,
      true,
      false,
    ]);
  });

  it("takes accents off, lowers every sigma alike and parts ideographs, rare ones included", () => {
    expect(tokenizer.encode("É")).toEqual(idsOf("e"));
    // A full stop parts words, but JavaScript looks beyond it and would write the last sigma of a word.
    expect(tokenizer.encode("Α.Σ")).toEqual(idsOf("α", ".", "σ"));
    expect(tokenizer.encode("東京")).toEqual(idsOf("東", "京"));
    expect(tokenizer.encode("a\u{20000}b")).toEqual([vocab["a"], UNKNOWN, vocab["b"]]);
    expect(tokenizer.encode("a\u200bb\u0000\ufffd")).toEqual(idsOf("a", "##b"));
    expect(tokenizer.encode("a\u00a0b")).toEqual(idsOf("a", "b"));
  });

  it("makes one unknown of a word that has no pieces, or over 100 characters", () => {
    expect(tokenizer.encode("☃")).toEqual([UNKNOWN]);
    expect(tokenizer.encode("a".repeat(100))).toHaveLength(100);
    expect(tokenizer.encode("a".repeat(101))).toEqual([UNKNOWN]);
  });

  it("takes the text of a special token for text", () => {
    expect(tokenizer.encode("[SEP]")).not.toContain(tokenizer.endId);
    expect(tokenizer.encode("[CLS] a")).not.toContain(tokenizer.startId);
  });

  it("gives a long text's tokens part by part", () => {
    const word = fc.constantFrom(
      "fox",
      "ticket",
      ".",
      " ",
      "  ",
      "\n",
      "東",
      "é",
      "passing",
      "x".repeat(9000),
      "🦊",
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 40 }), (words) => {
        const text = words.join("");
        const spaced = words.map((one) => tokenizer.encode(one));
        const parts = [...tokenizer.encodeInParts(text)];
        expect(parts.flat()).toEqual(tokenizer.encode(text));
        // Between words that stand alone, cutting changes nothing.
        const alone = words.join("\n");
        expect(tokenizer.encode(alone)).toEqual(spaced.flat());
      }),
      { numRuns: 60 },
    );
    const long = "the quick brown fox. ".repeat(5000);
    const parts = [...tokenizer.encodeInParts(long)];
    expect(parts.length).toBeGreaterThan(5);
    expect(parts.flat()).toEqual(
      Array.from({ length: 5000 }, () => idsOf("the", "quick", "brown", "fox", ".")).flat(),
    );
    expect([...tokenizer.encodeInParts("a".repeat(100_000))]).toEqual([[UNKNOWN]]);
  });
});

it.each<[string, unknown, string]>([
  ["model", { type: "BPE" }, "tokenizer.json: model.type is BPE, expected WordPiece."],
  ["normalizer", null, "tokenizer.json: normalizer.type is missing, expected BertNormalizer."],
  [
    "pre_tokenizer",
    { type: "Whitespace" },
    "tokenizer.json: pre_tokenizer.type is Whitespace, expected BertPreTokenizer.",
  ],
])("refuses another %s", (member, value, message) => {
  expect(() =>
    createWordPieceTokenizer({ tokenizerJson: { ...tokenizerJson, [member]: value }, tokenizerConfig: {} }),
  ).toThrow(message);
});

it("refuses what is no object", () => {
  expect(() => createWordPieceTokenizer({ tokenizerJson: [], tokenizerConfig: {} })).toThrow(
    "tokenizer.json must hold one JSON object.",
  );
});

it("refuses a vocabulary without the tokens that frame a text", () => {
  const { "[SEP]": _end, ...others } = vocab;
  const model = { ...(tokenizerJson["model"] as object), vocab: others };
  expect(() =>
    createWordPieceTokenizer({
      tokenizerJson: { ...tokenizerJson, model, added_tokens: [] },
      tokenizerConfig: {},
    }),
  ).toThrow("tokenizer.json: model.vocab must hold [SEP], which BERT's texts need. Get the tokenizer again.");
});

// Tokenizers built from GGUF metadata, run by the data room.
import { describe, expect, test } from "vitest";
import { createTokenizer } from "../../src/data/tokenizer.ts";
import { tokenizerFromGguf } from "../../src/model/gguf-tokenizer.ts";
import type { GgufValue } from "../../src/model/gguf.ts";

/** Bytes of "a", "b", "1", "2", space and newline, a merge, and added tokens of both kinds. */
const TOKENS = ["<|end|>", "<tool>", "a", "b", "1", "2", "Ġ", "Ċ", "ab", "Ġab", "e", "Ì", "ģ", "Ã", "©"];
const METADATA: Record<string, GgufValue> = {
  "tokenizer.ggml.model": "gpt2",
  "tokenizer.ggml.pre": "smollm",
  "tokenizer.ggml.tokens": TOKENS,
  "tokenizer.ggml.token_type": TOKENS.map((_, i) => (i === 0 ? 3 : i === 1 ? 4 : 1)),
  "tokenizer.ggml.merges": ["a b", "Ġ ab"],
  "tokenizer.ggml.bos_token_id": 0,
  "tokenizer.ggml.eos_token_id": 0,
  "tokenizer.chat_template": "{{ messages }}",
};
const build = (changes: Record<string, GgufValue | undefined> = {}) => {
  const all = Object.entries({ ...METADATA, ...changes }).filter(([, value]) => value !== undefined);
  return tokenizerFromGguf(new Map(all as [string, GgufValue][]), "made.gguf");
};
const load = (changes: Record<string, GgufValue | undefined> = {}) => createTokenizer(build(changes));

test("the object survives JSON and works as a tokenizer", () => {
  const { tokenizerJson, tokenizerConfig } = build();
  const copy: unknown = JSON.parse(JSON.stringify(tokenizerJson));
  const tokenizer = createTokenizer({ tokenizerJson: copy, tokenizerConfig });
  const text = "<|end|>ab ab<tool>b12\n";
  expect(tokenizer.encode(text)).toEqual([0, 8, 9, 1, 3, 4, 5, 7]);
  expect(tokenizer.decode([0, 8, 9, 1, 3])).toBe("<|end|>ab ab<tool>b");
  // Control tokens are special, user-defined ones are text.
  expect(tokenizer.decode([0, 8, 9, 1, 3], { skipSpecialTokens: true })).toBe("ab ab<tool>b");
});

test("the tokenizer config carries template and special tokens", () => {
  expect(build().tokenizerConfig).toMatchObject({
    chat_template: "{{ messages }}",
    bos_token: "<|end|>",
    eos_token: "<|end|>",
    pad_token: null,
  });
  expect(build({ "tokenizer.chat_template": undefined }).tokenizerConfig.chat_template).toBeNull();
});

test("a begin token is added only where the metadata asks for it", () => {
  expect(build().tokenizerJson).toMatchObject({ post_processor: null });
  expect(build({ "tokenizer.ggml.add_bos_token": true }).tokenizerJson).toMatchObject({
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<|end|>" } }, { Sequence: { id: "A" } }],
      special_tokens: { "<|end|>": { ids: [0] } },
    },
  });
});

describe("pre-tokenizations", () => {
  const digits = { "tokenizer.ggml.tokens": [...TOKENS, "12"], "tokenizer.ggml.token_type": undefined };
  const withMerge = { ...digits, "tokenizer.ggml.merges": ["a b", "Ġ ab", "1 2"] };

  test("smollm and qwen2 keep digits apart, llama-bpe takes up to three together", () => {
    expect(load({ ...withMerge }).encode("12")).toEqual([4, 5]);
    expect(load({ ...withMerge, "tokenizer.ggml.pre": "qwen2" }).encode("12")).toEqual([4, 5]);
    expect(load({ ...withMerge, "tokenizer.ggml.pre": "llama-bpe" }).encode("12")).toEqual([15]);
  });

  test("qwen2 composes accents first, the others do not", () => {
    const decomposed = "e\u0301";
    expect(load({ "tokenizer.ggml.pre": "qwen2" }).encode(decomposed)).toEqual([13, 14]);
    expect(load().encode(decomposed)).toEqual([10, 11, 12]);
  });

  test("llama-bpe takes whole words of the vocabulary without merges", () => {
    const model = (build({ "tokenizer.ggml.pre": "llama-bpe" }).tokenizerJson as { model: object }).model;
    expect(model).toMatchObject({ ignore_merges: true });
    expect((build().tokenizerJson as { model: object }).model).toMatchObject({ ignore_merges: false });
  });
});

describe("refused", () => {
  test.each<[Record<string, GgufValue | undefined>, string]>([
    [
      { "tokenizer.ggml.model": "llama" },
      '"tokenizer.ggml.model" is "llama"; supported: "gpt2" (byte-level BPE)',
    ],
    [
      { "tokenizer.ggml.pre": "tekken" },
      '"tokenizer.ggml.pre" is "tekken"; supported: smollm, llama-bpe, qwen2',
    ],
    [{ "tokenizer.ggml.pre": undefined }, '"tokenizer.ggml.pre" is missing; supported: smollm'],
    [{ "tokenizer.ggml.pre": "constructor" }, '"tokenizer.ggml.pre" is "constructor"'],
    [{ "tokenizer.ggml.tokens": undefined }, '"tokenizer.ggml.tokens" must be a list of texts'],
    [{ "tokenizer.ggml.merges": [1] }, '"tokenizer.ggml.merges" must be a list of texts'],
    [{ "tokenizer.ggml.merges": ["a b c"] }, '"tokenizer.ggml.merges" holds "a b c"; expected two tokens'],
    [
      { "tokenizer.ggml.token_type": [1] },
      '"tokenizer.ggml.token_type" must list one type for each of the 15 tokens',
    ],
  ])("%j", (changes, message) => {
    expect(() => build(changes)).toThrow(message);
    expect(() => build(changes)).toThrow("made.gguf");
  });
});

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

describe("SentencePiece's kind", () => {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const runs = ["  ", "   ", "\n", "\n\n", "<b>"];
  const pieces = ["▁", "a", "b", "c", "ab", "▁a", "abc", "▁ab", "<", ">"];
  const control = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"];
  const tokens = [...control, ...runs, ...bytes, ...pieces];
  const idOf = (token: string) => tokens.indexOf(token);
  const typeOf = (token: string) =>
    control.includes(token) ? 3 : runs.includes(token) ? 4 : bytes.includes(token) ? 6 : 1;
  const metadata: Record<string, GgufValue> = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.pre": "default",
    "tokenizer.ggml.add_space_prefix": false,
    "tokenizer.ggml.add_bos_token": true,
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.token_type": tokens.map(typeOf),
    // Of the pieces, the later the better: "▁ab" before "abc" before "▁a" before "ab".
    "tokenizer.ggml.scores": tokens.map((token) =>
      typeOf(token) === 1 ? pieces.indexOf(token) - 20 : -1000,
    ),
    "tokenizer.ggml.bos_token_id": 2,
    "tokenizer.ggml.eos_token_id": 1,
    "tokenizer.ggml.unknown_token_id": 3,
  };
  const made = tokenizerFromGguf(new Map(Object.entries(metadata)), "made.gguf");
  const tokenizer = createTokenizer(JSON.parse(JSON.stringify(made)) as typeof made);

  test.each<[text: string, pieces: string[]]>([
    ["abc", ["abc"]],
    [" abc", ["▁ab", "c"]],
    [" ab", ["▁ab"]],
    ["c  a", ["c", "  ", "a"]],
    ["a     b", ["a", "   ", "  ", "b"]],
    ["a\n\n\nb", ["a", "\n\n", "\n", "b"]],
    ["<b>a<c>", ["<b>", "a", "<", "c", ">"]],
    ["é", ["<0xC3>", "<0xA9>"]],
    ["<0x41>", ["<", "<0x30>", "<0x78>", "<0x34>", "<0x31>", ">"]],
    ["<bos>a", ["<bos>", "a"]],
    ["", []],
  ])("%j", (text, expected) => {
    expect(tokenizer.encode(text)).toEqual(expected.map(idOf));
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });

  test("a control token's text is text where a user wrote it, and no begin token is added twice", () => {
    const ids = tokenizer.encodePlain("<bos>");
    expect(ids.some((id) => tokenizer.isSpecial(id))).toBe(false);
    expect(tokenizer.decode(ids)).toBe("<bos>");
    expect(tokenizer.encode("a")).toEqual([idOf("a")]);
  });

  test("half a character is held back", () => {
    expect(tokenizer.tokenBytes(idOf("<0xC3>"))).toEqual(Uint8Array.of(0xc3));
    expect(tokenizer.decode([idOf("<0xC3>")])).toBe("\ufffd");
    expect(tokenizer.decode([idOf("▁ab"), idOf("  ")])).toBe(" ab  ");
  });

  test("a base model that knows the marks of a turn gets Gemma's chat form; a file's own goes first", () => {
    expect(made.tokenizerConfig.chat_template).toContain("<start_of_turn>");
    const own = { ...metadata, "tokenizer.chat_template": "{{ messages }}" };
    const { tokenizerConfig } = tokenizerFromGguf(new Map(Object.entries(own)), "made.gguf");
    expect(tokenizerConfig.chat_template).toBe("{{ messages }}");
    const unmarked = { ...metadata, "tokenizer.ggml.tokens": tokens.map((t) => t.replace("_of_turn", "")) };
    const without = tokenizerFromGguf(new Map(Object.entries(unmarked)), "made.gguf");
    expect(without.tokenizerConfig.chat_template).toBeNull();
  });

  test.each<[object, string]>([
    [{ normalizer: null }, "normalizer is null, expected"],
    [{ normalizer: { type: "Prepend", prepend: "▁" } }, 'normalizer is {"type":"Prepend"'],
    [{ pre_tokenizer: { type: "Metaspace" } }, 'pre_tokenizer is {"type":"Metaspace"}'],
  ])("other tokenizers with byte fallback are refused: %j", (changes, message) => {
    const tokenizerJson = { ...(made.tokenizerJson as object), ...changes };
    expect(() => createTokenizer({ ...made, tokenizerJson })).toThrow(message);
  });
});

describe("refused", () => {
  test.each<[Record<string, GgufValue | undefined>, string]>([
    [
      { "tokenizer.ggml.model": "bert" },
      '"tokenizer.ggml.model" is "bert"; supported: "gpt2" (byte-level BPE), "llama" (SentencePiece, as of Gemma)',
    ],
    [{ "tokenizer.ggml.model": "llama" }, '"tokenizer.ggml.add_space_prefix" is missing; supported: false'],
    [
      { "tokenizer.ggml.model": "llama", "tokenizer.ggml.add_space_prefix": false },
      '"tokenizer.ggml.scores" and "tokenizer.ggml.token_type" must list one number for each of the 15 tokens',
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

// Builds the objects of a Hugging Face tokenizer.json and tokenizer_config.json from GGUF metadata: byte-level BPE here,
// SentencePiece's kind in gguf-sentence-piece.ts. Tokenizes nothing itself.
import { UnsupportedModel } from "../errors.ts";
import { GEMMA_CHAT_TEMPLATE } from "./gemma-chat-template.ts";
import { sentencePieceParts, TOKEN_TYPE } from "./gguf-sentence-piece.ts";
import type { TokenizerParts } from "./gguf-sentence-piece.ts";
import type { GgufMetadata, GgufValue } from "./gguf.ts";
import { unsupportedField } from "./model-config.ts";
import type { ModelTokenizer } from "./model-tokenizer.ts";

/** What `tokenizer.ggml.pre` stands for, in tokenizer.json's terms. */
type PreTokenization = Pick<TokenizerParts, "normalizer" | "preTokenizer" | "ignoreMerges">;

const byteLevel = (useRegex: boolean) => ({
  type: "ByteLevel",
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
});

/** Splits by the regular expression that the models' own tokenizer.json files hold, then maps bytes to characters. */
const splitThenBytes = (pattern: string) => ({
  type: "Sequence",
  pretokenizers: [
    { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false },
    byteLevel(false),
  ],
});

const wordPattern = (digits: string) =>
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" +
  digits +
  "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

export const PRE_TOKENIZATIONS: Readonly<Record<string, PreTokenization>> = {
  smollm: {
    normalizer: null,
    preTokenizer: {
      type: "Sequence",
      pretokenizers: [{ type: "Digits", individual_digits: true }, byteLevel(true)],
    },
    ignoreMerges: false,
  },
  "llama-bpe": {
    normalizer: null,
    preTokenizer: splitThenBytes(wordPattern("\\p{N}{1,3}")),
    ignoreMerges: true,
  },
  qwen2: {
    normalizer: { type: "NFC" },
    preTokenizer: splitThenBytes(wordPattern("\\p{N}")),
    ignoreMerges: false,
  },
};

/** Throws UnsupportedModel naming the key for any other tokenizer model or pre-tokenization. */
export function tokenizerFromGguf(metadata: GgufMetadata, source: string): ModelTokenizer {
  const get = (key: string) => metadata.get(`tokenizer.ggml.${key}`);
  const refuse = (key: string, supported: string) =>
    unsupportedField(source, `tokenizer.ggml.${key}`, get(key), supported);

  const kind = get("model");
  // "llama" is ggml's name for SentencePiece's models.
  if (kind !== "gpt2" && kind !== "llama")
    throw refuse("model", '"gpt2" (byte-level BPE), "llama" (SentencePiece, as of Gemma)');
  const isSentencePiece = kind === "llama";
  if (isSentencePiece && get("add_space_prefix") !== false)
    throw refuse("add_space_prefix", "false (no space before a text)");
  const fileTokens = textArray(metadata, "tokenizer.ggml.tokens", source);
  const types = get("token_type");
  if (types !== undefined && (!Array.isArray(types) || types.length !== fileTokens.length))
    throw new UnsupportedModel(
      `${source}: "tokenizer.ggml.token_type" must list one type for each of the ${fileTokens.length} tokens. Get the file again.`,
      { code: "unsupported_model", param: "tokenizer.ggml.token_type" },
    );

  const { tokens, parts } = isSentencePiece
    ? sentencePieceParts(fileTokens, { scores: get("scores"), types }, source)
    : { tokens: fileTokens, parts: byteLevelParts(metadata, source, refuse) };

  const vocab: Record<string, number> = Object.create(null) as Record<string, number>;
  tokens.forEach((token, id) => (vocab[token] = id));
  const addedTokens = tokens.flatMap((content, id) => {
    const type = types?.[id];
    if (type !== TOKEN_TYPE.control && type !== TOKEN_TYPE.userDefined) return [];
    const special = type === TOKEN_TYPE.control;
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
  });
  const tokenAt = (key: string): string | null => {
    const id = get(key);
    return (typeof id === "number" ? tokens[id] : undefined) ?? null;
  };
  const bosToken = tokenAt("bos_token_id");
  const addsBos = get("add_bos_token") === true && bosToken !== null;
  const isGemma = ["<start_of_turn>", "<end_of_turn>"].every((token) => token in vocab);
  // Gemma's base models know the marks of a turn and come without a template.
  const chatTemplate = metadata.get("tokenizer.chat_template") ?? (isGemma ? GEMMA_CHAT_TEMPLATE : null);
  return {
    tokenizerJson: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: addedTokens,
      normalizer: parts.normalizer,
      pre_tokenizer: parts.preTokenizer,
      post_processor: addsBos ? bosTemplate(bosToken, vocab[bosToken] as number) : null,
      decoder: parts.decoder,
      model: {
        type: "BPE",
        dropout: null,
        unk_token: isSentencePiece ? tokenAt("unknown_token_id") : null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: isSentencePiece,
        byte_fallback: isSentencePiece,
        ignore_merges: parts.ignoreMerges,
        vocab,
        merges: parts.merges,
      },
    },
    tokenizerConfig: {
      tokenizer_class: "PreTrainedTokenizerFast",
      add_bos_token: addsBos,
      add_prefix_space: false,
      clean_up_tokenization_spaces: false,
      chat_template: typeof chatTemplate === "string" ? chatTemplate : null,
      bos_token: bosToken,
      eos_token: tokenAt("eos_token_id"),
      pad_token: tokenAt("padding_token_id"),
      unk_token: tokenAt("unknown_token_id"),
    },
  };
}

function byteLevelParts(
  metadata: GgufMetadata,
  source: string,
  refuse: (key: string, supported: string) => UnsupportedModel,
): TokenizerParts {
  const pre = metadata.get("tokenizer.ggml.pre");
  const rules = typeof pre === "string" ? PRE_TOKENIZATIONS[pre] : undefined;
  if (rules === undefined || !Object.hasOwn(PRE_TOKENIZATIONS, String(pre)))
    throw refuse("pre", Object.keys(PRE_TOKENIZATIONS).join(", "));
  return {
    ...rules,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    merges: textArray(metadata, "tokenizer.ggml.merges", source).map((merge) => splitMerge(merge, source)),
  };
}

function bosTemplate(token: string, id: number): object {
  return {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [
      { SpecialToken: { id: token, type_id: 0 } },
      { Sequence: { id: "A", type_id: 0 } },
      { SpecialToken: { id: token, type_id: 1 } },
      { Sequence: { id: "B", type_id: 1 } },
    ],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}

function textArray(metadata: GgufMetadata, key: string, source: string): string[] {
  const value: GgufValue | undefined = metadata.get(key);
  if (!Array.isArray(value) || value.some((text) => typeof text !== "string"))
    throw new UnsupportedModel(`${source}: "${key}" must be a list of texts. Get the file again.`, {
      code: "unsupported_model",
      param: key,
    });
  return value as string[];
}

/** "left right": byte-level tokens hold no spaces, so there is exactly one. */
function splitMerge(merge: string, source: string): [string, string] {
  const [left, right, ...more] = merge.split(" ");
  if (!left || !right || more.length > 0)
    throw new UnsupportedModel(
      `${source}: "tokenizer.ggml.merges" holds ${JSON.stringify(merge.slice(0, 80))}; expected two tokens with one space between. Get the file again.`,
      { code: "unsupported_model", param: "tokenizer.ggml.merges" },
    );
  return [left, right];
}

// The tokenizer as GGUF metadata: taken over from a base model that is a GGUF file, or made of a tokenizer.json. Tokenizes nothing.
import { isDeepStrictEqual } from "node:util";
import { UnsupportedModel } from "../errors.ts";
import type { GgufMetadata, GgufValue } from "../model/gguf.ts";
import { TOKEN_TYPE } from "../model/gguf-sentence-piece.ts";
import { PRE_TOKENIZATIONS } from "../model/gguf-tokenizer.ts";
import type { ModelConfig } from "../model/model-config.ts";
import type { ModelTokenizer } from "../model/model-tokenizer.ts";
import type { StoredValue } from "./gguf-writer.ts";

/** ggml's type of rows of the embedding that no token has. */
const UNUSED = 5;

/** What ends an answer beside the tokenizer's own end token; null where that is the one. */
export interface EndTokens {
  eos: number | null;
  endOfTurn: number | null;
}

/** What a file that was read from GGUF says of its tokenizer, with the template and the end of a turn that the model was trained with. */
export function copiedVocabulary(
  metadata: GgufMetadata,
  tokenizer: ModelTokenizer,
  ends: EndTokens,
): Map<string, StoredValue> {
  const copied = new Map<string, StoredValue>();
  for (const [key, value] of metadata) {
    const stored = /^tokenizer\.ggml\.\w+$/.test(key) ? storedAs(key, value) : null;
    if (stored !== null) copied.set(key, stored);
  }
  return finished(copied, tokenizer, ends);
}

/** Null for what no reader of these tokenizers looks at. */
function storedAs(key: string, value: GgufValue): StoredValue | null {
  if (typeof value === "string") return { text: value };
  if (typeof value === "boolean") return { bool: value };
  if (typeof value === "number") return Number.isInteger(value) && value >= 0 ? { u32: value } : null;
  if (!Array.isArray(value)) return null;
  if (key === "tokenizer.ggml.scores") return { f32s: value as number[] };
  if (key === "tokenizer.ggml.token_type") return { i32s: value as number[] };
  return value.every((each) => typeof each === "string") ? { texts: value } : null;
}

interface TokenizerJson {
  added_tokens?: { id: number; content: string; special?: boolean }[];
  normalizer?: unknown;
  pre_tokenizer?: unknown;
  model?: {
    type?: string;
    vocab?: Record<string, number>;
    merges?: (string | [string, string])[];
    byte_fallback?: boolean;
  };
}

/** The metadata of a Hugging Face tokenizer. Throws UnsupportedModel for one that llama.cpp has no name for among those known here. */
export function vocabularyOf(
  tokenizer: ModelTokenizer,
  config: ModelConfig,
  ends: EndTokens,
): Map<string, StoredValue> {
  const json = tokenizer.tokenizerJson as TokenizerJson;
  const { vocab, merges } = json.model ?? {};
  if (
    json.model?.type !== "BPE" ||
    vocab === undefined ||
    merges === undefined ||
    json.model.byte_fallback === true
  )
    throw refusal("its tokenizer.json is not byte-level BPE");
  const pre = Object.keys(PRE_TOKENIZATIONS).find((name) => isSamePreTokenization(json, name));
  if (pre === undefined)
    throw refusal(
      `its tokenizer splits text in a way that has none of the names ${Object.keys(PRE_TOKENIZATIONS).join(", ")}`,
    );
  const tokens: string[] = Array.from({ length: config.vocabSize }, (_, id) => `[PAD${id}]`);
  const types: number[] = Array.from({ length: config.vocabSize }, () => UNUSED);
  for (const [token, id] of Object.entries(vocab)) {
    tokens[id] = token;
    types[id] = TOKEN_TYPE.normal;
  }
  for (const { id, content, special } of json.added_tokens ?? []) {
    tokens[id] = content;
    types[id] = special === true ? TOKEN_TYPE.control : TOKEN_TYPE.userDefined;
  }
  if (tokens.length !== config.vocabSize)
    throw refusal(`its tokenizer has ${tokens.length} tokens, the embedding ${config.vocabSize} rows`);
  const { tokenizerConfig } = tokenizer;
  const idOf = (text: unknown): number | null => {
    const id = typeof text === "string" ? tokens.indexOf(text) : -1;
    return id === -1 ? null : id;
  };
  const made = new Map<string, StoredValue>([
    ["tokenizer.ggml.model", { text: "gpt2" }],
    ["tokenizer.ggml.pre", { text: pre }],
    ["tokenizer.ggml.tokens", { texts: tokens }],
    ["tokenizer.ggml.token_type", { i32s: types }],
    [
      "tokenizer.ggml.merges",
      { texts: merges.map((merge) => (typeof merge === "string" ? merge : merge.join(" "))) },
    ],
    // No text of a chat gets one: the template writes it where it belongs.
    ["tokenizer.ggml.add_bos_token", { bool: false }],
    ["tokenizer.ggml.add_eos_token", { bool: false }],
  ]);
  for (const [key, id] of [
    ["bos", idOf(tokenizerConfig.bos_token) ?? config.bosTokenId],
    ["padding", idOf(textOf(tokenizerConfig["pad_token"]))],
    ["unknown", idOf(textOf(tokenizerConfig["unk_token"]))],
  ] as const)
    if (id !== null) made.set(`tokenizer.ggml.${key}_token_id`, { u32: id });
  return finished(made, tokenizer, ends);
}

function textOf(token: unknown): unknown {
  return typeof token === "object" && token !== null && "content" in token ? token.content : token;
}

/** Whether text is cut the same way; offsets and decoding do not matter to it. */
function isSamePreTokenization(json: TokenizerJson, name: string): boolean {
  const known = PRE_TOKENIZATIONS[name];
  const steps = (normalizer: unknown, preTokenizer: unknown) =>
    essentials({ normalizer: normalizer ?? null, preTokenizer });
  return isDeepStrictEqual(
    steps(json.normalizer, json.pre_tokenizer),
    steps(known?.normalizer, known?.preTokenizer),
  );
}

function essentials(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(essentials);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(([key]) => key !== "trim_offsets");
  return Object.fromEntries(kept.map(([key, each]) => [key, essentials(each)]));
}

/** What both ways share: the template, and what ends an answer. */
function finished(
  metadata: Map<string, StoredValue>,
  { tokenizerConfig }: ModelTokenizer,
  { eos, endOfTurn }: EndTokens,
): Map<string, StoredValue> {
  const tokens = metadata.get("tokenizer.ggml.tokens");
  // llama.cpp does not refuse such a file, it ends the process that loads it.
  if (tokens !== undefined && "texts" in tokens && new Set(tokens.texts).size !== tokens.texts.length)
    throw refusal("two of its tokens have the same text");
  if (eos !== null) metadata.set("tokenizer.ggml.eos_token_id", { u32: eos });
  if (endOfTurn !== null) metadata.set("tokenizer.ggml.eot_token_id", { u32: endOfTurn });
  if (tokenizerConfig.chat_template !== null)
    metadata.set("tokenizer.chat_template", { text: tokenizerConfig.chat_template });
  return metadata;
}

function refusal(problem: string): UnsupportedModel {
  return new UnsupportedModel(
    `This model cannot be written as GGUF: ${problem}. Take the format merged, and convert that folder with llama.cpp's own script.`,
    { code: "unsupported_model", param: "format" },
  );
}

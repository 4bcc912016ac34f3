// Text to token ids and back, for byte-level BPE tokenizers (SmolLM2, Llama 3, Qwen) and those of sentence-piece.ts (Gemma).
// Byte-level BPE itself is the library's; this file mends where the library and the Rust original differ and adds exact
// decoding. It knows no chat template.
import * as library from "@huggingface/tokenizers";
import { messageOf, UnsupportedModel } from "../errors.ts";
import { createSentencePieceModel, isSentencePiece, sentencePieceBytes } from "./sentence-piece.ts";
import { createTokenBound } from "./token-bound.ts";
import { anyOf, createWordEncoder, givingWay, GPT2_PATTERN, joined, splitterAt } from "./word-encoder.ts";
import type { LibraryTokenizer, TokenParts } from "./word-encoder.ts";

export { anyOf, type LibraryTokenizer };

export interface TokenizerFiles {
  /** Parsed tokenizer.json. */
  tokenizerJson: unknown;
  /** Parsed tokenizer_config.json. */
  tokenizerConfig: Record<string, unknown>;
  /** Further ids that end a generation, e.g. eos_token_id of generation_config.json. */
  eosTokenIds?: readonly number[];
}

export interface DecodeOptions {
  /** Leaves out control tokens such as <|im_end|>; a non-special added token such as <think> stays. */
  skipSpecialTokens?: boolean;
}

export interface Tokenizer {
  /** Adds no bos or eos. A special token's text becomes the special token, as in transformers. */
  encode(text: string): number[];
  /** As encode, but a special token's text stays ordinary text: for what a user or a file wrote. */
  encodePlain(text: string): number[];
  /** As encode, part by part, so that a server can answer others in between; parts may be empty. */
  encodeInParts(text: string): TokenParts;
  /** As encodePlain, likewise. */
  encodePlainInParts(text: string): TokenParts;
  /** Ids that any encoding of the text has at least, from its bytes alone; stops counting beyond `enough`. */
  readonly leastTokens: (text: string, enough: number) => number;
  /** The text of the ids, bytes that are no UTF-8 as U+FFFD. Never tidies spaces: decode(encode(x)) is x. */
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /** The id of a token by its exact text, added tokens included. */
  tokenId(text: string): number | undefined;
  /** The bytes a token stands for; empty for an id without a token. */
  tokenBytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
  /** Texts of all special tokens, longest first. */
  readonly specialTokens: readonly string[];
  /** The highest id plus one; a model may have more rows than this. */
  readonly vocabSize: number;
  /** Ids that end a generation, the configured eos_token first. */
  readonly eosTokenIds: readonly number[];
}

const { Tokenizer: LibraryTokenizerClass } = library as unknown as {
  Tokenizer: new (json: object, config: object) => LibraryTokenizer;
};

interface AddedToken {
  id: number;
  content: string;
  special: boolean;
}

/** What the two kinds of tokenizers differ in. */
interface TextModel {
  /** As Tokenizer.encodeInParts, for a text that is not empty. */
  encode(text: string): TokenParts;
  /** Ids of a text without added tokens in it. */
  encodePiece(text: string): TokenParts;
  /** What is encoded in a text's stead, as long as its tokens' bytes. */
  normalize: (text: string) => string;
  /** The id of a token of the vocabulary. */
  tokenId(text: string): number | undefined;
  /** By id. */
  tokenBytes: readonly Uint8Array[];
}

/** Throws UnsupportedModel when the files describe neither a byte-level BPE tokenizer nor one of Gemma's kind. */
export function createTokenizer(files: TokenizerFiles): Tokenizer {
  const { tokenizerConfig } = files;
  const isBytes = !isSentencePiece(files.tokenizerJson);
  const json = isBytes ? prepare(files.tokenizerJson) : (files.tokenizerJson as Record<string, unknown>);
  const added = addedTokens(json);
  const model = isBytes ? byteLevelModel(json, tokenizerConfig, added) : sentencePieceModel(json, added);

  const addedIds = new Map(added.map((token) => [token.content, token.id]));
  const special = added.filter((token) => token.special);
  const specialIds = new Set(special.map((token) => token.id));
  const plainSplitter = splitterAt(added.filter((token) => !token.special).map((token) => token.content));
  const bytesOfId = model.tokenBytes;
  const tokenId = (text: string) => addedIds.get(text) ?? model.tokenId(text);

  const self: Tokenizer = {
    encode: (text) => joined(self.encodeInParts(text)),
    encodePlain: (text) => joined(self.encodePlainInParts(text)),
    *encodeInParts(text) {
      if (text !== "") yield* model.encode(text);
    },
    *encodePlainInParts(text) {
      for (const piece of plainSplitter(text)) {
        const known = addedIds.get(piece);
        if (known !== undefined && !specialIds.has(known)) yield [known];
        else yield* model.encodePiece(piece);
      }
    },
    leastTokens: createTokenBound(
      bytesOfId.filter((_, id) => !specialIds.has(id)),
      model.normalize,
    ),
    decode: (ids, options = {}) => {
      const stream = createTextStream(self, options);
      const parts: string[] = [];
      for (const id of ids) parts.push(stream.push(id));
      return parts.join("") + stream.flush();
    },
    tokenId,
    tokenBytes: (id) => bytesOfId[id] ?? NO_BYTES,
    isSpecial: (id) => specialIds.has(id),
    specialTokens: special.map((token) => token.content).sort((a, b) => b.length - a.length),
    vocabSize: bytesOfId.length,
    eosTokenIds: eosIds(tokenizerConfig, tokenId, files.eosTokenIds ?? []),
  };
  return self;
}

function byteLevelModel(
  json: Record<string, unknown>,
  tokenizerConfig: Record<string, unknown>,
  added: readonly AddedToken[],
): TextModel {
  const bytePair = loadTokenizer(json, tokenizerConfig);
  const { model, normalizer } = bytePair;
  const words = createWordEncoder(bytePair, json, tokenizerConfig);
  return {
    encode: (text) => words.encode(text),
    encodePiece: (text) => words.encodeText(text),
    normalize: (text) => normalizer?.normalize(text) ?? text,
    tokenId: (text) => model.tokens_to_ids.get(text),
    tokenBytes: tokenByteTable(model.vocab, added, byteLevelBytes),
  };
}

function sentencePieceModel(json: Record<string, unknown>, added: readonly AddedToken[]): TextModel {
  const model = createSentencePieceModel(json);
  const addedIds = new Map(added.map((token) => [token.content, token.id]));
  const split = splitterAt([...addedIds.keys()]);
  const encodePiece = function* (text: string): TokenParts {
    yield yield* givingWay(model.encodePiece(text));
  };
  // Added tokens other than special ones are text, and written as the vocabulary is.
  const special = added.filter((token) => token.special);
  return {
    *encode(text) {
      for (const piece of split(text)) {
        const id = addedIds.get(piece);
        if (id === undefined) yield* encodePiece(piece);
        else yield [id];
      }
    },
    encodePiece,
    // Spaces are written as another character; their tokens' bytes are those of the text.
    normalize: (text) => text,
    tokenId: model.tokenId,
    tokenBytes: tokenByteTable(model.vocab, special, sentencePieceBytes),
  };
}

/** Turns generated ids into text piece by piece, never half a character. */
export interface TextStream {
  /** The text this token completes; empty while a character's bytes are still incomplete. */
  push(id: number): string;
  /** What was held back, as U+FFFD, and starts afresh. */
  flush(): string;
}

export function createTextStream(
  tokenizer: Pick<Tokenizer, "tokenBytes" | "isSpecial">,
  { skipSpecialTokens = false }: DecodeOptions = {},
): TextStream {
  // ignoreBOM keeps a byte order mark that is part of the text.
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return {
    push: (id) =>
      skipSpecialTokens && tokenizer.isSpecial(id)
        ? ""
        : decoder.decode(tokenizer.tokenBytes(id), { stream: true }),
    flush: () => decoder.decode(),
  };
}

const NO_BYTES = new Uint8Array(0);

/** The library's reading of a tokenizer.json. Throws UnsupportedModel where it has none. */
export function loadTokenizer(
  json: Record<string, unknown>,
  tokenizerConfig: Record<string, unknown>,
): LibraryTokenizer {
  try {
    return new LibraryTokenizerClass(json, tokenizerConfig);
  } catch (error) {
    throw new UnsupportedModel(`tokenizer.json cannot be loaded: ${messageOf(error)}`, { cause: error });
  }
}

/** Checks that this is byte-level BPE and mends what the library does differently from the Rust original. */
function prepare(file: unknown): Record<string, unknown> {
  if (typeof file !== "object" || file === null || Array.isArray(file)) {
    throw new UnsupportedModel("tokenizer.json must hold one JSON object.");
  }
  const json = file as Record<string, unknown>;
  const model = typeOf(json["model"]);
  if (model !== "BPE") throw notByteLevel("model.type", model, "BPE");
  const decoder = typeOf(json["decoder"]);
  if (decoder !== "ByteLevel") throw notByteLevel("decoder.type", decoder, "ByteLevel");
  const vocab = (json["model"] as { vocab?: unknown }).vocab;
  if (typeof vocab !== "object" || vocab === null || Array.isArray(vocab)) {
    throw notByteLevel("model.vocab", typeof vocab, "a map from token to id");
  }
  return {
    ...json,
    normalizer: json["normalizer"] ?? null,
    post_processor: null, // it only adds bos and eos, which a chat template writes itself
    added_tokens: json["added_tokens"] ?? [],
    pre_tokenizer: mendPreTokenizer(json["pre_tokenizer"] ?? null),
  };
}

function notByteLevel(field: string, found: string, expected: string): UnsupportedModel {
  return new UnsupportedModel(
    `tokenizer.json: ${field} is ${found}, expected ${expected}. Only byte-level BPE tokenizers (as of SmolLM2, Llama 3 and Qwen) and Gemma's are supported; use such a model.`,
  );
}

function typeOf(part: unknown): string {
  if (typeof part !== "object" || part === null) return "missing";
  const type = (part as { type?: unknown }).type;
  return typeof type === "string" ? type : "BPE" in part || "merges" in part ? "BPE" : "without a type";
}

/**
 * Two places where the library's regular expressions differ from the Rust original's: `Digits` means ASCII digits only
 * (Rust: every numeric character), and `ByteLevel` splits at JavaScript's \s (which has U+FEFF and lacks U+0085). A `Split`
 * with the same pattern is translated faithfully by the library, so both are written as one.
 */
function mendPreTokenizer(part: unknown): unknown {
  if (typeof part !== "object" || part === null) return part;
  const node = part as Record<string, unknown>;
  switch (node["type"]) {
    case "Sequence": {
      const inner = Array.isArray(node["pretokenizers"]) ? node["pretokenizers"] : [];
      return { ...node, pretokenizers: inner.map(mendPreTokenizer) };
    }
    case "Digits":
      return isolate(node["individual_digits"] === true ? "\\p{N}" : "\\p{N}+");
    case "ByteLevel":
      if (node["use_regex"] === false || node["add_prefix_space"] === true) return node;
      return { type: "Sequence", pretokenizers: [isolate(GPT2_PATTERN), { ...node, use_regex: false }] };
    default:
      return node;
  }
}

function isolate(pattern: string): unknown {
  return { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
}

function addedTokens(json: Record<string, unknown>): AddedToken[] {
  const list = json["added_tokens"];
  if (!Array.isArray(list)) throw new UnsupportedModel("tokenizer.json: added_tokens must be a list.");
  return list.map((entry: Partial<AddedToken> | null, index) => {
    if (typeof entry?.content !== "string" || typeof entry.id !== "number" || entry.content === "") {
      throw new UnsupportedModel(
        `tokenizer.json: added_tokens[${index}] must have a text "content" and a number "id", found ${JSON.stringify(entry)}.`,
      );
    }
    return { id: entry.id, content: entry.content, special: entry.special === true };
  });
}

/** eos_token is a text or an object with the text in `content`. */
function eosIds(
  config: Record<string, unknown>,
  tokenId: (text: string) => number | undefined,
  more: readonly number[],
): number[] {
  const eos = config["eos_token"];
  const text = typeof eos === "object" && eos !== null ? (eos as { content?: unknown }).content : eos;
  const id = typeof text === "string" ? tokenId(text) : undefined;
  return [...new Set([...(id === undefined ? [] : [id]), ...more])];
}

/** Bytes of each id. The vocabulary has a spelling of its own; added tokens are plain text. */
function tokenByteTable(
  vocab: readonly (string | undefined)[],
  added: readonly AddedToken[],
  bytesOf: (entry: string) => Uint8Array,
): Uint8Array[] {
  const encoder = new TextEncoder();
  const plain = new Map(added.map((token) => [token.id, token.content]));
  const size = added.reduce((most, token) => Math.max(most, token.id + 1), vocab.length);
  return Array.from({ length: size }, (_, id) => {
    const text = plain.get(id);
    if (text !== undefined) return encoder.encode(text);
    const entry = vocab[id];
    return entry === undefined ? NO_BYTES : bytesOf(entry);
  });
}

function byteLevelBytes(entry: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of entry) {
    const byte = BYTE_OF_CHARACTER.get(character);
    if (byte === undefined) return new TextEncoder().encode(entry); // not byte-level spelling: a token that means itself
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

/** GPT-2's printable alphabet: printable Latin-1 bytes stand for themselves, the others for U+0100 and up, in order. */
const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = (() => {
  const isPrintable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  const map = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++)
    map.set(String.fromCharCode(isPrintable(byte) ? byte : next++), byte);
  return map;
})();

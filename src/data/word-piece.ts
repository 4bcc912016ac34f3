// Text to token ids for BERT's WordPiece tokenizers (all-MiniLM). Words and pieces are the library's; the normalization is
// written here, after the Rust original (huggingface/tokenizers, normalizers/bert.rs), from which the library's differs: it
// leaves rare CJK characters joined and lowers a Greek sigma by its place in the word.
import { UnsupportedModel } from "../errors.ts";
import { loadTokenizer } from "./tokenizer.ts";
import type { TokenizerFiles } from "./tokenizer.ts";

export interface WordPieceTokenizer {
  /** The ids of a text, without the tokens that frame it. A special token's text is ordinary text. */
  encode(text: string): number[];
  /** As encode, some thousand characters at a time: a long text need not hold up the server, nor be read to its end. */
  encodeInParts(text: string): Generator<number[]>;
  /** [CLS], which stands before every text. */
  readonly startId: number;
  /** [SEP], which stands behind it. */
  readonly endId: number;
  isSpecial(id: number): boolean;
  /** The highest id plus one. */
  readonly vocabSize: number;
}

interface Normalizer {
  clean_text: boolean;
  handle_chinese_chars: boolean;
  strip_accents: boolean | null;
  lowercase: boolean;
}

/** Throws UnsupportedModel when the files do not describe a BERT tokenizer. */
export function createWordPieceTokenizer(files: TokenizerFiles): WordPieceTokenizer {
  const json = objectOf(files.tokenizerJson, "tokenizer.json");
  expectType(json, "model", "WordPiece");
  expectType(json, "pre_tokenizer", "BertPreTokenizer");
  const normalizer = expectType(json, "normalizer", "BertNormalizer") as unknown as Normalizer;
  const { model, pre_tokenizer: preTokenizer } = loadTokenizer(json, files.tokenizerConfig);
  const added = (Array.isArray(json["added_tokens"]) ? json["added_tokens"] : []) as {
    id: number;
    special?: boolean;
  }[];
  const specialIds = new Set(added.filter(({ special }) => special === true).map(({ id }) => id));

  const requireId = (token: string): number => {
    const id = model.tokens_to_ids.get(token);
    if (id === undefined) {
      throw new UnsupportedModel(
        `tokenizer.json: model.vocab must hold ${token}, which BERT's texts need. Get the tokenizer again.`,
        { code: "unsupported_model" },
      );
    }
    return id;
  };
  const unknownId = requireId("[UNK]");
  const encodePart = (part: string): number[] => {
    const text = normalize(part, normalizer);
    const words = preTokenizer?.pre_tokenize(text, { section_index: 0 }) ?? [];
    return model.encode(words).map((token) => model.tokens_to_ids.get(token) ?? unknownId);
  };
  function* encodeInParts(text: string): Generator<number[]> {
    for (const part of parts(text)) yield encodePart(part);
  }
  return {
    encode: (text) => [...encodeInParts(text)].flat(),
    encodeInParts,
    startId: requireId("[CLS]"),
    endId: requireId("[SEP]"),
    isSpecial: (id) => specialIds.has(id),
    vocabSize: Math.max(model.vocab.length, ...added.map(({ id }) => id + 1)),
  };
}

/** As the Rust original does it, in its order. */
function normalize(text: string, options: Normalizer): string {
  let result = text;
  if (options.clean_text) result = result.replace(REMOVED, "").replace(/\p{White_Space}/gu, " ");
  if (options.handle_chinese_chars) result = result.replace(IDEOGRAPH, " $& ");
  if (options.strip_accents ?? options.lowercase) result = result.normalize("NFD").replace(/\p{Mn}/gu, "");
  // The original lowers each character by itself; JavaScript looks at what stands beside a sigma.
  if (options.lowercase) result = result.replaceAll("Σ", "σ").toLowerCase();
  return result;
}

/** Control, format, private and broken characters, but tab and line ends, which are white space here. */
const REMOVED = /[\0\uFFFD]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu;

/** The ranges of the original, with the gap it has before U+2B920. */
const IDEOGRAPH =
  /[\u4E00-\u9FFF\u3400-\u4DBF\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B920}-\u{2CEAF}\uF900-\uFAFF\u{2F800}-\u{2FA1F}]/gu;

/** Characters of text encoded at a time: about 10 ms of work. */
const PART_LENGTH = 16_384;

/**
 * Cuts a text behind white space, punctuation or an ideograph, where no word can go on, so that the parts' tokens are the
 * text's. A longer run without any is one part: it is one word, and words of over 100 characters are unknown.
 */
function* parts(text: string): Generator<string> {
  const wordEnd = /[\p{White_Space}\p{P}\u4E00-\u9FFF]/gu;
  let start = 0;
  while (text.length - start > PART_LENGTH) {
    wordEnd.lastIndex = start + PART_LENGTH;
    const match = wordEnd.exec(text);
    if (match === null) break;
    const end = match.index + match[0].length;
    yield text.slice(start, end);
    start = end;
  }
  if (start < text.length) yield text.slice(start);
}

function objectOf(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new UnsupportedModel(`${what} must hold one JSON object.`, { code: "unsupported_model" });
}

function expectType(
  json: Record<string, unknown>,
  member: string,
  expected: string,
): Record<string, unknown> {
  const part = json[member];
  const found = typeof part === "object" && part !== null && "type" in part ? String(part.type) : "missing";
  if (found === expected) return part as Record<string, unknown>;
  throw new UnsupportedModel(
    `tokenizer.json: ${member}.type is ${found}, expected ${expected}. Only BERT's WordPiece tokenizers can be used for embeddings.`,
    { code: "unsupported_model" },
  );
}

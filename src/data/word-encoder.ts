// Byte-level BPE with a memory for words. The library cuts a text into words by regular expressions, spells their bytes and looks
// each up again, for every occurrence: ten times the work of remembering what a word with the space before it became. Its merging
// of one long word, such as a megabyte of spaces, takes seconds in one go, so long words are merged here, in steps.
import type { Steps } from "../steps.ts";
import { mergeAll, readMerges, STEP_LENGTH } from "./byte-pair.ts";
import type { Merges } from "./byte-pair.ts";

/** The used part of the library's Tokenizer, whose own type files TypeScript cannot resolve (imports without extension). */
export interface LibraryTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  normalizer: { normalize(text: string): string } | null;
  pre_tokenizer: { pre_tokenize(text: string, options: { section_index: number }): string[] } | null;
  model: {
    vocab: (string | undefined)[];
    tokens_to_ids: Map<string, number>;
    encode(words: string[]): string[];
  };
}

/** Words that are remembered, a few MB of them; then all are forgotten, which a text in a second language would otherwise never be. */
const MAX_WORDS = 50_000;
/** Characters of a word that is worth remembering: longer ones hardly come again. */
const MAX_WORD_LENGTH = 48;

/** The pattern ByteLevel has built in: tokenizers, pre_tokenizers/byte_level.rs. */
export const GPT2_PATTERN =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** Digits on their own, GPT-2's words, and those of Llama 3 and Qwen with numbers of up to three digits or one. */
const WORD_PATTERNS: ReadonlySet<string> = new Set([
  "\\p{N}",
  "\\p{N}+",
  GPT2_PATTERN,
  ...["\\p{N}{1,3}", "\\p{N}"].map(
    (digits) =>
      `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`,
  ),
]);

/** Characters whose ids come at once: about a millisecond of work for words seen before, ten for new ones. */
const PART_LENGTH = 16_384;

/** Bytes of a word that the library merges: it takes half a millisecond for one of these. */
const MAX_LIBRARY_WORD = 256;

/** Ids of a text, part by part, so that a caller may do something else in between; parts may be empty. */
export type TokenParts = Generator<readonly number[], void, void>;

export interface WordEncoder {
  /** As Tokenizer.encodeInParts. */
  encode(text: string): TokenParts;
  /** Ids of a text none of whose parts is an added token. */
  encodeText(text: string): TokenParts;
}

interface AddedToken {
  id: number;
  content: string;
  lstrip?: boolean;
  rstrip?: boolean;
  single_word?: boolean;
  normalized?: boolean;
}

/** `json`: the tokenizer.json that the library was given. Text that cannot be cut at words safely goes to the library whole. */
export function createWordEncoder(
  bytePair: LibraryTokenizer,
  json: Readonly<Record<string, unknown>>,
  config: Readonly<Record<string, unknown>>,
): WordEncoder {
  const { model, normalizer, pre_tokenizer: preTokenizer } = bytePair;
  const idOf = (token: string): number => {
    const id = model.tokens_to_ids.get(token);
    if (id === undefined)
      throw new Error(`internal: the tokenizer made ${JSON.stringify(token)}, which has no id`);
    return id;
  };
  const longWord = createLongWordEncoder(bytePair, json);
  const encodeWords = function* (text: string): TokenParts {
    const words = preTokenizer === null ? [text] : preTokenizer.pre_tokenize(text, { section_index: 0 });
    let short: string[] = [];
    let length = 0;
    const takeShort = (): number[] => {
      const ids = model.encode(short).map(idOf);
      short = [];
      length = 0;
      return ids;
    };
    for (const word of words) {
      if (length + word.length > PART_LENGTH) yield takeShort();
      const steps = word.length > MAX_LIBRARY_WORD ? longWord(word) : null;
      if (steps !== null) {
        if (short.length > 0) yield takeShort();
        const ids = yield* givingWay(steps);
        if (ids !== null) {
          yield ids;
          continue;
        }
      }
      short.push(word);
      length += word.length;
    }
    if (short.length > 0) yield takeShort();
  };
  const encodeNormal = cutsAtSpaces(json["pre_tokenizer"]) ? remembering(encodeWords) : encodeWords;
  const encodeText = function* (text: string): TokenParts {
    const normal = normalizer === null ? text : normalizer.normalize(text);
    if (normal !== "") yield* encodeNormal(normal);
  };
  const added = json["added_tokens"] as readonly AddedToken[];
  if (!added.every((token) => isPlain(token, normalizer !== null)) || changesText(config))
    return {
      *encode(text) {
        yield bytePair.encode(text, { add_special_tokens: false }).ids;
      },
      encodeText,
    };
  const ids = new Map(added.map(({ content, id }) => [content, id]));
  const split = splitterAt([...ids.keys()]);
  return {
    *encode(text) {
      for (const part of split(text)) {
        const id = ids.get(part);
        if (id === undefined) yield* encodeText(part);
        else yield [id];
      }
    },
    encodeText,
  };
}

/** All parts in one list. */
export function joined(parts: Iterable<readonly number[]>): number[] {
  const found: number[] = [];
  for (const part of parts) append(found, part);
  return found;
}

/** Steps as parts without ids. */
export function* givingWay<T>(steps: Steps<T>): Generator<readonly number[], T, void> {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    yield [];
  }
}

/** A word as the pre-tokenizer spells it, with the library's ids; null for what only the library knows how to merge. */
function createLongWordEncoder(
  { model }: LibraryTokenizer,
  json: Readonly<Record<string, unknown>>,
): (word: string) => Steps<number[] | null> {
  const rules = json["model"] as Readonly<Record<string, unknown>>;
  const affixes = ["end_of_word_suffix", "continuing_subword_suffix", "continuing_subword_prefix"];
  const isPlainModel = affixes.every((affix) => !rules[affix]) && Array.isArray(rules["merges"]);
  /** Read with the first long word: most texts have none. */
  let merges: Merges | { strange: number } | null = null;
  return function* (word) {
    if (!isPlainModel) return null;
    const whole = rules["ignore_merges"] === true ? model.tokens_to_ids.get(word) : undefined;
    if (whole !== undefined) return [whole];
    merges ??= yield* readMerges(rules["merges"] as unknown[], model.tokens_to_ids);
    if (!("ranks" in merges)) return null;
    const symbols: number[] = [];
    for (const character of word) {
      const id = model.tokens_to_ids.get(character);
      if (id === undefined) return null;
      if (symbols.push(id) % STEP_LENGTH === 0) yield;
    }
    return yield* mergeAll(symbols, merges);
  };
}

function remembering(encodeWords: (text: string) => TokenParts): (text: string) => TokenParts {
  const known = new Map<string, readonly number[]>();
  return function* (text) {
    let found: number[] = [];
    let start = 0;
    let partStart = 0;
    for (let i = 1; i <= text.length; i++) {
      if (i < text.length && !endsAt(text, i)) continue;
      const word = text.slice(start, i);
      start = i;
      if (word.length > MAX_WORD_LENGTH) {
        yield found;
        found = [];
        yield* encodeWords(word);
        continue;
      }
      let ids = known.get(word);
      if (ids === undefined) {
        ids = joined(encodeWords(word));
        if (known.size >= MAX_WORDS) known.clear();
        known.set(word, ids);
      }
      append(found, ids);
      if (i - partStart < PART_LENGTH) continue;
      yield found;
      found = [];
      partStart = i;
    }
    yield found;
  };
}

const SPACE = 0x20;
const LAST_ASCII = 0x7e;
const LETTER = /\p{L}/u;

/**
 * Whether every pattern above ends a word before the character at `i`, whatever else the text says: a space behind a printable
 * character or a letter, and a punctuation mark behind a letter or digit. All begin a word anew there and look at nothing before
 * it. Half a surrogate pair is no letter, so none is cut.
 */
function endsAt(text: string, i: number): boolean {
  const next = text.charCodeAt(i);
  if (next < SPACE || next > LAST_ASCII || isAlphanumeric(next)) return false;
  const last = text.charCodeAt(i - 1);
  if (last > LAST_ASCII) return LETTER.test(text.charAt(i - 1));
  return isAlphanumeric(last) || (next === SPACE && last > SPACE);
}

function isAlphanumeric(code: number): boolean {
  return (code >= 0x30 && code <= 0x39) || (code >= 0x41 && code <= 0x5a) || (code >= 0x61 && code <= 0x7a);
}

/** By index: a spread of a long list overflows the stack. */
function append(list: number[], more: readonly number[]): void {
  for (let i = 0; i < more.length; i++) list.push(more[i] as number);
}

/** Whether a pre-tokenizer consists of the patterns above alone. */
function cutsAtSpaces(part: unknown): boolean {
  const node = part as Readonly<Record<string, unknown>> | null;
  switch (node?.["type"]) {
    case "Sequence":
      return (node["pretokenizers"] as readonly unknown[]).every(cutsAtSpaces);
    case "Split": {
      const { Regex: pattern } = (node["pattern"] ?? {}) as { Regex?: string };
      return node["behavior"] === "Isolated" && node["invert"] !== true && WORD_PATTERNS.has(pattern ?? "");
    }
    case "ByteLevel":
      return node["use_regex"] === false && node["add_prefix_space"] !== true;
    default:
      return false;
  }
}

function isPlain({ lstrip, rstrip, single_word, normalized }: AddedToken, hasNormalizer: boolean): boolean {
  return !lstrip && !rstrip && !single_word && !(normalized === true && hasNormalizer);
}

function changesText(config: Readonly<Record<string, unknown>>): boolean {
  return config["remove_space"] === true || config["do_lowercase_and_remove_accent"] === true;
}

/** Cuts a text at the given tokens, keeping them; the longest wins where two begin at one place. */
export function splitterAt(tokens: readonly string[]): (text: string) => string[] {
  if (tokens.length === 0) return (text) => (text === "" ? [] : [text]);
  const pattern = anyOf(tokens);
  return (text) => text.split(pattern).filter((piece) => piece !== "");
}

/** A pattern with one capture group that matches any of the texts, the longest first. */
export function anyOf(texts: readonly string[]): RegExp {
  const longestFirst = [...texts].sort((a, b) => b.length - a.length);
  return new RegExp(
    `(${longestFirst.map((text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|")})`,
  );
}

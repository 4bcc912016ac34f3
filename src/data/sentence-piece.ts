// Byte-pair merging on characters as SentencePiece's models have it (Gemma): spaces become ▁, and a character without a token
// becomes its bytes' tokens. The library's own merging knows no such bytes and rescans its words, which here are whole texts.
// Semantics of huggingface/tokenizers models/bpe (byte_fallback); it knows no special tokens.
import { UnsupportedModel } from "../errors.ts";

/** Texts without added tokens to ids, and what ids stand for. */
export interface SentencePieceModel {
  encodePiece: (text: string) => number[];
  tokenId: (text: string) => number | undefined;
  /** By id; undefined for ids without a token. */
  readonly vocab: readonly (string | undefined)[];
}

const encoder = new TextEncoder();

/** How SentencePiece spells a space. */
const SPACE = "▁";

/** Whether a tokenizer.json is of this kind: byte-pair merging whose decoder puts bytes together. */
export function isSentencePiece(json: unknown): boolean {
  const { model, decoder } = (json ?? {}) as {
    model?: { byte_fallback?: unknown } | null;
    decoder?: unknown;
  };
  return model?.byte_fallback === true && JSON.stringify(decoder ?? null).includes('"ByteFallback"');
}

/** Throws UnsupportedModel naming the member that would change the ids in a way this file does not know. */
export function createSentencePieceModel(json: Record<string, unknown>): SentencePieceModel {
  requirePart(json, "normalizer", { type: "Replace", pattern: { String: " " }, content: SPACE });
  if (json["pre_tokenizer"]) {
    // Behind the normalizer there is no space left to split at.
    const expected = {
      type: "Split",
      pattern: { String: " " },
      behavior: "MergedWithPrevious",
      invert: false,
    };
    requirePart(json, "pre_tokenizer", expected);
  }
  const model = json["model"] as Record<string, unknown>;
  for (const member of ["continuing_subword_prefix", "end_of_word_suffix", "dropout"])
    if (model[member]) throw refused(`model.${member}`, model[member], "none");
  if (model["ignore_merges"] === true) throw refused("model.ignore_merges", true, "false");

  const ids = vocabularyOf(model["vocab"]);
  const merges = readMerges(model["merges"], ids);
  const byteIds = Array.from({ length: 256 }, (_, byte) => ids.get(byteName(byte)));
  const unknownId = typeof model["unk_token"] === "string" ? ids.get(model["unk_token"]) : undefined;
  /** Ids of single characters, of their bytes where they have none. */
  const symbolsOf = (text: string): number[] => {
    const symbols: number[] = [];
    for (const character of text) {
      const id = ids.get(character);
      if (id !== undefined) {
        symbols.push(id);
        continue;
      }
      const bytes = Array.from(encoder.encode(character), (byte) => byteIds[byte]);
      if (bytes.every((byte) => byte !== undefined)) symbols.push(...bytes);
      else if (unknownId !== undefined) symbols.push(unknownId);
      else throw refused("model.vocab", `without ${JSON.stringify(character)}`, "a token for every byte");
    }
    return symbols;
  };

  const vocab: (string | undefined)[] = [];
  for (const [text, id] of ids) vocab[id] = text;
  return {
    encodePiece: (text) => mergeAll(symbolsOf(text.replaceAll(" ", SPACE)), merges),
    tokenId: (text) => ids.get(text),
    vocab,
  };
}

/** The bytes a token's text stands for. */
export function sentencePieceBytes(text: string): Uint8Array {
  const byte = /^<0x([0-9A-F]{2})>$/.exec(text)?.[1];
  return byte === undefined
    ? encoder.encode(text.replaceAll(SPACE, " "))
    : Uint8Array.of(Number.parseInt(byte, 16));
}

function byteName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

/** Which two tokens become which; the lower the rank, the earlier. */
interface Merges {
  /** By left id * width + right id: the rank. */
  ranks: ReadonlyMap<number, number>;
  width: number;
  /** By rank. */
  results: Int32Array;
}

function readMerges(list: unknown, ids: ReadonlyMap<string, number>): Merges {
  if (!Array.isArray(list)) throw refused("model.merges", typeof list, "a list");
  let width = 0;
  for (const id of ids.values()) width = Math.max(width, id + 1);
  const ranks = new Map<number, number>();
  const results = new Int32Array(list.length);
  for (const [rank, entry] of list.entries()) {
    const pair: unknown = typeof entry === "string" ? entry.split(" ") : entry;
    const [left, right] = pair as [string, string];
    const [leftId, rightId, result] = [ids.get(left), ids.get(right), ids.get(left + right)];
    if (leftId === undefined || rightId === undefined || result === undefined)
      throw refused(`model.merges[${rank}]`, JSON.stringify(entry), "two tokens that make up a third");
    const key = leftId * width + rightId;
    if (!ranks.has(key)) ranks.set(key, rank);
    results[rank] = result;
  }
  return { ranks, width, results };
}

/** A place and a rank in one number, ordered by rank, then place: both are far below 2^26. */
const PLACES = 2 ** 26;

/** Merges neighbours, always those of the lowest rank and of equal ones the first, until none can be. */
function mergeAll(symbols: number[], { ranks, width, results }: Merges): number[] {
  const count = symbols.length;
  if (count >= PLACES) throw new Error(`internal: a text of ${count} characters is too long to tokenize`);
  const next = Int32Array.from({ length: count }, (_, i) => (i + 1 < count ? i + 1 : -1));
  const previous = Int32Array.from({ length: count }, (_, i) => i - 1);
  const isGone = new Uint8Array(count);
  const queue = new MinimumQueue();
  const rankAt = (place: number): number | undefined => {
    const right = next[place] as number;
    return right < 0 ? undefined : ranks.get((symbols[place] as number) * width + (symbols[right] as number));
  };
  const offer = (place: number) => {
    const rank = rankAt(place);
    if (rank !== undefined) queue.push(rank * PLACES + place);
  };
  for (let place = 0; place < count; place++) offer(place);
  for (let entry = queue.pop(); entry !== undefined; entry = queue.pop()) {
    const place = entry % PLACES;
    const rank = (entry - place) / PLACES;
    // Entries of pairs that are no longer there stay in the queue and are passed over here.
    if (isGone[place] === 1 || rankAt(place) !== rank) continue;
    const right = next[place] as number;
    symbols[place] = results[rank] as number;
    isGone[right] = 1;
    const after = next[right] as number;
    next[place] = after;
    if (after >= 0) previous[after] = place;
    offer(place);
    if ((previous[place] as number) >= 0) offer(previous[place] as number);
  }
  return symbols.filter((_, place) => isGone[place] === 0);
}

/** A binary heap of numbers. */
class MinimumQueue {
  readonly #items: number[] = [];

  push(item: number): void {
    const items = this.#items;
    let at = items.length;
    items.push(item);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((items[parent] as number) <= item) break;
      items[at] = items[parent] as number;
      at = parent;
    }
    items[at] = item;
  }

  /** The smallest; undefined when empty. */
  pop(): number | undefined {
    const items = this.#items;
    const smallest = items[0];
    const item = items.pop();
    if (item === undefined || items.length === 0) return smallest;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && (items[child + 1] as number) < (items[child] as number)) child += 1;
      if ((items[child] as number) >= item) break;
      items[at] = items[child] as number;
      at = child;
    }
    items[at] = item;
    return smallest;
  }
}

function vocabularyOf(vocab: unknown): Map<string, number> {
  if (typeof vocab !== "object" || vocab === null || Array.isArray(vocab))
    throw refused("model.vocab", typeof vocab, "a map from token to id");
  return new Map(Object.entries(vocab as Record<string, number>));
}

function requirePart(json: Record<string, unknown>, member: string, expected: Record<string, unknown>): void {
  const found = json[member] as Record<string, unknown> | null | undefined;
  for (const [key, value] of Object.entries(expected))
    if (JSON.stringify(found?.[key]) !== JSON.stringify(value))
      throw refused(member, JSON.stringify(found ?? null), JSON.stringify(expected));
}

function refused(member: string, found: unknown, expected: string): UnsupportedModel {
  return new UnsupportedModel(
    `tokenizer.json: ${member} is ${String(found).slice(0, 200)}, expected ${expected}. Of tokenizers with byte fallback, Gemma's are supported; use such a model.`,
  );
}

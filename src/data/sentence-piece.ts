// Byte-pair merging on characters as SentencePiece's models have it (Gemma): spaces become ▁, and a character without a token
// becomes its bytes' tokens. The library's own merging knows no such bytes and rescans its words, which here are whole texts.
// Semantics of huggingface/tokenizers models/bpe (byte_fallback); it knows no special tokens.
import { UnsupportedModel } from "../errors.ts";
import { finish } from "../steps.ts";
import type { Steps } from "../steps.ts";
import { mergeAll, readMerges, STEP_LENGTH } from "./byte-pair.ts";
import type { Merges } from "./byte-pair.ts";

/** Texts without added tokens to ids, and what ids stand for. */
export interface SentencePieceModel {
  encodePiece: (text: string) => Steps<number[]>;
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
  const merges = mergesOf(model["merges"], ids);
  const byteIds = Array.from({ length: 256 }, (_, byte) => ids.get(byteName(byte)));
  const unknownId = typeof model["unk_token"] === "string" ? ids.get(model["unk_token"]) : undefined;
  /** Ids of single characters, of their bytes where they have none. */
  const symbolsOf = function* (text: string): Steps<number[]> {
    const symbols: number[] = [];
    let read = 0;
    for (const character of text) {
      if (++read % STEP_LENGTH === 0) yield;
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
    *encodePiece(text) {
      return yield* mergeAll(yield* symbolsOf(text.replaceAll(" ", SPACE)), merges);
    },
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

function mergesOf(list: unknown, ids: ReadonlyMap<string, number>): Merges {
  if (!Array.isArray(list)) throw refused("model.merges", typeof list, "a list");
  const merges = finish(readMerges(list, ids));
  if ("ranks" in merges) return merges;
  const { strange } = merges;
  throw refused(`model.merges[${strange}]`, JSON.stringify(list[strange]), "two tokens that make up a third");
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

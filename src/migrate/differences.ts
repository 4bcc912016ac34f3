// What two answers to one prompt have in common: pure measures on their texts, and how far apart they are for the list of the worst.
import type { AnswerMessage } from "./recording.ts";

export interface PairMeasures {
  exact: boolean;
  /** Whether the new answer is JSON; null where the old one is not. */
  formatValid: boolean | null;
  oldCharacters: number;
  newCharacters: number;
}

/** What an answer says, as one text: its content, or the tools it calls with their arguments in one order of members. */
export function answerText({ content, tool_calls: calls, refusal }: AnswerMessage): string {
  const called = (calls ?? []).map(
    ({ function: { name, arguments: given } }) => `${name}(${canonicalJson(given)})`,
  );
  return [content ?? "", refusal ?? "", ...called].filter((part) => part !== "").join("\n");
}

export function measure(oldText: string, newText: string): PairMeasures {
  const wanted = jsonOf(oldText);
  return {
    exact: oldText.trim() === newText.trim(),
    formatValid: wanted === undefined ? null : jsonOf(newText) !== undefined,
    oldCharacters: oldText.length,
    newCharacters: newText.length,
  };
}

/** An object or an array; a number or a quoted word is not meant as JSON. Undefined for anything else. */
function jsonOf(text: string): object | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null ? parsed : undefined;
  } catch {
    return undefined;
  }
}

function canonicalJson(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), (_key, value: unknown) =>
      typeof value === "object" && value !== null && !Array.isArray(value)
        ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
        : value,
    );
  } catch {
    return text;
  }
}

/** Words in common, 0 to 1 (Dice's coefficient over the words with their numbers): where there are no embeddings. */
export function wordOverlap(first: string, second: string): number {
  const [a, b] = [wordCounts(first), wordCounts(second)];
  const size = (counts: Map<string, number>): number =>
    [...counts.values()].reduce((sum, count) => sum + count, 0);
  const total = size(a) + size(b);
  if (total === 0) return 1;
  let common = 0;
  for (const [word, count] of a) common += Math.min(count, b.get(word) ?? 0);
  return (2 * common) / total;
}

function wordCounts(text: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const word of text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [])
    counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}

/** Cosine of two vectors, which need not have length 1. */
export function cosine(a: readonly number[], b: readonly number[]): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] ?? 0, b[i] ?? 0];
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  return aa === 0 || bb === 0 ? 0 : dot / Math.sqrt(aa * bb);
}

/** 0: nothing to complain of; from 1: the format is lost, or there is no new answer at all. */
export function distance(pair: {
  answered: boolean;
  exact: boolean;
  formatValid: boolean | null;
  likeness: number;
  /** Graders' scores of the old answer less those of the new one. */
  graderDrops: readonly number[];
}): number {
  if (!pair.answered) return 2;
  const drop = Math.max(0, ...pair.graderDrops);
  if (pair.exact) return drop;
  return Math.max(pair.formatValid === false ? 1 : 0, 1 - pair.likeness, drop);
}

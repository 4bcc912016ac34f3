// Fuzzy matching: rapidfuzz's WRatio over default_process (rapidfuzz 3.14), divided by 100. It takes the best of comparing
// the texts whole, part by part and word by word, each with its own discount.
import { commonLength, Pattern } from "./common-subsequence.ts";
import type { Pace } from "./pace.ts";
import { byCodePoints, codePoints, splitWords, wordsOnly } from "./python-text.ts";

/** Discount of comparing sorted or shared words instead of the texts as they are. */
const WORDS_DISCOUNT = 0.95;
/** Texts nearer in length than this are not compared part by part. */
const PARTIAL_FROM_LENGTH_RATIO = 1.5;
/** Discount of comparing the shorter text with the best part of the longer one, and the larger one where it is far longer. */
const PARTIAL_DISCOUNT = 0.9;
const FAR_LONGER_RATIO = 8;
const FAR_PARTIAL_DISCOUNT = 0.6;

/** From 0 (nothing in common, or one text has no words) to 1. */
export async function fuzzyMatch(input: string, reference: string, pace: Pace): Promise<number> {
  const [first, second] = [wordsOnly(input), wordsOnly(reference)];
  const lengths = [codePoints(first).length, codePoints(second).length];
  const [shorter, longer] = [Math.min(...lengths), Math.max(...lengths)];
  if (shorter === 0) return 0;
  const whole = await ratio(first, second, pace);
  if (longer / shorter < PARTIAL_FROM_LENGTH_RATIO) {
    return Math.max(whole, (await wordRatio(first, second, pace)) * WORDS_DISCOUNT);
  }
  const discount = longer / shorter <= FAR_LONGER_RATIO ? PARTIAL_DISCOUNT : FAR_PARTIAL_DISCOUNT;
  const partial = (await partialRatio(first, second, pace)) * discount;
  const words = (await partialWordRatio(first, second, pace)) * WORDS_DISCOUNT * discount;
  return Math.max(whole, partial, words);
}

/** The share of characters in the longest common subsequence: 2·LCS / (length + length). */
async function ratio(first: string, second: string, pace: Pace): Promise<number> {
  const [a, b] = [codePoints(first), codePoints(second)];
  if (a.length + b.length === 0) return 1;
  return (2 * (await commonLength(new Pattern(a), b, pace))) / (a.length + b.length);
}

/** The best of comparing sorted words, and of comparing the words that both have with those that only one has. */
async function wordRatio(first: string, second: string, pace: Pace): Promise<number> {
  const sorted = await ratio(sortedText(splitWords(first)), sortedText(splitWords(second)), pace);
  const { shared, onlyFirst, onlySecond } = compareWords(first, second);
  if (shared.length > 0 && (onlyFirst.length === 0 || onlySecond.length === 0)) return 1;
  const [restA, restB] = [codePoints(sortedText(onlyFirst)), codePoints(sortedText(onlySecond))];
  const sharedLength = codePoints(shared.join(" ")).length;
  const gap = sharedLength === 0 ? 0 : 1;
  const [lengthA, lengthB] = [sharedLength + gap + restA.length, sharedLength + gap + restB.length];
  // Both texts begin with the shared words, so only the rest can differ.
  const distance = restA.length + restB.length - 2 * (await commonLength(new Pattern(restA), restB, pace));
  const sets = 1 - distance / (lengthA + lengthB);
  if (sharedLength === 0) return Math.max(sorted, sets);
  const sharedToA = 1 - (gap + restA.length) / (sharedLength + lengthA);
  const sharedToB = 1 - (gap + restB.length) / (sharedLength + lengthB);
  return Math.max(sorted, sets, sharedToA, sharedToB);
}

/** Like wordRatio with the shorter text against the best part of the longer; one shared word is enough for 1. */
async function partialWordRatio(first: string, second: string, pace: Pace): Promise<number> {
  const { shared, onlyFirst, onlySecond } = compareWords(first, second);
  if (shared.length > 0) return 1;
  const [wordsA, wordsB] = [splitWords(first), splitWords(second)];
  const sorted = await partialRatio(sortedText(wordsA), sortedText(wordsB), pace);
  if (wordsA.length === onlyFirst.length && wordsB.length === onlySecond.length) return sorted;
  return Math.max(sorted, await partialRatio(sortedText(onlyFirst), sortedText(onlySecond), pace));
}

function compareWords(first: string, second: string) {
  const [a, b] = [new Set(splitWords(first)), new Set(splitWords(second))];
  return {
    shared: [...a].filter((word) => b.has(word)),
    onlyFirst: [...a].filter((word) => !b.has(word)),
    onlySecond: [...b].filter((word) => !a.has(word)),
  };
}

const sortedText = (words: readonly string[]) => [...words].sort(byCodePoints).join(" ");

/** The best ratio of the shorter text and a part of the longer one that is no longer than it. */
async function partialRatio(first: string, second: string, pace: Pace): Promise<number> {
  const [a, b] = [codePoints(first), codePoints(second)];
  if (a.length + b.length === 0) return 1;
  if (a.length === b.length) {
    return Math.max(await bestPart(a, b, pace), await bestPart(b, a, pace));
  }
  return a.length < b.length ? bestPart(a, b, pace) : bestPart(b, a, pace);
}

async function bestPart(shorter: number[], longer: number[], pace: Pace): Promise<number> {
  const length = shorter.length;
  if (length === 0) return 0;
  const pattern = new Pattern(shorter);
  let best = Math.max(
    await bestBeginning(pattern, longer, pace),
    // What is true of beginnings is true of ends of the reversed texts.
    await bestBeginning(new Pattern(shorter.toReversed()), longer.toReversed(), pace),
  );
  // Moving the window by k characters changes the common length by at most k, so windows that cannot win are jumped over.
  for (let start = 0; start + length <= longer.length;) {
    const common = await commonLength(pattern, longer, pace, { start, end: start + length });
    best = Math.max(best, common / length);
    if (best === 1) return 1;
    start += Math.max(1, Math.floor(best * length) + 1 - common);
  }
  return best;
}

/** The best ratio of the pattern and a beginning of the text that is shorter than the pattern. */
async function bestBeginning(pattern: Pattern<number>, text: readonly number[], pace: Pace): Promise<number> {
  let best = 0;
  pattern.start();
  for (let i = 0; i < pattern.length - 1 && i < text.length; i++) {
    pattern.read(text[i] ?? 0);
    best = Math.max(best, (2 * pattern.common()) / (pattern.length + i + 1));
    const rest = pace.spend(2 * pattern.words + 1);
    if (rest !== undefined) await rest;
  }
  return best;
}

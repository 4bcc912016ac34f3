// Scores from n-grams: BLEU and GLEU as nltk 3.10 computes them for one sentence and one reference with its defaults, ROUGE-N
// and ROUGE-L as rouge-score 0.1.2 (F-measure, no stemmer). Everything is a number from 0 to 1.
import { commonLength, Pattern } from "./common-subsequence.ts";
import type { Pace } from "./pace.ts";
import { splitWords } from "./python-text.ts";

const BLEU_ORDERS = [1, 2, 3, 4] as const;

/** Stands for a precision of zero, whose logarithm does not exist: the smallest normal double, as in nltk without smoothing. */
const SMALLEST_NORMAL = 2.2250738585072014e-308;

/** BLEU (Papineni et al. 2002) with orders 1 to 4 weighted alike and no smoothing; near 0 for texts of fewer than four words. */
export function bleu(input: string, reference: string): number {
  const [hypothesis, target] = [splitWords(input), splitWords(reference)];
  const precisions = BLEU_ORDERS.map((order) => {
    const grams = countGrams(hypothesis, order);
    return { matches: overlap(grams, countGrams(target, order)), all: Math.max(1, total(grams)) };
  });
  if (precisions[0]?.matches === 0) return 0;
  const logs = precisions.map(({ matches, all }) =>
    Math.log(matches === 0 ? SMALLEST_NORMAL : matches / all),
  );
  const mean = logs.reduce((sum, each) => sum + each / BLEU_ORDERS.length, 0);
  const isShort = hypothesis.length <= target.length;
  const brevityPenalty = isShort ? Math.exp(1 - target.length / hypothesis.length) : 1;
  return brevityPenalty * Math.exp(mean);
}

/** Google-BLEU (Wu et al. 2016): the smaller of precision and recall over all n-grams of orders 1 to 4. */
export function gleu(input: string, reference: string): number {
  const all = (text: string) => {
    const words = splitWords(text);
    return new Map(BLEU_ORDERS.flatMap((order) => [...countGrams(words, order)]));
  };
  const [hypothesis, target] = [all(input), all(reference)];
  const most = Math.max(total(hypothesis), total(target));
  return most === 0 ? 0 : overlap(hypothesis, target) / most;
}

/** ROUGE-N (Lin 2004): the F-measure of n-grams. */
export function rougeN(order: number, input: string, reference: string): number {
  const [prediction, target] = [
    countGrams(rougeWords(input), order),
    countGrams(rougeWords(reference), order),
  ];
  const matches = overlap(prediction, target);
  return fMeasure(matches / Math.max(total(prediction), 1), matches / Math.max(total(target), 1));
}

/** ROUGE-L (Lin 2004): the F-measure of the longest common subsequence of words. */
export async function rougeL(input: string, reference: string, pace: Pace): Promise<number> {
  const [prediction, target] = [rougeWords(input), rougeWords(reference)];
  if (prediction.length === 0 || target.length === 0) return 0;
  const common = await commonLength(new Pattern(target), prediction, pace);
  return fMeasure(common / prediction.length, common / target.length);
}

function fMeasure(precision: number, recall: number): number {
  return precision + recall === 0 ? 0 : (2 * precision * recall) / (precision + recall);
}

/** Lower-case runs of ASCII letters and digits; rouge-score takes everything else for white space. */
const rougeWords = (text: string) => text.toLowerCase().match(/[a-z0-9]+/g) ?? [];

type Counts = ReadonlyMap<string, number>;

/** How often each n-gram occurs; words hold no spaces, so a space joins them without doubt. */
function countGrams(words: readonly string[], order: number): Counts {
  const counts = new Map<string, number>();
  for (let i = 0; i + order <= words.length; i++) {
    const gram = words.slice(i, i + order).join(" ");
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}

function total(counts: Counts): number {
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}

/** N-grams that both have, each as often as in the one that has fewer. */
function overlap(first: Counts, second: Counts): number {
  let matches = 0;
  for (const [gram, count] of first) matches += Math.min(count, second.get(gram) ?? 0);
  return matches;
}

// METEOR (Lavie and Agarwal 2007) as nltk 3.10 computes it with its defaults: words are matched exactly, then by stem, then,
// where a WordNet is there, by synonym; then precision, recall and the order of the matches are weighed.
import { porterStem } from "./porter-stemmer.ts";
import { splitWords } from "./python-text.ts";

/** Synonyms of a word in lower case, itself left out or not. */
export type Synonyms = (word: string) => Iterable<string>;

/** Weight of recall against precision. */
const ALPHA = 0.9;
/** Shape and weight of the penalty for matches out of order. */
const BETA = 3;
const GAMMA = 0.5;

interface Word {
  place: number;
  text: string;
}

interface Stage {
  matches: [hypothesisPlace: number, referencePlace: number][];
  hypothesis: Word[];
  reference: Word[];
}

/** From 0 to less than 1: even equal texts pay for their one run of matches. */
export function meteor(input: string, reference: string, synonyms: Synonyms | null): number {
  const hypothesis = numbered(input);
  const target = numbered(reference);
  const exact = matchStage(hypothesis, target, (text) => [text]);
  // What stays unmatched goes on as stems, to the synonyms too: as in nltk.
  const stems = matchStage(exact.hypothesis.map(stemmed), exact.reference.map(stemmed), (text) => [text]);
  const byMeaning =
    synonyms === null
      ? []
      : matchStage(stems.hypothesis, stems.reference, (text) => [text, ...synonyms(text)]).matches;
  const matches = [...exact.matches, ...stems.matches, ...byMeaning].sort(([a], [b]) => a - b);
  if (matches.length === 0) return 0;
  const precision = matches.length / hypothesis.length;
  const recall = matches.length / target.length;
  const mean = (precision * recall) / (ALPHA * precision + (1 - ALPHA) * recall);
  const penalty = GAMMA * (countChunks(matches) / matches.length) ** BETA;
  return (1 - penalty) * mean;
}

const numbered = (text: string): Word[] =>
  splitWords(text).map((word, place) => ({ place, text: word.toLowerCase() }));

const stemmed = ({ place, text }: Word): Word => ({ place, text: porterStem(text) });

/** Matches words from the last to the first, each with the last reference word that is still free and one of its alternatives. */
function matchStage(
  hypothesis: readonly Word[],
  reference: readonly Word[],
  alternatives: (text: string) => readonly string[],
): Stage {
  const free = new Map<string, number[]>();
  for (const [i, { text }] of reference.entries()) {
    const places = free.get(text);
    if (places === undefined) free.set(text, [i]);
    else places.push(i);
  }
  const taken = new Set<number>();
  const matches: Stage["matches"] = [];
  const unmatched: Word[] = [];
  for (const word of hypothesis.toReversed()) {
    const last = Math.max(-1, ...alternatives(word.text).map((text) => free.get(text)?.at(-1) ?? -1));
    const match = reference[last];
    if (match === undefined) unmatched.push(word);
    else {
      free.get(match.text)?.pop();
      taken.add(last);
      matches.push([word.place, match.place]);
    }
  }
  return { matches, hypothesis: unmatched.reverse(), reference: reference.filter((_, i) => !taken.has(i)) };
}

/** Runs of matches that are neighbours in both texts. */
function countChunks(matches: readonly [number, number][]): number {
  return matches.filter(([a, b], i) => {
    const before = matches[i - 1];
    return before === undefined || a !== before[0] + 1 || b !== before[1] + 1;
  }).length;
}

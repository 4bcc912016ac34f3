// The metrics of a text_similarity grader, one table. What each computes stands in its own file; embeddings are made by
// whoever passes `embed` in.
import { InvalidRequest } from "../errors.ts";
import type { SimilarityMetric } from "../wire/graders.ts";
import { fuzzyMatch } from "./fuzzy-match.ts";
import { meteor } from "./meteor.ts";
import type { Synonyms } from "./meteor.ts";
import { bleu, gleu, rougeL, rougeN } from "./n-grams.ts";
import { Pace } from "./pace.ts";

/** One vector for each text, of equal lengths. */
export type Embed = (texts: readonly string[], signal: AbortSignal) => Promise<Float32Array[]>;

export interface SimilarityParts {
  /** Null: this server has no embedding model. */
  embed: Embed | null;
  /** Null: METEOR matches words exactly and by stem only. */
  synonyms: Synonyms | null;
}

/** Characters of each of the two texts: the metrics hold every word, n-gram and character in memory. */
export const MAX_COMPARED_CHARACTERS = 65_536;

type Metric = (
  texts: { input: string; reference: string },
  parts: SimilarityParts,
  signal: AbortSignal,
) => Promise<number>;

const rouge =
  (order: number): Metric =>
  async ({ input, reference }) =>
    rougeN(order, input, reference);

const METRICS: Readonly<Record<SimilarityMetric, Metric>> = {
  fuzzy_match: ({ input, reference }, _parts, signal) => fuzzyMatch(input, reference, new Pace(signal)),
  bleu: async ({ input, reference }) => bleu(input, reference),
  gleu: async ({ input, reference }) => gleu(input, reference),
  meteor: async ({ input, reference }, { synonyms }) => meteor(input, reference, synonyms),
  cosine: ({ input, reference }, { embed }, signal) =>
    cosine([input, reference], requireEmbed(embed), signal),
  rouge_1: rouge(1),
  rouge_2: rouge(2),
  rouge_3: rouge(3),
  rouge_4: rouge(4),
  rouge_5: rouge(5),
  rouge_l: ({ input, reference }, _parts, signal) => rougeL(input, reference, new Pace(signal)),
};

/** How alike two texts are, from 0 to 1. Throws InvalidRequest for texts over the limit and for cosine without an embedding model. */
export async function textSimilarity(
  metric: SimilarityMetric,
  texts: { input: string; reference: string },
  parts: SimilarityParts,
  signal: AbortSignal,
): Promise<number> {
  for (const [name, text] of Object.entries(texts)) {
    if (text.length <= MAX_COMPARED_CHARACTERS) continue;
    throw new InvalidRequest(
      `The grader's '${name}' is too long to be compared: expected at most ${MAX_COMPARED_CHARACTERS} characters once its templates are filled in, but got ${text.length}. Grade a shorter text.`,
      { code: "string_above_max_length" },
    );
  }
  return METRICS[metric](texts, parts, signal);
}

/** Throws InvalidRequest without an embedding model. */
export function requireEmbed(embed: Embed | null, param: string | null = null): Embed {
  if (embed !== null) return embed;
  throw new InvalidRequest(
    "The metric 'cosine' compares embeddings, and this server has no embedding model. Set one up for /v1/embeddings, or use another 'evaluation_metric', such as 'fuzzy_match'.",
    { code: "unsupported_value", param },
  );
}

/** The cosine of the angle between the texts' vectors; opposite directions count as 0, nothing in common. */
async function cosine(texts: readonly string[], embed: Embed, signal: AbortSignal): Promise<number> {
  const [first, second] = await embed(texts, signal);
  if (first === undefined || second === undefined || first.length !== second.length) {
    throw new Error("internal: expected two vectors of one length from the embedding model");
  }
  let [dot, squareA, squareB] = [0, 0, 0];
  for (const [i, a] of first.entries()) {
    const b = second[i] ?? 0;
    dot += a * b;
    squareA += a * a;
    squareB += b * b;
  }
  const norm = Math.sqrt(squareA) * Math.sqrt(squareB);
  return norm === 0 ? 0 : Math.min(1, Math.max(0, dot / norm));
}

// The text metrics against the reference packages: nltk (BLEU, GLEU, METEOR and its stemmer), rapidfuzz and rouge-score.
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { porterStem } from "../../src/evals/porter-stemmer.ts";
import { textSimilarity } from "../../src/evals/text-similarity.ts";
import { openWordNet } from "../../src/evals/wordnet.ts";
import { SIMILARITY_METRICS } from "../../src/wire/graders.ts";
import type { SimilarityMetric } from "../../src/wire/graders.ts";
import { readProjectFile } from "../house/source-files.ts";

interface Goldens {
  stems: Record<string, string>;
  pairs: { input: string; reference: string; scores: Record<string, number> }[];
}
const goldens = JSON.parse(readProjectFile("test/goldens/graders.json")) as Goldens;

const MINI_WORDNET = fileURLToPath(new URL("../goldens/mini-wordnet", import.meta.url));
const { signal } = new AbortController();
/** The packages sum in another order here and there. */
const DIGITS = 10;

const withoutEmbeddings = SIMILARITY_METRICS.filter((metric) => metric !== "cosine");

describe.each(withoutEmbeddings)("%s", (metric: SimilarityMetric) => {
  it("is what the reference package says, for every pair", async () => {
    expect(goldens.pairs.length).toBeGreaterThan(150);
    for (const { input, reference, scores } of goldens.pairs) {
      const parts = { embed: null, synonyms: null };
      const score = await textSimilarity(metric, { input, reference }, parts, signal);
      expect(score, JSON.stringify({ input, reference })).toBeCloseTo(scores[metric] ?? NaN, DIGITS);
    }
  });
});

describe("meteor with a WordNet", () => {
  it("is what nltk says, for every pair", async () => {
    const synonyms = await openWordNet(MINI_WORDNET);
    const parts = { embed: null, synonyms };
    let differing = 0;
    for (const { input, reference, scores } of goldens.pairs) {
      const score = await textSimilarity("meteor", { input, reference }, parts, signal);
      expect(score, JSON.stringify({ input, reference })).toBeCloseTo(
        scores["meteor_wordnet"] ?? NaN,
        DIGITS,
      );
      if (scores["meteor_wordnet"] !== scores["meteor"]) differing += 1;
    }
    // Synonyms do change scores, so the third stage is really measured.
    expect(differing).toBeGreaterThan(4);
  });

  it("names the file that a folder lacks", async () => {
    await expect(openWordNet("/nowhere")).rejects.toThrow(
      /^The WordNet folder '\/nowhere' has no readable file '[\w.]+'\. Expected index/,
    );
  });

  it("finds irregular and regular forms, single words only, markers dropped", async () => {
    const synonyms = await openWordNet(MINI_WORDNET);
    expect([...synonyms("oxen")].sort()).toEqual(["bullock", "ox"]);
    expect([...synonyms("cars")].sort()).toEqual(["automobile", "car"]);
    expect([...synonyms("fast")].sort()).toEqual(["fast", "quick", "quickly", "rapid"]);
    expect([...synonyms("unknown")]).toEqual([]);
  });
});

it("stems are nltk's", () => {
  const words = Object.keys(goldens.stems);
  expect(words.length).toBeGreaterThan(100);
  expect(Object.fromEntries(words.map((word) => [word, porterStem(word)]))).toEqual(goldens.stems);
});

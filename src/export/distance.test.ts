// The distance between two models that a test makes up: what is counted, and the formula.
import { expect, it } from "vitest";
import { distanceFrom, divergence, referenceAnswers, type ScoredModel } from "./distance.ts";

/** Writes the tokens 1, 2, 3, … and thinks `logits(place)` behind each token. */
function model(logits: (place: number) => number[]): ScoredModel {
  return {
    score: async (tokens, from, onLogits) => {
      for (let place = from; place < tokens.length; place++) onLogits(Float32Array.from(logits(place)));
    },
    write: async (prompt) => (prompt.length === 2 ? [1, 2, 3] : [1]),
    release: async () => undefined,
  };
}

const reference = model((place) => [place, 0, 1]);
const prompts = [
  [7, 8],
  [7, 8, 9],
];

it("a model is no way from itself, and is asked at each place of the answers alone", async () => {
  const answers = await referenceAnswers(reference, prompts, new Set());
  expect(answers.map(({ tokens, from, logits }) => [tokens, from, logits.length])).toEqual([
    [[7, 8, 1, 2], 1, 3],
    [[7, 8, 9], 2, 1],
  ]);
  expect(await distanceFrom(answers, reference)).toEqual({
    prompts: 2,
    tokens: 4,
    equal_tokens: 4,
    equal_prompts: 2,
    max_logit_difference: 0,
    mean_logit_difference: 0,
    mean_kl: 0,
  });
});

it("counts tokens, answers and differences", async () => {
  const answers = await referenceAnswers(reference, prompts, new Set());
  // Another token at place 3, the last of the first answer alone; the same shift of all logits changes no probability.
  const other = await distanceFrom(
    answers,
    model((place) => (place === 3 ? [3, 4, 1] : [place + 1, 1, 2])),
  );
  expect(other).toMatchObject({
    prompts: 2,
    tokens: 4,
    equal_tokens: 3,
    equal_prompts: 1,
    max_logit_difference: 4,
  });
  // Three places with a difference of 1 everywhere, one with a difference of 4 in one of three logits.
  expect(other.mean_logit_difference).toBeCloseTo((9 * 1 + 4) / 12, 6);
  const expected = divergence(Float32Array.of(3, 0, 1), Float32Array.of(3, 4, 1)) / 4;
  expect(other.mean_kl).toBeCloseTo(expected, 6);
});

it("differences that are no numbers stay none", async () => {
  const answers = await referenceAnswers(reference, prompts, new Set());
  const found = await distanceFrom(
    answers,
    model((place) => (place === 1 ? [NaN, 0, 1] : [place, 0, 1])),
  );
  expect(found.max_logit_difference).toBeNaN();
  expect(found.mean_kl).toBeNaN();
});

it("the divergence is that of the softmax distributions, in nats", () => {
  // p = (3/4, 1/4), q = (1/2, 1/2).
  const p = Float32Array.of(Math.log(3), 0);
  const q = Float32Array.of(5, 5);
  expect(divergence(p, q)).toBeCloseTo(0.75 * Math.log(1.5) + 0.25 * Math.log(0.5), 6);
  expect(divergence(p, p)).toBe(0);
});

// What moves logits, and the scores that are reported beside: from numbers worked out by hand.
import { describe, expect, it } from "vitest";
import { scoreToken } from "./log-probabilities.ts";
import type { ScoredToken } from "./log-probabilities.ts";
import { createBias, createPenalties } from "./logit-rules.ts";
import { createSampler } from "./sampler.ts";

describe("createPenalties", () => {
  it("takes presence once and frequency for each occurrence", () => {
    const rule = createPenalties({ frequency: 0.5, presence: 1 });
    for (const token of [2, 2, 0]) rule.accept(token);
    const logits = Float32Array.of(1, 1, 1);
    rule.apply(logits);
    expect([...logits]).toEqual([1 - 1.5, 1, 1 - 2]);
  });

  it("makes a greedy answer leave a token it repeats", () => {
    const rules = [createPenalties({ frequency: 2, presence: 0 })];
    const sampler = createSampler({ temperature: 0, topP: 1, seed: 1, rules });
    const logits = Float32Array.of(0, 3, 2);
    expect([1, 2, 3, 4].map(() => sampler.sample(logits))).toEqual([1, 2, 1, 0]);
    expect([...logits]).toEqual([0, 3, 2]);
  });
});

describe("createBias", () => {
  it("adds to the tokens it names", () => {
    const logits = Float32Array.of(1, 2, 3);
    createBias(
      new Map([
        [0, 100],
        [2, -100],
      ]),
    ).apply(logits);
    expect([...logits]).toEqual([101, 2, -97]);
  });

  it("is applied before temperature and top_p: a token it forbids is never drawn", () => {
    const rules = [createBias(new Map([[1, -Infinity]]))];
    for (const temperature of [0.1, 1, 2]) {
      const sampler = createSampler({ temperature, topP: 1, seed: 3, rules });
      for (let i = 0; i < 200; i++) expect(sampler.sample(Float32Array.of(0, 50, 0))).not.toBe(1);
    }
  });
});

describe("scoreToken", () => {
  it("gives natural logarithms of the softmax and the most likely in falling order", () => {
    const logits = Float32Array.from([1, 3, 2, 3].map((weight) => Math.log(weight)));
    const { token, logprob, top } = scoreToken(logits, 2, 3);
    expect(token).toBe(2);
    expect(logprob).toBeCloseTo(Math.log(2 / 9), 6);
    expect(top.map((each) => each.token)).toEqual([1, 3, 2]);
    expect(top[0]?.logprob).toBeCloseTo(Math.log(3 / 9), 6);
    expect(scoreToken(logits, 0, 0).top).toEqual([]);
  });

  it("reports the model's own distribution, whatever moves it", () => {
    const scores: ScoredToken[] = [];
    const sampler = createSampler({
      temperature: 0,
      topP: 1,
      seed: 1,
      rules: [createBias(new Map([[1, 100]]))],
      scores: { topCount: 1, onScore: (score) => scores.push(score) },
    });
    expect(sampler.sample(Float32Array.of(0, 0))).toBe(1);
    expect(scores[0]?.logprob).toBeCloseTo(Math.log(0.5), 6);
  });
});

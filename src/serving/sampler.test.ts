import { describe, expect, it } from "vitest";
import { createSampler, mostLikely } from "./sampler.ts";

const LOGITS = Float32Array.from([1, 3, 2, -1, 3]);

/** Probabilities of a softmax, in float64. */
function softmax(logits: Float32Array, temperature: number): number[] {
  const weights = Array.from(logits, (logit) => Math.exp(logit / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

function frequencies(options: { temperature: number; topP: number }, draws = 20_000): number[] {
  const sampler = createSampler({ ...options, seed: 7 });
  const counts = Array.from(LOGITS, () => 0);
  for (let i = 0; i < draws; i++) {
    const token = sampler.sample(LOGITS);
    counts[token] = (counts[token] as number) + 1;
  }
  return counts.map((count) => count / draws);
}

describe("mostLikely", () => {
  it("takes the first of equals", () => {
    expect(mostLikely(LOGITS)).toBe(1);
  });
});

describe("createSampler", () => {
  it("is greedy at temperature 0, whatever the seed", () => {
    for (const seed of [0, 1, 2 ** 40]) {
      expect(createSampler({ temperature: 0, topP: 0.1, seed }).sample(LOGITS)).toBe(1);
    }
  });

  it.each([0.5, 1, 2])("draws as often as the softmax at temperature %d says", (temperature) => {
    const expected = softmax(LOGITS, temperature);
    for (const [token, share] of frequencies({ temperature, topP: 1 }).entries()) {
      // Five standard deviations of 20,000 draws are below 0.018.
      expect(Math.abs(share - (expected[token] as number))).toBeLessThan(0.018);
    }
  });

  it("draws only from the smallest set that reaches top_p", () => {
    // Tokens 1 and 4 hold 39 % each, token 2 holds 14 %: 0.8 needs all three, 0.7 only two.
    expect(frequencies({ temperature: 1, topP: 0.7 }).map((share) => share > 0)).toEqual([
      false,
      true,
      false,
      false,
      true,
    ]);
    expect(frequencies({ temperature: 1, topP: 0.8 }).map((share) => share > 0)).toEqual([
      false,
      true,
      true,
      false,
      true,
    ]);
  });

  it.each([
    ["only NaN", [NaN, NaN]],
    ["an infinite one", [1, Infinity]],
    ["nothing possible", [-Infinity, -Infinity]],
  ])("refuses logits with %s rather than make up a token", (_name, logits) => {
    for (const temperature of [0, 1]) {
      const sampler = createSampler({ temperature, topP: 1, seed: 3 });
      expect(() => sampler.sample(Float32Array.from(logits))).toThrow("the model's output is not finite");
    }
  });

  it("always has a token to give at top_p 0", () => {
    expect(createSampler({ temperature: 1, topP: 0, seed: 3 }).sample(LOGITS)).toBe(1);
  });

  it("repeats with the same seed and differs with another", () => {
    const draw = (seed: number): number[] => {
      const sampler = createSampler({ temperature: 1, topP: 1, seed });
      return Array.from({ length: 50 }, () => sampler.sample(LOGITS));
    };
    expect(draw(5)).toEqual(draw(5));
    expect(draw(5)).not.toEqual(draw(6));
  });

  it("leaves the logits as they are", () => {
    createSampler({ temperature: 0.7, topP: 0.9, seed: 1 }).sample(LOGITS);
    expect([...LOGITS]).toEqual([1, 3, 2, -1, 3]);
  });
});

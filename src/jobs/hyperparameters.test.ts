import { describe, expect, test } from "vitest";
import { learningRateOf, recipeOf, resolveHyperparameters } from "./hyperparameters.ts";

const ALL_AUTO = { nEpochs: "auto", batchSize: "auto", learningRateMultiplier: "auto" } as const;

describe("auto", () => {
  test.each([
    // Observed on OpenAI's own jobs: 10, 80, 100 and 101 examples.
    { examples: 10, nEpochs: 10, batchSize: 1 },
    { examples: 33, nEpochs: 3, batchSize: 1 },
    { examples: 34, nEpochs: 3, batchSize: 1 },
    { examples: 80, nEpochs: 3, batchSize: 1 },
    { examples: 100, nEpochs: 3, batchSize: 1 },
    { examples: 101, nEpochs: 3, batchSize: 1 },
    // The bounds of the rules.
    { examples: 1, nEpochs: 25, batchSize: 1 },
    { examples: 1_000, nEpochs: 3, batchSize: 2 },
    { examples: 8_333, nEpochs: 3, batchSize: 17 },
    { examples: 10_000, nEpochs: 2, batchSize: 20 },
    { examples: 1_000_000, nEpochs: 1, batchSize: 256 },
  ])("$examples examples: $nEpochs epochs in batches of $batchSize", ({ examples, nEpochs, batchSize }) => {
    expect(resolveHyperparameters(ALL_AUTO, examples)).toEqual({
      nEpochs,
      batchSize,
      learningRateMultiplier: 2,
    });
  });

  test("leaves given numbers alone", () => {
    const given = { nEpochs: 7, batchSize: 4, learningRateMultiplier: 0.5 };
    expect(resolveHyperparameters(given, 10)).toEqual(given);
  });

  test("beta is 0.1, and there only where the method has one", () => {
    expect(resolveHyperparameters({ ...ALL_AUTO, beta: "auto" }, 100)).toMatchObject({
      nEpochs: 3,
      beta: 0.1,
    });
    expect(resolveHyperparameters({ ...ALL_AUTO, beta: 1.5 }, 100)).toMatchObject({ beta: 1.5 });
    expect(resolveHyperparameters(ALL_AUTO, 100)).not.toHaveProperty("beta");
  });
});

describe("recipeOf", () => {
  test("gives the default base model a peak learning rate of 1e-3 with the automatic multiplier", () => {
    const { learningRateMultiplier } = resolveHyperparameters(ALL_AUTO, 100);
    expect(recipeOf("smollm2-135m-instruct").baseLearningRate * learningRateMultiplier).toBeCloseTo(1e-3, 12);
  });

  test("falls back to the default for any other model", () => {
    expect(recipeOf("some-local-folder")).toMatchObject({ baseLearningRate: 1e-4, maxLength: 2048 });
    expect(recipeOf("constructor").baseLearningRate).toBe(1e-4);
  });
});

test("preferences are learned at a tenth of the supervised rate", () => {
  const recipe = recipeOf("some-local-folder");
  expect(learningRateOf(recipe, "supervised", 2)).toBeCloseTo(2e-4, 12);
  expect(learningRateOf(recipe, "dpo", 2)).toBeCloseTo(2e-5, 12);
});

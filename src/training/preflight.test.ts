import { statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { openBaseModel } from "../model/base-model.ts";
import { LORA_TARGETS } from "../model/lora-targets.ts";
import { LoraParameters } from "./lora-parameters.ts";
import { estimateCost } from "./preflight.ts";

const goldens = (path: string) => fileURLToPath(new URL(`../../test/goldens/${path}`, import.meta.url));
const model = await openBaseModel(goldens("tiny-llama"));
const lora = { rank: 8, alpha: 16, dropout: 0, targetModules: LORA_TARGETS };
const spread = { count: 10, min: 50, p10: 50, median: 50, p90: 50, max: 50, mean: 50 };
const tokens = {
  tokensPerRow: spread,
  supervisedPerRow: spread,
  tokens: 500,
  supervisedTokens: 300,
  trainedTokens: 450,
  maxLength: 2048,
  truncatedRows: 0,
  truncatedTokens: 0,
  endTokenRows: 10,
  longest: { line: 1, tokens: 50 },
  longestPass: 50,
  sharedTokens: 0,
};
const inputs = {
  method: "supervised" as const,
  ...{ config: model.config, lora, tokens, examples: 10, epochs: 3, batchSize: 4 },
  learningRateMultiplier: 2,
  validationTokens: 0,
  speed: { tokensPerSecond: 100, startSeconds: 3 },
  availableBytes: 16e9,
};

it("counts what training makes", () => {
  const cost = estimateCost(inputs);
  const parameters = new LoraParameters(model.config, lora);
  expect(cost.trainableParameters).toBe(parameters.data.length);
  expect(cost).toMatchObject({ steps: 9, trainedTokens: 1350, adapterBytes: parameters.data.length * 4 });
  // Weights in float32 and a header.
  const { size } = statSync(goldens("tiny-llama/model.safetensors"));
  expect(cost.baseParameters * 4).toBeLessThanOrEqual(size);
  expect(cost.baseParameters * 4).toBeGreaterThan(size * 0.9);
});

it("counts half an epoch more for the reference of preference data", () => {
  const [supervised, dpo] = [estimateCost(inputs), estimateCost({ ...inputs, method: "dpo" })];
  // Five seconds are the start and what is around it.
  expect((dpo.seconds - 5) / (supervised.seconds - 5)).toBeCloseTo(3.5 / 3, 1);
});

it("takes the time from a measured speed, and says where it has none", () => {
  expect(estimateCost(inputs)).toMatchObject({ seconds: 20, secondsFrom: "measured" });
  expect(estimateCost({ ...inputs, speed: null })).toMatchObject({ secondsFrom: "assumed" });
  // 400 tokens, forward only, three times.
  expect(estimateCost({ ...inputs, validationTokens: 400 }).seconds).toBe(20 + 6);
});

it("needs more memory for longer rows, and says how a run fits into little of it", () => {
  const cost = (longest: number, availableBytes = 16e9) =>
    estimateCost({ ...inputs, availableBytes, tokens: { ...tokens, longestPass: longest } });
  expect(cost(1000).memoryBytes).toBeGreaterThan(cost(400).memoryBytes);
  const full = cost(1000);
  expect(full).toMatchObject({ memoryPlan: "full_speed", fullSpeedMemoryBytes: full.memoryBytes });
  const less = cost(1000, full.memoryBytes - 1);
  expect(less.memoryPlan).toMatch(/^computes the layers of long rows twice/);
  expect(less.memoryBytes).toBeLessThan(full.memoryBytes);
  expect(less.fullSpeedMemoryBytes).toBe(full.memoryBytes);
  const least = cost(1000, 1e6);
  expect(least.memoryPlan).toBeNull();
  expect(least.memoryBytes).toBeGreaterThan(1e6);
});

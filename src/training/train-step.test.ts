// A step whose numbers are no numbers: it says so, and leaves parameters and moments as they were. The runner is a fake.
import { expect, it } from "vitest";
import { smallConfig } from "../../test/engine/graph-families.ts";
import { TunesmithError } from "../errors.ts";
import type { DecoderRunner } from "./decoder-runner.ts";
import { LoraParameters } from "./lora-parameters.ts";
import { AdamW } from "./optimizer.ts";
import { SUPERVISED_LOSS } from "./loss.ts";
import { evaluateLoss, trainStep } from "./train-step.ts";

const OPTIONS = { learningRate: 0.5, clipNorm: 1, dropoutStream: [1] };
const EXAMPLE = { tokens: Int32Array.of(1, 2, 3), supervised: Uint8Array.of(0, 1, 1) };

function setUp(lossSum: number, gradient: number) {
  const config = { ...smallConfig("llama"), layerCount: 1 };
  const parameters = new LoraParameters(config, {
    rank: 2,
    alpha: 4,
    dropout: 0,
    targetModules: ["q_proj"],
  });
  parameters.initialize(1);
  const optimizer = new AdamW(parameters.data.length, {
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    weightDecay: 0.1,
  });
  const runner = {
    train: async (_pass: unknown, _weight: number, gradients: Float32Array) => {
      gradients[3] = gradient;
      return { lossSum, correct: 0, supervised: 2 };
    },
  } as unknown as DecoderRunner;
  const step = (learningRate = OPTIONS.learningRate) =>
    trainStep(SUPERVISED_LOSS, runner, parameters, optimizer, [EXAMPLE], { ...OPTIONS, learningRate });
  return { parameters, optimizer, step };
}

it.each([
  ["loss", NaN, 1, "the loss is NaN and the norm of the gradient 1"],
  ["loss", Infinity, 1, "the loss is Infinity and the norm of the gradient 1"],
  ["gradient", 6, NaN, "the loss is 3 and the norm of the gradient NaN"],
  ["gradient", 6, -Infinity, "the loss is 3 and the norm of the gradient Infinity"],
])("a %s that is no finite number moves nothing (%d, %d)", async (_name, lossSum, gradient, words) => {
  const { parameters, optimizer, step } = setUp(lossSum, gradient);
  const before = parameters.data.slice();
  const error: unknown = await step().catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(TunesmithError);
  expect(error).toMatchObject({
    code: "training_diverged",
    param: "learning_rate_multiplier",
    message: `Training has diverged: at step 1 ${words}, where finite numbers are expected. The learning rate was 0.5. Create the job again with a lower learning_rate_multiplier.`,
  });
  expect(parameters.data).toEqual(before);
  expect([optimizer.step, ...optimizer.m, ...optimizer.v].every((value) => value === 0)).toBe(true);
});

it("finite numbers move the parameters", async () => {
  const { parameters, optimizer, step } = setUp(6, 1);
  const before = parameters.data.slice();
  expect(await step()).toEqual({ loss: 3, accuracy: 0, gradientNorm: 1 });
  expect(parameters.data).not.toEqual(before);
  expect(optimizer.step).toBe(1);
});

it("a step that makes the adapter infinite does not pass", async () => {
  const { step } = setUp(6, 1);
  await expect(step(1e39)).rejects.toThrow(
    /after step 1 the norm of the adapter is (Infinity|NaN), where finite/,
  );
});

it("a validation loss without value does not pass", async () => {
  const runner = {
    evaluate: async () => ({ lossSum: NaN, correct: 0, supervised: 2 }),
  } as unknown as DecoderRunner;
  await expect(evaluateLoss(SUPERVISED_LOSS, runner, [EXAMPLE])).rejects.toThrow(
    /the validation loss is NaN, where finite/,
  );
});

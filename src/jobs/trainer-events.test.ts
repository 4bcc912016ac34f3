// What clients read of a trainer's events. Reading the file as it grows is tested with the jobs, in test/jobs.
import { expect, it } from "vitest";
import { toJobEvent, toWireMetrics } from "./trainer-events.ts";

it("examples that were cut become a warning, one for each file", () => {
  const cut = {
    type: "truncated",
    at: 1,
    examples: 3,
    ofExamples: 440,
    tokens: 1234,
    maxLength: 2048,
  } as const;
  expect(toJobEvent({ ...cut, param: "training_file" })).toEqual({
    key: "truncated:training_file",
    level: "warn",
    message:
      "3 of 440 training examples are longer than 2048 tokens and were cut there: 1234 tokens are not trained on, and these examples do not teach how their last answers end. Split or shorten them to use them whole",
    data: { truncated_examples: 3, truncated_tokens: 1234 },
  });
  expect(toJobEvent({ ...cut, param: "validation_file" })).toMatchObject({
    key: "truncated:validation_file",
    message:
      "3 of 440 validation examples are longer than 2048 tokens and were cut there: 1234 tokens are not measured. Split or shorten them to use them whole",
  });
});

it("metrics of preferences go by names in OpenAI's manner, and what was not measured is left out", () => {
  const metrics = {
    step: 2,
    totalSteps: 4,
    trainLoss: 0.5,
    trainRewardMargin: 1.5,
    fullValidRejectedLogps: -9,
  };
  expect(toWireMetrics(metrics)).toEqual({
    step: 2,
    train_loss: 0.5,
    train_reward_margin: 1.5,
    full_valid_rejected_logps: -9,
  });
});

it("the reference is told of once", () => {
  expect(toJobEvent({ type: "reference", at: 1, pairs: 40, seconds: 2.5 })).toEqual({
    key: "reference",
    message: "Log-probabilities of the starting model computed for 40 pairs",
    data: { reference_pairs: 40, seconds: 2.5 },
  });
});

// The result file's rows, also of a run that was resumed.
import { expect, it } from "vitest";
import type { StepMetrics, TrainerEvent } from "./job-directory.ts";
import { resultCsv } from "./result-file.ts";

function metrics(step: number, rest: Partial<StepMetrics> = {}): TrainerEvent {
  const base = { type: "metrics", at: 0, tokensPerSecond: 1, secondsLeft: 1, totalSteps: 4 } as const;
  return { ...base, step, trainLoss: step + 0.123456, trainMeanTokenAccuracy: step / 10, ...rest };
}

const HEADER = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n";

it("has a row per step, with empty cells where nothing was measured", () => {
  const events: TrainerEvent[] = [
    { type: "started", at: 0, totalSteps: 4, trainableParameters: 1, baseParameters: 1, examples: 1 },
    metrics(1),
    metrics(2, { validLoss: 0.5, validMeanTokenAccuracy: 0 }),
    metrics(3, {
      validLoss: 0.5,
      validMeanTokenAccuracy: 0.25,
      fullValidLoss: 0.75,
      fullValidMeanTokenAccuracy: 1,
    }),
  ];
  expect(resultCsv(events, "supervised")).toBe(
    `${HEADER}1,1.12346,0.10000,,\n2,2.12346,0.20000,0.50000,0.00000\n3,3.12346,0.30000,0.75000,1.00000\n`,
  );
});

it("counts the last event of a step that was repeated, and sorts", () => {
  const events = [
    metrics(1),
    metrics(2),
    metrics(3, { trainLoss: 9 }),
    metrics(2, { trainLoss: 7 }),
    metrics(3),
  ];
  const steps = resultCsv(events, "supervised").trimEnd().split("\n").slice(1);
  expect(steps.map((row) => row.split(",").slice(0, 2).join())).toEqual([
    "1,1.12346",
    "2,7.00000",
    "3,3.12346",
  ]);
});

it("is a header without steps", () => {
  expect(resultCsv([], "supervised")).toBe(HEADER);
});

it("has the columns of preferences for a job by preference", () => {
  const rewards = {
    trainRewardAccuracy: 0.5,
    trainRewardMargin: -0.1,
    trainChosenLogps: -20,
    trainRejectedLogps: -21,
  };
  const event: TrainerEvent = {
    ...{
      type: "metrics",
      at: 0,
      tokensPerSecond: 1,
      secondsLeft: 1,
      step: 1,
      totalSteps: 1,
      trainLoss: 0.69,
    },
    ...rewards,
    validLoss: 0.7,
    fullValidLoss: 0.6,
    fullValidRewardMargin: 0.2,
  };
  expect(resultCsv([event], "dpo")).toBe(
    "step,train_loss,train_reward_accuracy,train_reward_margin,train_chosen_logps,train_rejected_logps," +
      "valid_loss,valid_reward_accuracy,valid_reward_margin,valid_chosen_logps,valid_rejected_logps\n" +
      "1,0.69000,0.50000,-0.10000,-20.00000,-21.00000,0.60000,,0.20000,,\n",
  );
});

import { describe, expect, it } from "vitest";
import {
  bestCheckpoint,
  bestStep,
  hasStoppedImproving,
  keptCheckpoints,
  validationLosses,
} from "./best-checkpoint.ts";
import type { TrainerEvent } from "./job-directory.ts";

const losses = (...values: number[]) => new Map(values.map((loss, i) => [(i + 1) * 3, loss]));
const checkpoints = (...values: (number | undefined)[]) =>
  values.map((fullValidLoss, i) => ({
    step: i + 1,
    metrics: {
      step: i + 1,
      totalSteps: values.length,
      trainLoss: 1,
      ...(fullValidLoss === undefined ? {} : { fullValidLoss }),
    },
  }));

describe("the best step", () => {
  it("has the lowest loss, the earliest of equal ones, and there is none without validation", () => {
    expect(bestStep(losses(3, 1, 2))).toBe(6);
    expect(bestStep(losses(2, 1, 1))).toBe(6);
    expect(bestStep(new Map([...losses(3, 1, 2)].reverse()))).toBe(6);
    expect(bestStep(new Map())).toBeNull();
  });

  it("is looked for among the steps that a run has reached, by their last report", () => {
    const metrics = (step: number, fullValidLoss?: number): TrainerEvent => ({
      type: "metrics",
      at: 0,
      tokensPerSecond: 1,
      secondsLeft: 1,
      totalSteps: 9,
      trainLoss: 1,
      step,
      ...(fullValidLoss === undefined ? {} : { fullValidLoss }),
    });
    const events = [metrics(1), metrics(3, 2), metrics(6, 1), metrics(3, 4), metrics(9, 0)];
    expect([...validationLosses(events, 6)]).toEqual([
      [3, 4],
      [6, 1],
    ]);
  });
});

describe("stopping", () => {
  it.each([
    { values: [3, 2, 1], patience: 1, stops: false },
    { values: [3, 1, 2], patience: 1, stops: true },
    { values: [3, 1, 1], patience: 1, stops: true },
    { values: [3, 1, 2], patience: 2, stops: false },
    { values: [3, 1, 2, 1.5], patience: 2, stops: true },
    { values: [3, 1, 2, 0.5], patience: 2, stops: false },
    { values: [], patience: 1, stops: false },
  ])("after $values with patience $patience: $stops", ({ values, patience, stops }) => {
    expect(hasStoppedImproving(losses(...values), patience)).toBe(stops);
  });
});

describe("what stays", () => {
  const steps = (of: { step: number }[]) => of.map(({ step }) => step);

  it("are the last three epochs, and the best before them", () => {
    expect(steps(keptCheckpoints(checkpoints(5, 4, 3, 2, 1)))).toEqual([3, 4, 5]);
    expect(steps(keptCheckpoints(checkpoints(5, 1, 3, 2, 4)))).toEqual([2, 3, 4, 5]);
    expect(steps(keptCheckpoints(checkpoints(undefined, undefined, undefined, undefined)))).toEqual([
      2, 3, 4,
    ]);
    expect(bestCheckpoint(checkpoints(5, 1, 3))?.step).toBe(2);
    expect(bestCheckpoint(checkpoints(undefined))).toBeNull();
  });
});

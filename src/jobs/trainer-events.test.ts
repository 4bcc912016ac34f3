// What clients read of a trainer's events. Reading the file as it grows is tested with the jobs, in test/jobs.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { readEvents } from "../training/event-log.ts";
import { PASS_PLANS } from "../training/memory-plan.ts";
import { createTrainerEventReader, toJobEvent, toWireMetrics } from "./trainer-events.ts";

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

it("a plan that takes less memory is told once, with its figures; one at full speed is not", () => {
  const figures = { neededBytes: 1.2e9, fullBytes: 3.1e9, availableBytes: 1.5e9 };
  const plan = { type: "planned", at: 1, passTokens: 128, wholeStepTokens: 0, ...figures } as const;
  expect(toJobEvent(plan)).toEqual({
    key: "planned",
    level: "warn",
    message:
      "Training at full speed needs about 3.1 GB of memory, and 1.5 GB are available: the job computes each layer twice, in small passes, which takes about half as long again, and needs 1.2 GB",
    data: {
      pass_tokens: 128,
      whole_step_tokens: 0,
      memory_bytes: 1.2e9,
      full_speed_memory_bytes: 3.1e9,
      available_memory_bytes: 1.5e9,
    },
  });
  expect(toJobEvent({ ...plan, ...PASS_PLANS[0] })).toBeNull();
});

it("going on from a checkpoint that other versions made is a warning", () => {
  const resumed = { type: "resumed", at: 7, step: 4 } as const;
  expect(toJobEvent(resumed)).toEqual({
    key: "resumed:4:7",
    message: "Training resumed from the checkpoint at step 4",
  });
  expect(toJobEvent({ ...resumed, changedVersions: ["node v20.1.0 to v22.0.0"] })).toMatchObject({
    level: "warn",
    message:
      "Training resumed from the checkpoint at step 4, which other versions made (node v20.1.0 to v22.0.0): from here on the last bits may differ from a run without the change",
  });
});

it("an early stop says where the loss was lowest", () => {
  expect(toJobEvent({ type: "stopped", at: 1, step: 9, totalSteps: 30, bestStep: 6 })).toMatchObject({
    key: "stopped",
    message: "Training stopped early at step 9 of 30: the full validation loss was lowest at step 6",
    data: { step: 9, total_steps: 30, best_step: 6 },
  });
});

it("lines that are no event are told as bad and left out", async () => {
  const folder = await mkdtemp(join(tmpdir(), "trainer-events-test-"));
  try {
    const path = join(folder, "events.jsonl");
    await writeFile(path, 'null\n{"type":"checkpoint","step":1}\n7\n{"step":2}\n{"type":"met\n');
    const bad: string[] = [];
    const events = await createTrainerEventReader(path, (line) => bad.push(line)).readNew();
    expect(events).toEqual([{ type: "checkpoint", step: 1 }]);
    expect(bad).toEqual(["null", "7", '{"step":2}', '{"type":"met']);
    expect(await readEvents(path)).toEqual(events);
  } finally {
    await rm(folder, { recursive: true });
  }
});

// Fine-tuning by preference (DPO) through the official client on the tiny model: a job from pairs to a model that prefers as they
// do, one that goes on from it, and files of the other method's format.
import type OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  cleanUp,
  eventsOf,
  JOB_TIMEOUT_MS,
  OPENAI_MODEL,
  serve,
  succeeded,
  ticketRows,
  tinyHome,
  until,
  upload,
} from "./harness.ts";
import type { FineTuningJob } from "./harness.ts";

const CATEGORIES = ["billing", "refund", "account", "delivery"] as const;

/** A ticket's right category is preferred to the one after it. */
const pairs = ticketRows(24).map(({ messages }, i) => ({
  input: { messages: messages.slice(0, 2), tools: [], parallel_tool_calls: true },
  preferred_output: [{ role: "assistant", content: CATEGORIES[i % 4] }],
  non_preferred_output: [{ role: "assistant", content: CATEGORIES[(i + 1) % 4] }],
}));
const TRAINING = pairs.slice(0, 16);
const EPOCHS = 4;
const BATCH_SIZE = 4;
const STEPS = (EPOCHS * TRAINING.length) / BATCH_SIZE;

interface Metrics {
  step: number;
  train_loss: number;
  train_reward_margin: number;
  train_reward_accuracy: number;
  train_chosen_logps: number;
  train_rejected_logps: number;
  full_valid_reward_accuracy?: number;
  full_valid_loss?: number;
}

let client: OpenAI;
let trainingFile: string;
let validationFile: string;
let job: FineTuningJob;
let metrics: Metrics[];

const create = (model: string, rest: Partial<OpenAI.FineTuning.JobCreateParams> = {}) =>
  client.fineTuning.jobs.create({
    model,
    training_file: trainingFile,
    seed: 3,
    method: {
      type: "dpo",
      dpo: {
        hyperparameters: {
          n_epochs: EPOCHS,
          batch_size: BATCH_SIZE,
          learning_rate_multiplier: 400,
          beta: 0.2,
        },
      },
    },
    ...rest,
  });

async function metricsOf(id: string): Promise<Metrics[]> {
  const events = await eventsOf(client, id);
  return events.filter(({ type }) => type === "metrics").map(({ data }) => data as Metrics);
}

beforeAll(async () => {
  ({ client } = await serve(await tinyHome()));
  trainingFile = await upload(client, TRAINING);
  validationFile = await upload(client, pairs.slice(16), "validation.jsonl");
  const created = await create(OPENAI_MODEL, { validation_file: validationFile, suffix: "prefer" });
  job = await succeeded(client, created.id);
  metrics = await metricsOf(job.id);
}, JOB_TIMEOUT_MS);
afterAll(cleanUp);

test("the job shows its method, numbers in place of auto, and a model", () => {
  expect(job.hyperparameters).toBeNull();
  expect(job.method).toEqual({
    type: "dpo",
    dpo: {
      hyperparameters: { n_epochs: 4, batch_size: 4, learning_rate_multiplier: 400, beta: 0.2 },
    },
  });
  expect(job.fine_tuned_model).toMatch(/^ft:gpt-4o-mini-2024-07-18:personal:prefer:[A-Za-z0-9]{8}$/);
  expect(job.trained_tokens).toBeGreaterThan(0);
});

test("the model comes to prefer what is preferred, in data it has not seen too", () => {
  expect(metrics.map(({ step }) => step)).toEqual(Array.from({ length: STEPS }, (_, i) => i + 1));
  const [first, last] = [metrics[0], metrics.at(-1)] as [Metrics, Metrics];
  // Before the first update the model is the reference.
  expect(first.train_loss).toBeCloseTo(Math.LN2, 4);
  expect(first.train_reward_margin).toBeCloseTo(0, 4);
  expect(last.train_loss).toBeLessThan(0.4);
  expect(last.train_reward_accuracy).toBe(1);
  expect(last.train_reward_margin).toBeGreaterThan(1);
  expect(last.train_chosen_logps).toBeGreaterThan(last.train_rejected_logps);
  expect(last.full_valid_reward_accuracy).toBe(1);
  expect(last.full_valid_loss).toBeLessThan(Math.LN2);
});

test("events tell of the reference, the steps and the checkpoints", async () => {
  const events = (await eventsOf(client, job.id)).map(({ message }) => message);
  expect(events).toContain("Log-probabilities of the starting model computed for 24 pairs");
  expect(events).toContain("Step 1/16: training loss=0.69");
  expect(
    events.some((message) =>
      /^Step 16\/16: training loss=0\.\d\d, validation loss=\d\.\d\d, full valid/.test(message),
    ),
  ).toBe(true);
  const checkpoints = await client.fineTuning.jobs.checkpoints.list(job.id);
  expect(checkpoints.data.map(({ step_number: step }) => step)).toEqual([16, 12, 8]);
  expect(checkpoints.data[0]?.metrics).toMatchObject({
    step: 16,
    train_loss: metrics.at(-1)?.train_loss,
    full_valid_reward_accuracy: 1,
  });
  const [resultFile] = job.result_files;
  const encoded = await (await client.files.content(resultFile as string)).text();
  const csv = Buffer.from(encoded, "base64").toString();
  const rows = csv.trimEnd().split("\n");
  expect(rows).toHaveLength(STEPS + 1);
  expect(rows[0]).toBe(
    "step,train_loss,train_reward_accuracy,train_reward_margin,train_chosen_logps,train_rejected_logps," +
      "valid_loss,valid_reward_accuracy,valid_reward_margin,valid_chosen_logps,valid_rejected_logps",
  );
  expect(rows[STEPS]?.split(",").every((cell) => cell !== "")).toBe(true);
});

test("the model answers", async () => {
  const { choices } = await client.chat.completions.create({
    model: job.fine_tuned_model as string,
    messages: pairs[0]?.input.messages as OpenAI.ChatCompletionMessageParam[],
    max_completion_tokens: 8,
  });
  expect(choices).toHaveLength(1);
});

test(
  "a job on the fine-tuned model has that model as its reference",
  async () => {
    const next = await succeeded(client, (await create(job.fine_tuned_model as string)).id);
    const [first] = (await metricsOf(next.id)) as [Metrics];
    expect(first.train_loss).toBeCloseTo(Math.LN2, 4);
    // On the same pairs, as the seed is the same: it begins where the other ended, not where that began.
    const gap = (of: Metrics): number => of.train_chosen_logps - of.train_rejected_logps;
    expect(gap(first)).toBeGreaterThan(gap(metrics[0] as Metrics) + 3);
  },
  JOB_TIMEOUT_MS,
);

test.each([
  [
    "chats",
    () => ticketRows(12),
    { type: "dpo" },
    "The input file is in the fine-tune-chat format, but the specified fine-tuning job is using 'dpo' as the training method.",
  ],
  [
    "pairs",
    () => TRAINING,
    { type: "supervised" },
    "The input file is in the fine-tune-preference format, but the specified fine-tuning job is using 'supervised' as the training method.",
  ],
] as const)("a file of %s for the other method fails the job", async (_, rows, method, message) => {
  const { id } = await create(OPENAI_MODEL, { training_file: await upload(client, rows()), method });
  const failed = async () => (await client.fineTuning.jobs.retrieve(id)).status === "failed";
  await until("the job has failed", failed);
  const { error } = await client.fineTuning.jobs.retrieve(id);
  expect(error).toMatchObject({ code: "invalid_training_file", param: "training_file" });
  expect(error?.message).toContain(message);
});

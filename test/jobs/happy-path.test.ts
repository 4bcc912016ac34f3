// A job that goes well, from creation to a model.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import type { JobRecipe } from "../../src/training/job-directory.ts";
import { openWorkbench, TEN_EXAMPLES, until, type Workbench } from "./workbench.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";

let bench: Workbench;
afterEach(() => bench.close());

test("a job runs to a model with events, checkpoints and a result file", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { steps: 10, stepsPerEpoch: 2 } });
  bench.worker().start();
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");

  const ended = await bench.read(job);
  expect(ended).toMatchObject({
    trainedTokens: 1234,
    hyperparameters: { n_epochs: 10, batch_size: 1, learning_rate_multiplier: 2 },
    estimatedFinish: null,
    error: null,
  });
  expect(ended.finishedAt).toBeGreaterThanOrEqual(job.createdAt);
  expect(ended.fineTunedModel).toMatch(/^ft:gpt-4o-mini-2024-07-18:acme:tacos:[A-Za-z0-9]{8}$/);

  expect(await bench.messages(job)).toEqual([
    `Created fine-tuning job: ${job.id}`,
    `Validating training file: ${job.trainingFileId}`,
    "Files validated, moving job to queued state",
    "Fine-tuning job started",
    "Training 1 parameters beside the 2 of the base model in 10 steps",
    "Step 1/10: training loss=2.00",
    "Step 2/10: training loss=1.00, full validation loss=2.00",
    "Checkpoint created at step 2",
    "Step 3/10: training loss=0.67",
    "Step 4/10: training loss=0.50, full validation loss=1.00",
    "Checkpoint created at step 4",
    "Step 5/10: training loss=0.40",
    "Step 6/10: training loss=0.33, full validation loss=0.67",
    "Checkpoint created at step 6",
    "Step 7/10: training loss=0.29",
    "Step 8/10: training loss=0.25, full validation loss=0.50",
    "Checkpoint created at step 8",
    "Step 9/10: training loss=0.22",
    "Step 10/10: training loss=0.20, full validation loss=0.40",
    "Checkpoint created at step 10",
    `Best checkpoint: ${ended.fineTunedModel}, made at step 10, has the lowest full validation loss, 0.40`,
    `New fine-tuned model created: ${ended.fineTunedModel}`,
    "The job has successfully completed",
  ]);
  const metrics = (await bench.events(job)).filter((event) => event.type === "metrics");
  expect(metrics[1]?.data).toEqual({
    step: 2,
    total_steps: 10,
    train_loss: 1,
    train_mean_token_accuracy: 0.2,
    full_valid_loss: 2,
    full_valid_mean_token_accuracy: 0.25,
    tokens_per_second: 100,
    seconds_left: 8,
  });

  // The last three epochs; the newest is the model itself, the others have names and ids of their own.
  const checkpoints = (await bench.jobs.listCheckpoints(job.id, { limit: 10 })).data;
  expect(checkpoints.map(({ step }) => step)).toEqual([10, 8, 6]);
  expect(checkpoints.map(({ best }) => best)).toEqual([true, false, false]);
  expect(checkpoints[0]?.model).toBe(ended.fineTunedModel);
  expect(checkpoints[1]?.model).toMatch(/:tacos:[A-Za-z0-9]{8}:ckpt-step-8$/);
  const uniqueParts = new Set(checkpoints.map(({ model }) => model.split(":")[4]));
  expect(uniqueParts.size).toBe(3);
  expect(checkpoints[1]?.metrics).toMatchObject({ step: 8, train_loss: 0.25, full_valid_loss: 0.5 });

  const weights = async (name: string): Promise<string> => {
    const model = await bench.models.get(DEFAULT_PROJECT, name);
    return readFileSync(join(model?.adapterDirectory ?? "", "adapter_model.safetensors"), "utf8");
  };
  expect(await weights(ended.fineTunedModel ?? "")).toBe("weights after step 10");
  expect(await weights(checkpoints[1]?.model ?? "")).toBe("weights after step 8");
  expect(await bench.models.get(DEFAULT_PROJECT, ended.fineTunedModel ?? "")).toMatchObject({
    baseModel: "smollm2-135m-instruct",
    requestedModel: "gpt-4o-mini-2024-07-18",
  });
  const unnamed = join(bench.directoryOf(job), "checkpoints/step-7");
  await until("checkpoints that nobody can name are gone", () => !existsSync(unnamed));

  expect(existsSync(join(bench.directoryOf(job), "training.jsonl"))).toBe(false);

  const result = await bench.files.get(DEFAULT_PROJECT, ended.resultFileId ?? "");
  expect(result).toMatchObject({ filename: "step_metrics.csv", purpose: "fine-tune-results", bytes: 26 });
  expect(readFileSync(bench.blobs.path(result?.id ?? ""), "utf8")).toBe("step,train_loss\n1,2.00000\n");
});

test("the recipe in the job directory has every value as a number", async () => {
  bench = await openWorkbench();
  const validationFileId = await bench.upload(TEN_EXAMPLES);
  const job = await bench.create({
    validationFileId,
    hyperparameters: { n_epochs: 2, batch_size: "auto", learning_rate_multiplier: 0.5 },
  });
  bench.worker().start();
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  const recipe = JSON.parse(readFileSync(join(bench.directoryOf(job), "job.json"), "utf8")) as JobRecipe;
  expect(recipe).toMatchObject({
    version: 1,
    jobId: job.id,
    baseModel: { id: "smollm2-135m-instruct", path: "/models/smollm2-135m-instruct" },
    hyperparameters: {
      epochs: 2,
      batchSize: 1,
      learningRateMultiplier: 0.5,
      learningRate: 2.5e-4,
      clipNorm: 1,
    },
    lora: { rank: 8, alpha: 16, dropout: 0 },
    seed: 7,
    maxLength: 2048,
    trainingData: { file: "training.jsonl" },
    validationData: { file: "validation.jsonl" },
    threads: 2,
  });
  expect((await bench.read(job)).recipe).toEqual(recipe);
  expect(await bench.messages(job)).toContain(
    `Validating training file: ${job.trainingFileId} and validation file: ${validationFileId}`,
  );
  expect(await bench.messages(job)).toContain(
    "Step 2/6: training loss=1.00, validation loss=1.50, full validation loss=2.00",
  );
});

test("jobs run one after the other, oldest first", async () => {
  bench = await openWorkbench();
  const first = await bench.create();
  const second = await bench.create();
  bench.worker().start();
  await until("the second has succeeded", async () => (await bench.status(second)) === "succeeded");
  const [earlier, later] = [await bench.read(first), await bench.read(second)];
  expect(earlier.status).toBe("succeeded");
  expect(earlier.finishedAt ?? Infinity).toBeLessThanOrEqual(later.finishedAt ?? 0);
});

test("the best checkpoint stays though it is older than the last three, and an early stop makes it the model", async () => {
  bench = await openWorkbench();
  const fullValidLosses = { 2: 0.5, 4: 0.3, 6: 0.4, 8: 0.6, 10: 0.3 };
  const late = await bench.create({ instructions: { steps: 10, fullValidLosses } });
  const early = await bench.create({ instructions: { steps: 8, fullValidLosses, finalStep: 4 } });
  bench.worker().start();
  await until("both have succeeded", async () => (await bench.status(early)) === "succeeded");
  const shown = async (job: typeof late) =>
    (await bench.jobs.listCheckpoints(job.id, { limit: 10 })).data.map(({ step, best, model }) => ({
      step,
      best,
      isFinal: !model.includes(":ckpt-step-"),
    }));
  expect(await shown(late)).toEqual([
    { step: 10, best: false, isFinal: true },
    { step: 8, best: false, isFinal: false },
    { step: 6, best: false, isFinal: false },
    { step: 4, best: true, isFinal: false },
  ]);
  expect(await shown(early)).toEqual([
    { step: 8, best: false, isFinal: false },
    { step: 6, best: false, isFinal: false },
    { step: 4, best: true, isFinal: true },
  ]);
  const { fineTunedModel } = await bench.read(early);
  const best = (await bench.events(early)).find(({ message }) => message.startsWith("Best checkpoint"));
  expect(best).toMatchObject({
    message: `Best checkpoint: ${fineTunedModel}, made at step 4, has the lowest full validation loss, 0.30`,
    data: { step: 4, model: fineTunedModel, full_valid_loss: 0.3 },
  });
  for (const { model, step } of (await bench.jobs.listCheckpoints(early.id, { limit: 10 })).data) {
    const { adapterDirectory } = (await bench.models.get(DEFAULT_PROJECT, model)) ?? { adapterDirectory: "" };
    const weights = readFileSync(join(adapterDirectory, "adapter_model.safetensors"), "utf8");
    expect(weights).toBe(`weights after step ${step}`);
  }
});

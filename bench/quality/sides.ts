// The same training run here and in TRL with PEFT: the same weights, rows in the same order, starting adapter, rate, schedule and
// clipping. Here it is a trainer process on a job directory, as the server starts one; there TRL's own trainer.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { epochBatches } from "../../src/data/batches.ts";
import { createChatTemplate } from "../../src/data/chat-template.ts";
import { encodePair } from "../../src/data/encoded-pair.ts";
import { readPreferenceExample } from "../../src/data/preference-example.ts";
import { encodeExample } from "../../src/data/supervised-example.ts";
import { createTokenizer } from "../../src/data/tokenizer.ts";
import { readTrainingExample } from "../../src/data/training-example.ts";
import { sha256OfFile, sha256OfModel } from "../../src/model/base-model.ts";
import { LORA_TARGETS } from "../../src/model/lora-targets.ts";
import { saveAdapter } from "../../src/training/checkpoint.ts";
import { readEvents } from "../../src/training/event-log.ts";
import { jobPaths } from "../../src/training/job-directory.ts";
import type { JobRecipe } from "../../src/training/job-directory.ts";
import { LoraParameters } from "../../src/training/lora-parameters.ts";
import { trlRow, TrlRun } from "../peers/trl-run.ts";
import { OPTIMIZER } from "../training-bench.ts";
import type { OpenedModel } from "../training-bench.ts";
import { writeHuggingFaceFolder } from "../peers/hugging-face-folder.ts";
import type { Task } from "./tasks.ts";

const MAX_LENGTH = 1024;
const TRAINER = join(import.meta.dirname, "../../src/training/trainer.ts");

export interface Plan {
  task: Task;
  seed: number;
  epochs: number;
  batchSize: number;
  threads: number;
}

export interface Trained {
  /** Over the whole validation set after the last step: nats per token, or the preference loss. */
  validationLoss: number;
  /** Share of validation pairs whose preferred answer is rewarded more; preference tasks alone. */
  rewardAccuracy: number | null;
  /** A PEFT folder. */
  adapter: string;
  seconds: number;
  versions: Record<string, string> | null;
}

/** Trains here. */
export async function trainHere(plan: Plan, opened: OpenedModel, folder: string): Promise<Trained> {
  const paths = jobPaths(folder);
  const { recipe } = await writeJob(plan, opened, folder);
  await writeFile(paths.recipe, JSON.stringify(recipe));
  const start = performance.now();
  const child = spawn(process.execPath, ["--import", "tsx", TRAINER, folder], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  const [code] = (await once(child, "exit")) as [number | null];
  const events = await readEvents(paths.events);
  const failed = events.find((event) => event.type === "failed");
  if (code !== 0) throw new Error(failed?.error.message ?? `The trainer ended with code ${code}.`);
  const last = events.findLast((event) => event.type === "metrics");
  if (last?.fullValidLoss === undefined) throw new Error("The trainer did not validate.");
  return {
    validationLoss: last.fullValidLoss,
    rewardAccuracy: last.fullValidRewardAccuracy ?? null,
    adapter: paths.adapter,
    seconds: (performance.now() - start) / 1000,
    versions: null,
  };
}

/** Trains in TRL; the environment must be there. */
export async function trainInTrl(plan: Plan, opened: OpenedModel, folder: string): Promise<Trained> {
  const { task, seed, epochs, batchSize, threads } = plan;
  await mkdir(folder, { recursive: true });
  const base = join(folder, "base");
  await writeHuggingFaceFolder(base, opened.model);
  const { recipe } = await writeJob(plan, opened, join(folder, "job"));
  const initial = join(folder, "initial-adapter");
  const parameters = new LoraParameters(opened.model.config, recipe.lora);
  parameters.initialize(seed);
  await saveAdapter(initial, parameters, recipe);
  const rows = encodeForTrl(plan, opened, task.training);
  const order = Array.from({ length: epochs }, (_, epoch) =>
    epochBatches(rows.length, batchSize, seed, epoch).flat(),
  ).flat();
  const { hyperparameters: h } = recipe;
  const adapter = join(folder, "adapter");
  const start = performance.now();
  const run = await TrlRun.start(join(folder, "plan.json"), {
    method: task.method === "dpo" ? "dpo" : "sft",
    model: base,
    dtype: "float32",
    lora: { rank: recipe.lora.rank, alpha: recipe.lora.alpha, target_modules: recipe.lora.targetModules },
    initial_adapter: initial,
    seed,
    threads,
    batch_size: batchSize,
    optimizer: {
      learning_rate: h.learningRate,
      schedule: "linear",
      warmup_steps: 0,
      clip_norm: h.clipNorm,
      weight_decay: h.weightDecay,
      beta1: h.beta1,
      beta2: h.beta2,
      epsilon: h.epsilon,
    },
    ...(task.method === "dpo" ? { beta: task.beta } : {}),
    training: order.map((i) => rows[i] as object),
    validation: encodeForTrl(plan, opened, task.validation),
    paced: false,
    adapter,
  });
  try {
    const { metrics } = await run.expect("evaluation");
    await run.expect("end");
    return {
      validationLoss: metrics["eval_loss"] as number,
      rewardAccuracy: metrics["eval_rewards/accuracies"] ?? null,
      adapter,
      seconds: (performance.now() - start) / 1000,
      versions: run.versions,
    };
  } finally {
    await run.stop();
  }
}

/** The rows as TRL takes them. Its own mean of a batch is per token, so a whole validation set is one batch there. */
function encodeForTrl({ task }: Plan, { model }: OpenedModel, rows: readonly object[]): object[] {
  const options = {
    tokenizer: createTokenizer(model.tokenizer),
    template: createChatTemplate(model.tokenizer),
    maxLength: MAX_LENGTH,
  };
  return rows.map((row) => {
    if (task.method === "supervised") {
      const { example } = readTrainingExample(row);
      if (example === null) throw new Error(`Not a chat: ${JSON.stringify(row)}`);
      return trlRow(encodeExample(example.messages, example.tools, options));
    }
    const { example } = readPreferenceExample(row);
    if (example === null) throw new Error(`Not a pair: ${JSON.stringify(row)}`);
    const { preferred, rejected } = encodePair(example, options);
    const prompt = preferred.supervised.indexOf(1);
    return {
      prompt_ids: [...preferred.tokens.subarray(0, prompt)],
      chosen_ids: [...preferred.tokens.subarray(prompt)],
      rejected_ids: [...rejected.tokens.subarray(prompt)],
    };
  });
}

/** A job directory without its job.json, and what would stand in that. */
async function writeJob(
  { task, seed, epochs, batchSize, threads }: Plan,
  { id, path }: OpenedModel,
  folder: string,
): Promise<{ recipe: JobRecipe }> {
  await mkdir(folder, { recursive: true });
  const write = async (file: string, rows: readonly object[]): Promise<JobRecipe["trainingData"]> => {
    await writeFile(join(folder, file), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    return { file, sha256: await sha256OfFile(join(folder, file)) };
  };
  const recipe: JobRecipe = {
    version: 1,
    jobId: "ftjob-quality",
    baseModel: { id, path, sha256: await sha256OfModel(path) },
    method: task.method,
    hyperparameters: {
      epochs,
      batchSize,
      learningRateMultiplier: 1,
      learningRate: task.learningRate,
      warmupRatio: 0,
      ...OPTIMIZER,
      clipNorm: 1,
      ...(task.method === "dpo" ? { beta: task.beta } : {}),
    },
    lora: { rank: 8, alpha: 16, dropout: 0, targetModules: [...LORA_TARGETS] },
    seed,
    maxLength: MAX_LENGTH,
    trainingData: await write("training.jsonl", task.training),
    validationData: await write("validation.jsonl", task.validation),
    threads,
  };
  return { recipe };
}

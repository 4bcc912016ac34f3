// The same training run here and in TRL with PEFT: the same weights, rows in the same order, starting adapter, rate, schedule and
// clipping. Here it is a trainer process on a job directory, as the server starts one; there TRL's own trainer.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { epochBatches } from "../../src/data/batches.ts";
import { createChatTemplate } from "../../src/data/chat-template.ts";
import { encodePair } from "../../src/data/encoded-pair.ts";
import { readPreferenceExample } from "../../src/data/preference-example.ts";
import { encodeExample } from "../../src/data/supervised-example.ts";
import { createTokenizer } from "../../src/data/tokenizer.ts";
import { readTrainingExample } from "../../src/data/training-example.ts";
import { saveAdapter } from "../../src/training/checkpoint.ts";
import { jobPaths } from "../../src/training/job-directory.ts";
import { LoraParameters } from "../../src/training/lora-parameters.ts";
import { MAX_LENGTH, runTrainerProcess, writeJob } from "../job-run.ts";
import type { JobPlan } from "../job-run.ts";
import { trlRow, TrlRun } from "../peers/trl-run.ts";
import type { OpenedModel } from "../training-bench.ts";
import { writeHuggingFaceFolder } from "../peers/hugging-face-folder.ts";
import type { Task } from "./tasks.ts";

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
  return trainJob(jobOf(plan), opened, folder);
}

/** Trains as a job does. */
export async function trainJob(job: JobPlan, opened: OpenedModel, folder: string): Promise<Trained> {
  await writeJob(opened, folder, job);
  const { events, seconds } = await runTrainerProcess(folder);
  const last = events.findLast((event) => event.type === "metrics");
  if (last?.fullValidLoss === undefined) throw new Error("The trainer did not validate.");
  return {
    validationLoss: last.fullValidLoss,
    rewardAccuracy: last.fullValidRewardAccuracy ?? null,
    adapter: jobPaths(folder).adapter,
    seconds,
    versions: null,
  };
}

function jobOf({ task, seed, epochs, batchSize, threads }: Plan): JobPlan {
  const { method, training, validation, learningRate } = task;
  return {
    ...{ method, training, validation, learningRate, seed, epochs, batchSize, threads },
    ...(task.method === "dpo" ? { beta: task.beta } : {}),
  };
}

/** Trains in TRL; the environment must be there. */
export async function trainInTrl(plan: Plan, opened: OpenedModel, folder: string): Promise<Trained> {
  const { task, seed, epochs, batchSize, threads } = plan;
  await mkdir(folder, { recursive: true });
  const base = join(folder, "base");
  await writeHuggingFaceFolder(base, opened.model);
  const recipe = await writeJob(opened, join(folder, "job"), jobOf(plan));
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

// A trainer process on a job directory, without a server: what a job would write there, and what the trainer reported.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sha256OfModel } from "../src/model/base-model.ts";
import { sha256OfFile } from "../src/model/file-hash.ts";
import { LORA_TARGETS } from "../src/model/lora-targets.ts";
import { readEvents } from "../src/training/event-log.ts";
import { jobPaths } from "../src/training/job-directory.ts";
import type { JobRecipe, TrainerEvent, TrainingMethod } from "../src/training/job-directory.ts";
import { OPTIMIZER } from "./training-bench.ts";
import type { OpenedModel } from "./training-bench.ts";

/** Tokens; what a job cuts its examples to in these benchmarks. */
export const MAX_LENGTH = 1024;
const TRAINER = join(import.meta.dirname, "../src/training/trainer.ts");

export interface JobPlan {
  method: TrainingMethod;
  /** Rows of OpenAI's formats. */
  training: readonly object[];
  validation: readonly object[];
  /** The peak; it falls to 0 in a straight line. */
  learningRate: number;
  epochs: number;
  batchSize: number;
  seed: number;
  threads: number;
  /** DPO alone. */
  beta?: number;
  /** Left out: rank 8 and alpha 16 on all linears. */
  lora?: JobRecipe["lora"];
  /** Left out: none. */
  warmupRatio?: number;
}

/** Writes a job directory; gives back what stands in its job.json. */
export async function writeJob({ id, path }: OpenedModel, folder: string, plan: JobPlan): Promise<JobRecipe> {
  await mkdir(folder, { recursive: true });
  const write = async (file: string, rows: readonly object[]): Promise<JobRecipe["trainingData"]> => {
    await writeFile(join(folder, file), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    return { file, sha256: await sha256OfFile(join(folder, file)) };
  };
  const { method, epochs, batchSize, learningRate, seed, threads, beta, warmupRatio = 0 } = plan;
  const recipe: JobRecipe = {
    version: 1,
    jobId: "ftjob-bench",
    baseModel: { id, path, sha256: await sha256OfModel(path) },
    method,
    hyperparameters: {
      epochs,
      batchSize,
      learningRateMultiplier: 1,
      learningRate,
      warmupRatio,
      ...OPTIMIZER,
      clipNorm: 1,
      ...(beta === undefined ? {} : { beta }),
    },
    lora: plan.lora ?? { rank: 8, alpha: 16, dropout: 0, targetModules: [...LORA_TARGETS] },
    seed,
    maxLength: MAX_LENGTH,
    trainingData: await write("training.jsonl", plan.training),
    validationData: plan.validation.length === 0 ? null : await write("validation.jsonl", plan.validation),
    threads,
  };
  await writeFile(jobPaths(folder).recipe, JSON.stringify(recipe));
  return recipe;
}

export interface JobRun {
  events: TrainerEvent[];
  /** From the process's start to its end. */
  seconds: number;
  peakRssBytes: number;
}

/** Trains; throws the trainer's own message when it failed. */
export async function runTrainerProcess(folder: string): Promise<JobRun> {
  const start = performance.now();
  const child = spawn(process.execPath, ["--import", "tsx", TRAINER, folder], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  const [code] = (await once(child, "exit")) as [number | null];
  const seconds = (performance.now() - start) / 1000;
  const events = await readEvents(jobPaths(folder).events);
  const failed = events.find((event) => event.type === "failed");
  const succeeded = events.find((event) => event.type === "succeeded");
  if (succeeded === undefined)
    throw new Error(failed?.error.message ?? `The trainer ended with code ${code}.`);
  return { events, seconds, peakRssBytes: succeeded.peakRssBytes };
}

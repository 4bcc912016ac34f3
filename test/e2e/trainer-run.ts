// Trainer processes run by hand on job directories: what the tests of killed and failing trainers need, without a server.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { embeddedTrainer } from "../../src/jobs/trainer-process.ts";
import { sha256OfModel } from "../../src/model/base-model.ts";
import { readEvents } from "../../src/training/event-log.ts";
import { jobPaths } from "../../src/training/job-directory.ts";
import type { JobRecipe, TrainerEvent } from "../../src/training/job-directory.ts";
import { atCleanUp } from "./harness.ts";

/** Writes job.json and the data of a job on the model at `modelPath`. */
export async function makeJobDirectory(
  directory: string,
  job: {
    modelPath: string;
    rows: readonly object[];
    validationRows?: readonly object[];
    epochs: number;
    batchSize?: number;
    dropout?: number;
  },
): Promise<void> {
  await mkdir(directory, { recursive: true });
  const write = async (file: string, rows: readonly object[]) => {
    const text = rows.map((row) => `${JSON.stringify(row)}\n`).join("");
    await writeFile(join(directory, file), text);
    return { file, sha256: createHash("sha256").update(text).digest("hex") };
  };
  const recipe: JobRecipe = {
    version: 1,
    jobId: "ftjob-by-hand",
    baseModel: { id: "tiny", path: job.modelPath, sha256: await sha256OfModel(job.modelPath) },
    method: "supervised",
    hyperparameters: {
      epochs: job.epochs,
      batchSize: job.batchSize ?? 1,
      learningRateMultiplier: 1,
      learningRate: 5e-3,
      warmupRatio: 0.05,
      weightDecay: 0.01,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      clipNorm: 1,
    },
    // Dropout too must come back the same after a kill.
    lora: {
      rank: 8,
      alpha: 16,
      dropout: job.dropout ?? 0.1,
      targetModules: ["q_proj", "v_proj", "up_proj", "down_proj"],
    },
    seed: 5,
    maxLength: 256,
    trainingData: await write("training.jsonl", job.rows),
    validationData:
      job.validationRows === undefined ? null : await write("validation.jsonl", job.validationRows),
    threads: 1,
  };
  await writeFile(jobPaths(directory).recipe, JSON.stringify(recipe));
}

export interface TrainerRun {
  pid: number;
  kill(): void;
  /** Rejects nothing: how it ended, and what it wrote to standard error. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null; stderr: string }>;
}

/** Starts a trainer; `shell`, where given, is run by bash in front of it, in the same process. */
export function startTrainer(
  directory: string,
  options: { checkpointIntervalMs?: number; memoryBytes?: number; jobsAtOnce?: number; shell?: string } = {},
): TrainerRun {
  const { checkpointIntervalMs, shell = ":", ...memory } = options;
  const { entry, nodeOptions, options: flags = [] } = embeddedTrainer(memory);
  const args = [process.execPath, ...nodeOptions, entry, directory, ...flags];
  if (checkpointIntervalMs !== undefined) args.push(`--checkpoint-interval-ms=${checkpointIntervalMs}`);
  const child = spawn("bash", ["-c", `${shell}; exec "$@"`, "trainer", ...args], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = once(child, "close").then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as NodeJS.Signals | null,
    stderr,
  }));
  atCleanUp(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  return { pid: child.pid as number, kill: () => child.kill("SIGKILL"), ended };
}

/** The events so far; none before the trainer has made its log. */
export async function eventsSoFar(directory: string): Promise<TrainerEvent[]> {
  return readEvents(jobPaths(directory).events).catch(() => []);
}

/** What a finished job is judged by: the same recipe and data must give the same bytes. */
export async function finalBytes(directory: string): Promise<{ adapter: Buffer; result: string }> {
  const { adapter, result } = jobPaths(directory);
  return {
    adapter: await readFile(join(adapter, "adapter_model.safetensors")),
    result: await readFile(result, "utf8"),
  };
}

// What works on jobs and batches in this process: the settings' share of threads, memory and decode rows for each.
import type { FastifyBaseLogger } from "fastify";
import { trainerEnvironment } from "../config.ts";
import type { Config } from "../config.ts";
import { createBatchRun } from "../jobs/batch.ts";
import { sweepEndedJobs } from "../jobs/clean-up.ts";
import type { Dispatch } from "../jobs/dispatch.ts";
import { createFineTune } from "../jobs/fine-tune.ts";
import { createSlots } from "../jobs/slots.ts";
import { createSpaceWatch } from "../jobs/space-watch.ts";
import { embeddedTrainer } from "../jobs/trainer-process.ts";
import { createWorker, joinWorkers } from "../jobs/worker.ts";
import type { Worker } from "../jobs/worker.ts";
import { resolveBaseModel } from "../model/resolve-base-model.ts";
import { shareWork } from "../model/shared-work.ts";
import { DEFAULT_LIMITS } from "../serving/scheduler.ts";
import type { BatchQueue } from "../store/batch-queue.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { FileStore } from "../store/files.ts";
import type { FineTuningQueue } from "../store/fine-tuning-queue.ts";
import type { ModelStore } from "../store/models.ts";
import { sourcesOf } from "./base-models.ts";

/** What a worker is made from. */
export interface WorkerParts {
  config: Config;
  queue: FineTuningQueue;
  files: FileStore;
  blobs: BlobStore;
  models: ModelStore;
  threads: number;
  logger: FastifyBaseLogger;
}

export function createJobWorker(parts: WorkerParts): Worker {
  const { config, logger, queue } = parts;
  const { homeDirectory, organization, maxConcurrentJobs } = config;
  const run = createFineTune({
    ...parts,
    // A fixed share, not one of those that happen to run: the number of threads shows in the last bits of what is trained.
    threads: Math.max(1, Math.floor(parts.threads / maxConcurrentJobs)),
    homeDirectory,
    organization,
    resolveBaseModel: shareWork((id, signal) => resolveBaseModel(id, { ...sourcesOf(config), signal })),
    trainer: embeddedTrainer({
      environment: trainerEnvironment(),
      memoryBytes: config.trainingMemoryBytes,
      jobsAtOnce: maxConcurrentJobs,
    }),
  });
  const sweep = (signal: AbortSignal) => sweepEndedJobs({ ...parts, homeDirectory, organization }, signal);
  const workers = Array.from({ length: maxConcurrentJobs }, (_, i) =>
    createWorker({ queue, run, logger, ...(i === 0 ? { sweep } : {}) }),
  );
  const onResumed = (): void => workers.forEach((each) => each.wake());
  return joinWorkers([...workers, createSpaceWatch({ queue, homeDirectory, onResumed, logger })]);
}

/** Batches worked on at a time, so that a small one need not wait for the end of a large one. More would wait for the same lines. */
const BATCH_WORKERS = 4;

/** Lines of all batches that run at a time: they fill serving's decode steps, and leave a quarter of its rows to those who wait for an answer. */
const BATCH_LINES_IN_FLIGHT = Math.ceil(DEFAULT_LIMITS.maxRows * 0.75);

export function createBatchWorkers(parts: {
  batchQueue: BatchQueue;
  files: FileStore;
  blobs: BlobStore;
  config: Config;
  dispatch: Dispatch;
  logger: FastifyBaseLogger;
}): Worker[] {
  const { config, batchQueue, logger } = parts;
  const run = createBatchRun({
    ...parts,
    homeDirectory: config.homeDirectory,
    slots: createSlots(BATCH_LINES_IN_FLIGHT),
    maxLineBytes: config.maxBodyBytes,
  });
  return Array.from({ length: BATCH_WORKERS }, () => createWorker({ queue: batchQueue, run, logger }));
}

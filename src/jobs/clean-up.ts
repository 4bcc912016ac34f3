// What a job directory no longer needs when its job has ended: the data, which would outlive the deletion of the upload,
// checkpoints that nothing leads to, and the half results of a job that did not succeed. job.json, events.jsonl and trainer.log
// always stay. Every removal can be repeated, and a sweep repeats those that a crash cut off.
import { readdir, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { messageOf } from "../errors.ts";
import type { FineTuningQueue } from "../store/fine-tuning-queue.ts";
import type { Job } from "../store/fine-tuning-rows.ts";
import { jobPaths, removeTemporarySiblings } from "../training/job-directory.ts";
import { removeDataFiles } from "./job-files.ts";
import { keepCheckpoints } from "./settle.ts";
import { waitForOrphan } from "./trainer-process.ts";
import { SYSTEM_CLOCK, type Clock, type Logger } from "./worker.ts";

export interface CleanUpOptions {
  queue: FineTuningQueue;
  homeDirectory: string;
  /** The third part of a model's name. */
  organization: string;
  logger: Logger;
  clock?: Clock;
}

/**
 * Directories cleaned up at one start, before the first job gets its turn: a crash leaves one, so more than a few come only
 * from a disk that refused for long. The rest waits for the next start.
 */
export const MAX_SWEPT_JOBS = 1_000;

/** Cleans up after jobs that ended while nobody could: a crash came between a job's last status and its clean-up. Never rejects. */
export async function sweepEndedJobs(options: CleanUpOptions, signal: AbortSignal): Promise<void> {
  const { queue, logger } = options;
  try {
    const jobs = await queue.listToCleanUp(MAX_SWEPT_JOBS);
    let cleaned = 0;
    for (const job of jobs) {
      if (signal.aborted) break;
      if (await cleanUpEnded(options, job)) cleaned += 1;
    }
    if (jobs.length > 0) logger.info({ jobs: jobs.length, cleaned }, "Cleaned up after ended jobs.");
  } catch (error) {
    logger.warn({ error: messageOf(error) }, "Could not look for ended jobs to clean up after.");
  }
}

/** Removes what the ended job no longer needs. Never rejects: what stays behind costs only space, and false says that it does. */
export async function cleanUpEnded(options: CleanUpOptions, job: Job): Promise<boolean> {
  const { queue, homeDirectory, logger, clock = SYSTEM_CLOCK } = options;
  const directory = join(homeDirectory, "jobs", job.id);
  try {
    if (await exists(directory)) {
      if (job.status !== "succeeded") {
        // Nothing that the trainer could still save is wanted; what it has finished is.
        await waitForOrphan(directory, clock, new AbortController().signal, 0);
        await keepCheckpoints({ ...options, job, directory });
        await removeHalfResults(directory);
      }
      const adapters = await queue.adapterDirectories(job.id);
      await removeUnneeded(
        directory,
        adapters.map((adapter) => resolve(homeDirectory, adapter)),
      );
    }
    await queue.markCleanedUp(job.id);
    return true;
  } catch (error) {
    logger.warn(
      { job: job.id, error: messageOf(error) },
      "Could not remove what the job no longer needs; the next start tries again.",
    );
    return false;
  }
}

/** The folders in `kept` are models and stay, without what only served a resume. */
async function removeUnneeded(directory: string, kept: readonly string[]): Promise<void> {
  await removeDataFiles(directory);
  const { checkpoints, reference } = jobPaths(directory);
  await rm(reference, { force: true });
  // With their optimizer states, checkpoints are most of the directory.
  for (const name of await readdir(checkpoints).catch(() => [])) {
    const path = join(checkpoints, name);
    if (kept.includes(resolve(path))) await rm(join(path, "optimizer.safetensors"), { force: true });
    else await rm(path, { recursive: true, force: true });
  }
  await removeTemporarySiblings(directory);
}

/** What only a trainer's success gives a meaning, and what it had open. */
async function removeHalfResults(directory: string): Promise<void> {
  const { adapter, result, recipe, lock } = jobPaths(directory);
  for (const path of [adapter, result, `${recipe}.part`, lock]) {
    await rm(path, { recursive: true, force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

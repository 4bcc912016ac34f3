// What a job directory no longer needs when its job has ended: the data, which would outlive the deletion of the upload, and
// checkpoints that nothing leads to. job.json, events.jsonl and trainer.log always stay. Every removal can be repeated.
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { jobPaths } from "../training/job-directory.ts";
import { removeDataFiles } from "./job-files.ts";
import { waitForOrphan } from "./trainer-process.ts";
import type { Clock } from "./worker.ts";

/** For a job that succeeded. Checkpoints in `keptDirectories` are models and stay, without what only served a resume. */
export async function cleanUpSucceeded(
  jobDirectory: string,
  keptDirectories: readonly string[],
): Promise<void> {
  await removeDataFiles(jobDirectory);
  const { checkpoints } = jobPaths(jobDirectory);
  // With their optimizer states, checkpoints are most of the directory.
  for (const name of await readdir(checkpoints).catch(() => [])) {
    const path = join(checkpoints, name);
    if (keptDirectories.includes(path)) await rm(join(path, "optimizer.safetensors"), { force: true });
    else await rm(path, { recursive: true, force: true });
  }
}

/** For a job that failed or was cancelled: ends a trainer that still works on it, as nothing it could save is wanted. */
export async function cleanUpUnfinished(jobDirectory: string, clock: Clock): Promise<void> {
  await waitForOrphan(jobDirectory, clock, new AbortController().signal, 0);
  await removeDataFiles(jobDirectory);
  await rm(jobPaths(jobDirectory).checkpoints, { recursive: true, force: true });
}

// A batch from claim to end: judge the input file, run its lines, write the output files. Each phase can be repeated after a
// crash, so a batch is taken up wherever its status says; a line whose result is in the journal never runs again. How a line is
// answered it does not know.
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { isFullDisk, messageOf, OutOfSpace } from "../errors.ts";
import type { BatchQueue } from "../store/batch-queue.ts";
import type { Batch } from "../store/batches.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { FileStore } from "../store/files.ts";
import type { Lease } from "../store/leases.ts";
import { MAX_BATCH_FILE_BYTES } from "../wire/batches.ts";
import type { BatchError } from "../wire/batches.ts";
import { judgeBatchInput } from "./batch-input.ts";
import { mendJournal } from "./batch-journal.ts";
import { runBatchLines } from "./batch-lines.ts";
import { writeOutputFiles } from "./batch-output.ts";
import { progressOf } from "./batch-progress.ts";
import type { Dispatch } from "./dispatch.ts";
import { takeFile } from "./job-files.ts";
import { LeaseLost } from "./lease-lost.ts";
import type { Slots } from "./slots.ts";
import { SYSTEM_CLOCK, type Clock, type Logger, type RunJob } from "./worker.ts";

export interface BatchDependencies {
  batchQueue: BatchQueue;
  files: FileStore;
  blobs: BlobStore;
  /** Batch directories are made in its folder `batches`. */
  homeDirectory: string;
  dispatch: Dispatch;
  /** Bounds the lines that run at a time, over all batches. */
  slots: Slots;
  /** The largest body of a request. */
  maxLineBytes: number;
  logger: Logger;
  clock?: Clock;
}

/** A batch that was begun this often without being given back in order takes the server down with it each time. */
const MAX_BATCH_ATTEMPTS = 20;

/** Before a batch that found the disk full is tried again: nothing of it is lost, and somebody has to free space first. */
const FULL_DISK_PAUSE_MS = 30_000;

/** Makes the function that the workers of batches run. */
export function createBatchRun(dependencies: BatchDependencies): RunJob<Batch> {
  const { batchQueue: queue, files, blobs, dispatch, maxLineBytes, logger } = dependencies;
  const clock = dependencies.clock ?? SYSTEM_CLOCK;

  /** By batch: a worker that lost its lease may still be closing the journal when another of this process begins. */
  const runs = new Map<string, Promise<void>>();

  return async (batch, lease, signal) => {
    const earlier = runs.get(batch.id);
    const run = (earlier ?? Promise.resolve()).then(() => runBatch(batch, lease, signal));
    const settled = run.catch(() => undefined);
    runs.set(batch.id, settled);
    try {
      await run;
    } finally {
      if (runs.get(batch.id) === settled) runs.delete(batch.id);
    }
  };

  async function runBatch(batch: Batch, lease: Lease, signal: AbortSignal): Promise<void> {
    const directory = join(dependencies.homeDirectory, "batches", batch.id);
    const paths = { input: join(directory, "input.jsonl"), journal: join(directory, "results.jsonl") };
    try {
      if (batch.attempts > MAX_BATCH_ATTEMPTS) {
        // What it has done stays in its directory, for whoever looks for the cause.
        await fail([tooManyAttempts(batch)]);
        return;
      }
      await mendJournal(paths.journal);
      await advance();
      await rm(directory, { recursive: true, force: true });
    } catch (error) {
      if (error instanceof LeaseLost || signal.aborted) {
        // Cancelled, taken by another worker, or the server stops: whoever claims the batch next goes on from the journal.
        logger.info({ batch: batch.id, reason: String(signal.reason ?? "lease-lost") }, "Batch stopped.");
        return;
      }
      if (!(error instanceof OutOfSpace) && !isFullDisk(error)) throw error;
      logger.error({ batch: batch.id, error: messageOf(error) }, "A batch waits for space on the disk.");
      await clock.delay(FULL_DISK_PAUSE_MS, signal);
    }

    async function advance(): Promise<void> {
      let { status } = batch;
      let total = batch.requestCounts.total;
      if (status === "validating") {
        if (isExpired()) return finish("expired", 0);
        const report = await judge();
        if (report.errors !== null) return fail(report.errors);
        held(await queue.start(lease, report));
        ({ total } = report);
        status = "in_progress";
      }
      if (status === "in_progress") {
        await runBatchLines({
          ...dependencies,
          clock,
          batch,
          lease,
          paths,
          signal,
          progress: await progressOf(paths.journal, total),
        });
        signal.throwIfAborted();
        held(await queue.finalize(lease, await progressOf(paths.journal, total)));
      }
      if (status === "cancelling") return finish("cancelled", total);
      const { completed, failed } = (await progressOf(paths.journal, total)).requestCounts;
      await finish(completed + failed < total ? "expired" : "completed", total);
    }

    function isExpired(): boolean {
      return clock.now() >= batch.expiresAt * 1000;
    }

    async function judge() {
      const file = await files.get(batch.projectId, batch.inputFileId);
      if (file === null) return { errors: [deletedInput(batch.inputFileId)] };
      if (file.bytes > MAX_BATCH_FILE_BYTES) return { errors: [tooLarge(file.bytes)] };
      await mkdir(directory, { recursive: true });
      const taken = await takeFile({ files, blobs }, paths.input, {
        projectId: batch.projectId,
        fileId: batch.inputFileId,
        param: "input_file_id",
      });
      if (taken === null) return { errors: [deletedInput(batch.inputFileId)] };
      return judgeBatchInput(paths.input, {
        endpoint: batch.endpoint,
        maxLineBytes,
        signal,
        modelExists: async (model) => {
          const url = `/v1/models/${encodeURIComponent(model)}`;
          const answer = await dispatch({ project: batch.projectId, method: "GET", url, signal });
          return answer.statusCode !== 404;
        },
      });
    }

    /** `total` is 0 for a batch whose lines never ran: then there is nothing to write. */
    async function finish(status: "completed" | "expired" | "cancelled", total: number): Promise<void> {
      const written =
        total === 0
          ? { outputFile: null, errorFile: null }
          : await writeOutputFiles({
              blobs,
              batch,
              paths,
              maxLineBytes,
              signal,
              status,
            });
      const progress = await progressOf(paths.journal, total);
      const { outputFile, errorFile } = written;
      if (!(await queue.finish(lease, { ...written, ...progress, status }))) {
        for (const file of [outputFile, errorFile]) if (file !== null) await blobs.delete(file.id);
        throw new LeaseLost();
      }
      logger.info({ batch: batch.id, status, ...progress.requestCounts }, "Batch ended.");
    }

    async function fail(errors: readonly BatchError[]): Promise<void> {
      held(await queue.fail(lease, errors));
      logger.info({ batch: batch.id, errors: errors.length }, "Batch failed.");
    }
  }
}

function held(isHeld: boolean): void {
  if (!isHeld) throw new LeaseLost();
}

function deletedInput(fileId: string): BatchError {
  return {
    code: "deleted_input_file",
    message: `The input file ${fileId} was deleted before the batch could read it. Upload it again and create a new batch.`,
    param: "input_file_id",
    line: null,
  };
}

function tooLarge(bytes: number): BatchError {
  return {
    code: "file_too_large",
    message: `The input file has ${bytes} bytes; a batch may have at most ${MAX_BATCH_FILE_BYTES}. Split the file and create a batch for each part.`,
    param: "input_file_id",
    line: null,
  };
}

function tooManyAttempts(batch: Batch): BatchError {
  return {
    code: "server_error",
    message: `The server went down ${batch.attempts - 1} times while working on this batch, so it was given up. Look for the cause in the server's log (often too little memory), then create the batch again.`,
    param: null,
    line: null,
  };
}

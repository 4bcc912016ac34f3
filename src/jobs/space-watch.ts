// Jobs that were paused because the disk was full, put back into the queue when there is room. It knows no trainer: what a job
// needs stands in its row.
import { statfs } from "node:fs/promises";
import { messageOf } from "../errors.ts";
import type { FineTuningQueue } from "../store/fine-tuning-queue.ts";
import { SYSTEM_CLOCK, type Clock, type Logger, type Worker } from "./worker.ts";

/** A look costs one query, and one question to the file system where a job waits; nobody misses half a minute of a full disk. */
const SPACE_POLL_MS = 30_000;

/** Room beside a job's next checkpoint: for its events, the database and what else writes to the disk meanwhile. */
export const SPARE_ROOM_BYTES = 64 * 2 ** 20;

/** Bytes that users without special rights may still write. */
export async function freeBytes(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}

export interface SpaceWatchOptions {
  queue: FineTuningQueue;
  /** On the disk that fills up. */
  homeDirectory: string;
  /** Called when jobs have gone back to the queue. */
  onResumed: () => void;
  logger: Logger;
  clock?: Clock;
  freeBytes?: typeof freeBytes;
}

export function createSpaceWatch(options: SpaceWatchOptions): Worker {
  const { queue, homeDirectory, onResumed, logger, clock = SYSTEM_CLOCK } = options;
  const measure = options.freeBytes ?? freeBytes;
  const stopping = new AbortController();
  let loop: Promise<void> | null = null;

  async function look(): Promise<void> {
    const waiting = await queue.listWaitingForSpace();
    if (waiting.length === 0) return;
    // Of one measurement each job gets what those before it have left.
    let free = await measure(homeDirectory);
    for (const { jobId, neededBytes } of waiting) {
      if (free < neededBytes) continue;
      free -= neededBytes;
      const event = { message: "There is room on the disk again: fine-tuning job resumed" };
      if (!(await queue.resumeWithRoom(jobId, event))) continue;
      logger.info({ job: jobId }, "There is room again; the job goes on.");
      onResumed();
    }
  }

  async function loopUntilStopped(): Promise<void> {
    while (!stopping.signal.aborted) {
      await look().catch((error: unknown) =>
        logger.warn({ error: messageOf(error) }, "Could not look for jobs that wait for room on the disk."),
      );
      await clock.delay(SPACE_POLL_MS, stopping.signal);
    }
  }

  return {
    start() {
      loop ??= loopUntilStopped();
    },
    wake: () => undefined,
    async stop() {
      stopping.abort();
      await loop;
    },
  };
}

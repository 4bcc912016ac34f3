// Running the lines of a batch: a bounded number at a time, each result into the journal before its line counts as done. Ends
// when all have run, when the batch expires, or when the signal aborts.
import { Cancelled } from "../errors.ts";
import type { BatchProgress, BatchQueue } from "../store/batch-queue.ts";
import type { Batch } from "../store/batches.ts";
import type { Lease } from "../store/leases.ts";
import { newId } from "../wire/ids.ts";
import type { BatchOutputLine, BatchRequestLine } from "../wire/batches.ts";
import { parseBatchLine, requestLines } from "./batch-input.ts";
import { BatchJournal, readJournal } from "./batch-journal.ts";
import { withResult } from "./batch-progress.ts";
import type { Dispatch } from "./dispatch.ts";
import { LeaseLost } from "./lease-lost.ts";
import type { Slots } from "./slots.ts";
import type { Clock } from "./worker.ts";

/** How often the counts that clients see are written while lines run. */
const PROGRESS_INTERVAL_MS = 1_000;

/**
 * A line that is turned away without word of when to come again (as a rule 503) is tried so often: about two minutes with the
 * pauses below.
 */
const MAX_LINE_ATTEMPTS = 10;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;

export interface BatchLinesOptions {
  batchQueue: BatchQueue;
  dispatch: Dispatch;
  slots: Slots;
  maxLineBytes: number;
  clock: Clock;
  batch: Batch;
  lease: Lease;
  paths: { input: string; journal: string };
  /** What the journal holds already. */
  progress: BatchProgress;
  signal: AbortSignal;
}

/** Throws LeaseLost, and what the disk or the server throws; results that came before are in the journal. */
export async function runBatchLines(options: BatchLinesOptions): Promise<void> {
  const { batchQueue: queue, batch, lease, paths, slots, clock, maxLineBytes } = options;
  const done = new Set<number>();
  for await (const { line } of readJournal(paths.journal)) done.add(line);

  const ended = new AbortController();
  const expired = new AbortController();
  const failed = new AbortController();
  const stop = AbortSignal.any([options.signal, expired.signal, failed.signal]);
  const alarm = clock
    .delay(batch.expiresAt * 1000 - clock.now(), ended.signal)
    .then(() => expired.abort("expired"));

  let { progress } = options;
  let reportedAtMs = clock.now();
  const journal = await BatchJournal.open(paths.journal);
  const gate = createGate(clock, stop);
  const running = new Set<Promise<void>>();

  async function run(number: number, line: BatchRequestLine, slot: Slot): Promise<void> {
    const output = await answer(line, { ...options, signal: stop, slot, gate });
    if (output === null) return;
    await journal.append({ line: number, output });
    progress = withResult(progress, output);
    if (clock.now() - reportedAtMs < PROGRESS_INTERVAL_MS) return;
    reportedAtMs = clock.now();
    if (!(await queue.update(lease, progress))) throw new LeaseLost();
  }

  try {
    for await (const { number, text } of requestLines(paths.input, { maxLineBytes, signal: stop })) {
      if (text === null || done.has(number)) continue;
      await gate.passed();
      const slot: Slot = { giveBack: await slots.take(stop) };
      const one = run(number, parseBatchLine(text), slot)
        .catch((error: unknown) => failed.abort(error))
        .finally(() => {
          slot.giveBack();
          running.delete(one);
        });
      running.add(one);
    }
  } catch (error) {
    // Waiting for a slot, or for the next line, ends this way when it is time to stop.
    if (!stop.aborted) failed.abort(error);
  } finally {
    await Promise.all(running);
    ended.abort();
    await alarm;
    await journal.close();
  }
  if (failed.signal.aborted) throw failed.signal.reason;
}

/** A line's place among those that run, which it leaves while it waits. */
interface Slot {
  giveBack: () => void;
}

/** Holds all lines of a batch back while the key that made it has used up its limit. */
function createGate(clock: Clock, signal: AbortSignal) {
  let closedUntilMs = 0;
  return {
    close: (forMs: number): void => {
      closedUntilMs = Math.max(closedUntilMs, clock.now() + Math.min(forMs, LONGEST_PAUSE_MS));
    },
    /** Resolves when it is open, or the signal aborts. */
    passed: async (): Promise<void> => {
      for (;;) {
        const leftMs = closedUntilMs - clock.now();
        if (leftMs <= 0 || signal.aborted) return;
        await clock.delay(leftMs, signal);
      }
    },
  };
}

/** The line's result; null when it was stopped before there was one. */
async function answer(
  line: BatchRequestLine,
  options: BatchLinesOptions & { slot: Slot; gate: ReturnType<typeof createGate> },
): Promise<BatchOutputLine | null> {
  const { dispatch, batch, clock, signal, slots, slot, gate } = options;
  let attempt = 1;
  for (;;) {
    let response: Awaited<ReturnType<Dispatch>>;
    try {
      response = await dispatch({
        project: batch.projectId,
        keyId: batch.keyId,
        method: "POST",
        url: line.url,
        body: line.body,
        signal,
      });
    } catch (error) {
      if (signal.aborted || error instanceof Cancelled) return null;
      throw error;
    }
    const { statusCode, requestId, body, retryAfterMs } = response;
    const isTurnedAway = statusCode === 429 || statusCode === 503;
    // Also what a server says that is being stopped.
    if (isTurnedAway && signal.aborted) return null;
    if (retryAfterMs !== undefined) {
      // However long that is: the batch ends with its 24 hours.
      gate.close(retryAfterMs);
      slot.giveBack();
      await gate.passed();
      const giveBack = await slots.take(signal).catch(() => null);
      if (giveBack === null) return null;
      slot.giveBack = giveBack;
      continue;
    }
    if (!isTurnedAway || attempt === MAX_LINE_ATTEMPTS) {
      return {
        id: newId("batchRequest"),
        custom_id: line.custom_id,
        response: { status_code: statusCode, request_id: requestId, body },
        error: null,
      };
    }
    await clock.delay(Math.min(FIRST_PAUSE_MS * 2 ** (attempt - 1), LONGEST_PAUSE_MS), signal);
    if (signal.aborted) return null;
    attempt += 1;
  }
}

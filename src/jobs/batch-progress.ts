// How far a batch is, counted from its results.
import type { BatchProgress } from "../store/batch-queue.ts";
import { NO_USAGE, sumOfUsage, usageOf } from "../wire/batches.ts";
import type { BatchOutputLine } from "../wire/batches.ts";
import { hasSucceeded, readJournal } from "./batch-journal.ts";

/** What the journal says: the only place that knows after a crash. */
export async function progressOf(journal: string, total: number): Promise<BatchProgress> {
  let progress: BatchProgress = { requestCounts: { total, completed: 0, failed: 0 }, usage: NO_USAGE };
  for await (const { output } of readJournal(journal)) progress = withResult(progress, output);
  return progress;
}

/** The progress with one more line done. */
export function withResult({ requestCounts, usage }: BatchProgress, output: BatchOutputLine): BatchProgress {
  const succeeded = hasSucceeded(output);
  return {
    requestCounts: {
      total: requestCounts.total,
      completed: requestCounts.completed + (succeeded ? 1 : 0),
      failed: requestCounts.failed + (succeeded ? 0 : 1),
    },
    usage: sumOfUsage(usage, usageOf(output.response?.body)),
  };
}

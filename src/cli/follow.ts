// `tunesmith jobs follow`: prints a job's events as they come until the job ends. A progress bar on a terminal, plain
// lines in a pipe, one JSON object a line with --json.
import { setTimeout as delay } from "node:timers/promises";
import type { FineTuningJob, FineTuningJobEvent, JobStatus } from "../wire/fine-tuning.ts";
import type { List } from "../wire/list.ts";
import { ServerUnreachable } from "./client.ts";
import { eventLine, jobError, jobPath } from "./job-text.ts";
import { createProgress, type Progress } from "./progress.ts";
import { EXIT, formatCount, printNote, type CommandContext } from "./terminal.ts";

/** Steps take seconds; asking more often than this shows nothing new. */
const POLL_INTERVAL_MS = 1_000;

/** A server that is restarted (its jobs go on afterwards) is waited for this long before giving up. */
const RECONNECT_LIMIT_MS = 60_000;

/** Most events fetched in one request while catching up. */
const PAGE_SIZE = 100;

/** Follows the job to its end and returns the exit code: 0 when it succeeded, 1 when it failed or was cancelled. */
export async function followJob(context: CommandContext, id: string): Promise<number> {
  const { client, terminal } = context;
  const progress = context.json ? null : await createProgress(terminal);
  const seen = new Set<string>();
  let lastAnswerMs: number | null = null;
  try {
    for (;;) {
      try {
        // The job before its events: once the job is read as ended, its last event is already there to be read.
        const job = await client.get<FineTuningJob>(jobPath(id));
        for (const event of await newEvents(context, id, seen)) printEvent(context, event, progress);
        if (lastAnswerMs === null && !isEnded(job.status)) printNote(context, `${job.id} is ${job.status}`);
        lastAnswerMs = Date.now();
        if (isEnded(job.status)) return finish(context, job, progress);
      } catch (error) {
        if (!(error instanceof ServerUnreachable) || lastAnswerMs === null) throw error;
        if (Date.now() - lastAnswerMs > RECONNECT_LIMIT_MS) throw error;
      }
      await delay(POLL_INTERVAL_MS, undefined, { signal: terminal.signal });
    }
  } catch (error) {
    progress?.stop();
    if (terminal.signal.aborted) {
      printNote(context, `The job goes on without you. Follow it again with "tunesmith jobs follow ${id}".`);
    }
    throw error;
  }
}

/** Events not seen before, oldest first. The API lists newest first, so pages are read until one holds a known event. */
async function newEvents(
  context: CommandContext,
  id: string,
  seen: Set<string>,
): Promise<FineTuningJobEvent[]> {
  const found: FineTuningJobEvent[] = [];
  let after: string | undefined;
  for (;;) {
    const page = await context.client.get<List<FineTuningJobEvent>>(`${jobPath(id)}/events`, {
      limit: PAGE_SIZE,
      after,
    });
    const fresh = page.data.filter((event) => !seen.has(event.id));
    found.push(...fresh);
    after = page.data.at(-1)?.id;
    if (!page.has_more || fresh.length < page.data.length || after === undefined) break;
  }
  for (const event of found) seen.add(event.id);
  return found.reverse();
}

function printEvent(context: CommandContext, event: FineTuningJobEvent, progress: Progress | null): void {
  const { stdout } = context.terminal;
  if (context.json) {
    stdout.write(`${JSON.stringify(event)}\n`);
    return;
  }
  if (progress !== null && event.type === "metrics") {
    progress.update(event.data);
    return;
  }
  if (progress !== null) progress.print(eventLine(event));
  else stdout.write(eventLine(event).replace("\n", `${speedNote(event)}\n`));
}

/** Our additions to the metrics of a step, for lines in a pipe: ", 231 tokens/s". */
function speedNote(event: FineTuningJobEvent): string {
  const speed = event.data["tokens_per_second"];
  return typeof speed === "number" ? ` (${Math.round(speed)} tokens/s)` : "";
}

function finish(context: CommandContext, job: FineTuningJob, progress: Progress | null): number {
  progress?.stop();
  const { stdout } = context.terminal;
  const succeeded = job.status === "succeeded";
  if (context.json) {
    stdout.write(`${JSON.stringify(job)}\n`);
  } else if (succeeded) {
    const tokens = job.trained_tokens === null ? "" : `, ${formatCount(job.trained_tokens)} trained tokens`;
    stdout.write(`${job.id} succeeded${tokens}\n${job.fine_tuned_model ?? ""}\n`);
  } else {
    const error = jobError(job);
    stdout.write(`${job.id} ${job.status === "failed" ? "failed" : "was cancelled"}\n`);
    if (error !== null) stdout.write(`${error}\n`);
  }
  return succeeded ? EXIT.success : EXIT.failure;
}

function isEnded(status: JobStatus): boolean {
  return status === "succeeded" || status === "failed" || status === "cancelled";
}

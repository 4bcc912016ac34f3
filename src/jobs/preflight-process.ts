// The preflight in a process of its own: reading, tokenizing and comparing a large file takes seconds on end, and the server goes
// on answering meanwhile. This file is both ends: what starts the process, and, run as a program, the process itself.
import type { PreflightReport } from "../data/preflight/report.ts";
import { answerQuestion, askProgram } from "../package-program.ts";
import { preflight } from "./preflight.ts";
import type { PreflightOptions } from "./preflight.ts";

export type PreflightQuestion = Omit<PreflightOptions, "signal">;

/** Heap of the process; a file's facts are bounded, its rows are read one after the other. Megabytes. */
const PREFLIGHT_HEAP_MB = 1024;

/** `preflight`, elsewhere. Aborting ends the process. Throws as `preflight` does, and Unavailable when the process ends silently. */
export async function preflightElsewhere(
  question: PreflightQuestion,
  signal: AbortSignal,
): Promise<PreflightReport> {
  return askProgram("jobs/preflight-process", question, {
    signal,
    heapMb: PREFLIGHT_HEAP_MB,
    ended: "The process that checks the files",
    advice: "Send the request again, or run `tunesmith check` on this machine",
  });
}

if (import.meta.filename === process.argv[1]) {
  answerQuestion<PreflightQuestion>((question, signal) => preflight({ ...question, signal }));
}

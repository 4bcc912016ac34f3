// The preflight in a process of its own: reading, tokenizing and comparing a large file takes seconds on end, and the server goes
// on answering meanwhile. This file is both ends: what starts the process, and, run as a program, the process itself.
import { fork } from "node:child_process";
import { Cancelled, fromPlain, toPlain, Unavailable } from "../errors.ts";
import type { PlainError } from "../errors.ts";
import type { PreflightReport } from "../data/preflight/report.ts";
import { packageProgram } from "../package-program.ts";
import { preflight } from "./preflight.ts";
import type { PreflightOptions } from "./preflight.ts";

export type PreflightQuestion = Omit<PreflightOptions, "signal">;

/** What the process says, once. */
type PreflightAnswer = { report: PreflightReport } | { fault: PlainError };

/** Heap of the process; a file's facts are bounded, its rows are read one after the other. Megabytes. */
const PREFLIGHT_HEAP_MB = 1024;

/** `preflight`, elsewhere. Aborting ends the process. Throws as `preflight` does, and Unavailable when the process ends silently. */
export async function preflightElsewhere(
  question: PreflightQuestion,
  signal: AbortSignal,
): Promise<PreflightReport> {
  if (signal.aborted) throw new Cancelled();
  const { entry, nodeOptions } = packageProgram("jobs/preflight-process");
  const child = fork(entry, [], {
    execArgv: [...nodeOptions, `--max-old-space-size=${PREFLIGHT_HEAP_MB}`],
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  });
  const end = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", end);
  try {
    const answer = await new Promise<PreflightAnswer>((resolve, reject) => {
      child.once("message", (message) => resolve(message as PreflightAnswer));
      child.once("error", reject);
      child.once("exit", (code, by) => {
        if (signal.aborted) return reject(new Cancelled());
        const how = by === null ? `code ${code}` : `signal ${by}`;
        reject(
          new Unavailable(
            `The process that checks the files ended with ${how} before it had a report; the machine may lack memory. Send the request again, or run \`tunesmith check\` on this machine.`,
          ),
        );
      });
      child.send(question);
    });
    if ("report" in answer) return answer.report;
    throw fromPlain(answer.fault);
  } finally {
    signal.removeEventListener("abort", end);
    if (child.connected) child.disconnect();
  }
}

async function answerOf(question: PreflightQuestion, signal: AbortSignal): Promise<PreflightAnswer> {
  try {
    return { report: await preflight({ ...question, signal }) };
  } catch (error) {
    return { fault: toPlain(error) };
  }
}

if (import.meta.filename === process.argv[1]) {
  const stop = new AbortController();
  // The channel's end means that nobody waits for the report.
  process.on("disconnect", () => stop.abort());
  process.once("message", (question) => {
    void answerOf(question as PreflightQuestion, stop.signal).then((answer) =>
      process.send?.(answer, () => {
        if (process.connected) process.disconnect();
      }),
    );
  });
}

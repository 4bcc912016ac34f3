// Files of this package that run as processes of their own: TypeScript through tsx in a checkout, JavaScript in a built package. And
// those of them that are asked one thing, answer it and end.
import { fork } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Cancelled, fromPlain, toPlain, Unavailable } from "./errors.ts";
import type { PlainError } from "./errors.ts";

/** An entry file and the options of node in front of it. */
export interface Program {
  entry: string;
  nodeOptions: readonly string[];
}

/** `path`: below src, without extension ("training/trainer"). */
export function packageProgram(path: string): Program {
  const inSource = import.meta.url.endsWith(".ts");
  const entry = fileURLToPath(new URL(`./${path}.${inSource ? "ts" : "js"}`, import.meta.url));
  if (!inSource) return { entry, nodeOptions: [] };
  // Resolved here, not by the child: `--import tsx` looks from the working directory, which may be anywhere.
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;
  return { entry, nodeOptions: ["--import", tsx] };
}

/** What such a process says, once. */
type Answer = { answer: unknown } | { fault: PlainError };

/**
 * Starts the program, asks it and resolves to its answer; question and answer are plain data. Aborting kills it. Throws what the
 * program threw, Cancelled, and Unavailable when it ends without an answer: "<ended> ended with …; <advice>."
 */
export async function askProgram<Result>(
  path: string,
  question: object,
  options: { signal: AbortSignal; heapMb?: number; ended: string; advice: string },
): Promise<Result> {
  const { signal, heapMb, ended, advice } = options;
  if (signal.aborted) throw new Cancelled();
  const { entry, nodeOptions } = packageProgram(path);
  const child = fork(entry, [], {
    execArgv: [...nodeOptions, ...(heapMb === undefined ? [] : [`--max-old-space-size=${heapMb}`])],
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  });
  const end = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", end);
  try {
    const said = await new Promise<Answer>((resolve, reject) => {
      child.once("message", (message) => resolve(message as Answer));
      child.once("error", reject);
      child.once("exit", (code, by) => {
        if (signal.aborted) return reject(new Cancelled());
        const how = by === null ? `code ${code}` : `signal ${by}`;
        reject(
          new Unavailable(
            `${ended} ended with ${how} before it was done; the machine may lack memory. ${advice}.`,
          ),
        );
      });
      child.send(question);
    });
    if ("fault" in said) throw fromPlain(said.fault);
    return said.answer as Result;
  } finally {
    signal.removeEventListener("abort", end);
    if (child.connected) child.disconnect();
  }
}

/** The other end: answers the one question that the parent sends. The channel's end, which aborts the signal, means that nobody waits. */
export function answerQuestion<Question>(
  answer: (question: Question, signal: AbortSignal) => Promise<unknown>,
): void {
  const stop = new AbortController();
  process.on("disconnect", () => stop.abort());
  process.once("message", (question) => {
    void answer(question as Question, stop.signal)
      .then(
        (result): Answer => ({ answer: result }),
        (error: unknown): Answer => ({ fault: toPlain(error) }),
      )
      .then((said) =>
        process.send?.(said, () => {
          if (process.connected) process.disconnect();
        }),
      );
  });
}

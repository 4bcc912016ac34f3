// Python graders: one process for each run, shut in and limited by python-sandbox.ts, killed with all it started when its time
// is over. What the source prints is thrown away; its answer comes on a pipe of its own.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { chmod, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { Cancelled } from "../errors.ts";
import { GradingFault } from "./grading-fault.ts";
import { GRADER, LAUNCHER } from "./python-sandbox.ts";
import type { GradingContext } from "./sample.ts";

/** OpenAI's limits of a Python grader. */
export const PYTHON_LIMITS = {
  timeoutMs: 120_000,
  /** Address space of each process. */
  maxMemoryBytes: 2 * 1024 * 1024 * 1024,
  /** Of one file, and of all files together where the file system is the grader's own. */
  maxDiskBytes: 1024 * 1024 * 1024,
  /** Of each process: two cores for the whole time. */
  maxCpuSeconds: 240,
  /** Processes and threads: numerical libraries start a thread for each core. */
  maxProcesses: 64,
};

/** Graders that run at a time: each may use two cores and gigabytes. */
const MAX_RUNNING = 2;
/** Graders that wait for one of those; more are told that the server is busy. */
export const MAX_WAITING_PYTHON_GRADERS = 64;
/** The answer, and what the interpreter complains of; more is a source that writes where it should not. */
const MAX_ANSWER_BYTES = 64 * 1024;
/** The end of a traceback that a client gets. */
const MAX_DETAILS_CHARACTERS = 2000;
/** How long pipes that a stray process holds open are waited for. */
const CLOSE_GRACE_MS = 500;

export interface PythonGradersOptions {
  /** isolated refuses to run where the kernel cannot shut the process in; unconfined runs there too, with much less between them. */
  mode: "isolated" | "unconfined";
  /** Path of the Python to run with; the source may import what is installed for it. */
  interpreter: string;
  limits?: Partial<typeof PYTHON_LIMITS>;
}

interface Job {
  source: string;
  sample: unknown;
  item: unknown;
  checkOnly: boolean;
}

type Answer = { score: number } | { fault: string } | { server: string; details: string };

export class PythonGraders {
  readonly #options: PythonGradersOptions;
  readonly #limits: typeof PYTHON_LIMITS;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(options: PythonGradersOptions) {
    this.#options = options;
    this.#limits = { ...PYTHON_LIMITS, ...options.limits };
  }

  /** What grade(sample, item) of the source returns. Throws GradingFault with a python_grader flag, and Cancelled. */
  async grade(source: string, { sample, item }: GradingContext, signal: AbortSignal): Promise<number> {
    const shown = { ...sample, output_json: sample.output_json ?? null };
    return this.#run({ source, sample: shown, item, checkOnly: false }, signal);
  }

  /** Throws GradingFault when the source is no Python, or defines no grade; runs none of it. */
  async check(source: string, signal: AbortSignal): Promise<void> {
    await this.#run({ source, sample: null, item: null, checkOnly: true }, signal);
  }

  async #run(job: Job, signal: AbortSignal): Promise<number> {
    await this.#enter();
    try {
      if (signal.aborted) throw new Cancelled();
      const answer = await this.#inTemporaryFolder((folder) => this.#start(job, folder, signal));
      if ("score" in answer) return answer.score;
      if ("fault" in answer) throw new GradingFault("python_grader_runtime_error", answer.fault);
      throw new PythonServerFault(answer.server, answer.details);
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }

  async #enter(): Promise<void> {
    if (this.#running >= MAX_RUNNING) {
      if (this.#waiting.length >= MAX_WAITING_PYTHON_GRADERS) {
        throw new PythonServerFault(
          "overloaded",
          `More than ${MAX_WAITING_PYTHON_GRADERS} Python graders wait already.`,
        );
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#running += 1;
  }

  async #inTemporaryFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
    const folder = await mkdtemp(join(tmpdir(), "tunesmith-grader-"));
    try {
      return await use(folder);
    } finally {
      await removeFolder(folder);
    }
  }

  async #start(job: Job, folder: string, signal: AbortSignal): Promise<Answer> {
    const { timeoutMs, ...limits } = this.#limits;
    const isolated = this.#options.mode === "isolated";
    const config = { ...limits, isolated, root: folder, parent: process.pid };
    const child = spawn(
      this.#options.interpreter,
      ["-I", "-B", "-X", "utf8", "-c", LAUNCHER, JSON.stringify(config), GRADER],
      {
        cwd: folder,
        // Nothing of this process's environment: it may hold keys.
        env: environment(isolated ? "/tmp" : folder),
        stdio: ["pipe", "ignore", "pipe", "pipe"],
        detached: true, // a process group of its own, to be killed as one
      },
    );
    const answer = gather(child.stdio[3] as Readable | null, () => killGroup(child));
    const complaints = gather(child.stderr, () => undefined);
    // The grader may end without reading all of it.
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(JSON.stringify({ ...job, hooked: !isolated, maxDetails: MAX_DETAILS_CHARACTERS }));
    const ending = await ended(child, timeoutMs, signal);
    switch (ending.how) {
      case "cancelled":
        throw new Cancelled();
      case "timeout":
        return { fault: `The grader ran longer than ${timeoutMs / 1000} seconds and was stopped.` };
      case "not-started":
        return {
          server: "interpreter_unavailable",
          details: `${this.#options.interpreter}: ${ending.error.message}`,
        };
      case "exit": {
        const words = `The grader's process ended without an answer (${ending.words}). Was it out of memory (${limits.maxMemoryBytes} bytes)?`;
        const complaint = complaints.text().slice(-MAX_DETAILS_CHARACTERS).trim();
        return (
          parseAnswer(answer.text()) ?? {
            fault:
              complaint === ""
                ? words
                : `${words}
${complaint}`,
          }
        );
      }
    }
  }
}

/** The server could not run the grader; `type` is what the client is told. */
export class PythonServerFault extends GradingFault {
  readonly type: string;

  constructor(type: string, details: string) {
    super("python_grader_server_error", details);
    this.type = type;
  }
}

function environment(temporaryFolder: string): Record<string, string> {
  const oneThreadACore = "2";
  return {
    PATH: "/usr/bin:/bin",
    LANG: "C.UTF-8",
    HOME: temporaryFolder,
    TMPDIR: temporaryFolder,
    OMP_NUM_THREADS: oneThreadACore,
    OPENBLAS_NUM_THREADS: oneThreadACore,
  };
}

type Ending =
  { how: "timeout" | "cancelled" } | { how: "not-started"; error: Error } | { how: "exit"; words: string };

/** How the process ended. All of its group is gone then. */
async function ended(child: ChildProcess, timeoutMs: number, signal: AbortSignal): Promise<Ending> {
  let cause: "timeout" | "cancelled" | null = null;
  const stop = (why: "timeout" | "cancelled") => {
    cause = why;
    killGroup(child);
  };
  const timer = setTimeout(() => stop("timeout"), timeoutMs);
  const onAbort = () => stop("cancelled");
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  // Asked for before the exit: it may come in the same breath.
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  try {
    const exit = await new Promise<Error | string>((resolve) => {
      child.once("error", resolve);
      child.once("exit", (code, name) => resolve(name === null ? `exit code ${code}` : `signal ${name}`));
    });
    if (exit instanceof Error) return { how: "not-started", error: exit };
    // At once, while the group's id cannot be anybody else's: what the grader left running goes with it.
    killGroup(child);
    const grace = setTimeout(() => child.stdio.forEach((stream) => stream?.destroy()), CLOSE_GRACE_MS);
    await closed;
    clearTimeout(grace);
    return cause === null ? { how: "exit", words: exit } : { how: cause };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // Gone already.
  }
}

/** Keeps what a stream says up to the limit; `onTooMuch` is told once there is more. */
function gather(stream: Readable | null, onTooMuch: () => void): { text(): string } {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream?.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= MAX_ANSWER_BYTES) chunks.push(chunk);
    else onTooMuch();
  });
  stream?.on("error", () => undefined);
  return { text: () => Buffer.concat(chunks).toString("utf8") };
}

function parseAnswer(text: string): Answer | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  if ("score" in value && typeof value.score === "number" && Number.isFinite(value.score)) {
    return { score: value.score };
  }
  if ("fault" in value && typeof value.fault === "string") {
    return { fault: value.fault.slice(-MAX_DETAILS_CHARACTERS) };
  }
  if ("server" in value && typeof value.server === "string") {
    return { server: value.server.slice(0, 80), details: "details" in value ? String(value.details) : "" };
  }
  return null;
}

/** Removes the folder, also where the grader took away its own right to. */
async function removeFolder(folder: string): Promise<void> {
  try {
    await rm(folder, { recursive: true, force: true });
  } catch {
    await openFolders(folder);
    await rm(folder, { recursive: true, force: true });
  }
}

async function openFolders(folder: string): Promise<void> {
  await chmod(folder, 0o700);
  const entries = await readdir(folder, { withFileTypes: true });
  for (const entry of entries) if (entry.isDirectory()) await openFolders(join(folder, entry.name));
}

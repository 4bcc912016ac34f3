// Starting, watching and stopping the trainer process of one job directory, and dealing with a trainer that outlived the
// server that started it. It knows the directory and the exit, not what is trained.
import { execFile, fork } from "node:child_process";
import { writeFileSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { constants, setPriority } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Unavailable } from "../errors.ts";
import { jobPaths } from "../training/job-directory.ts";
import { packageProgram } from "../package-program.ts";
import type { Program } from "../package-program.ts";
import type { Clock } from "./worker.ts";

/** How a trainer ended: by exit code, by signal, or (both null) because it could not be started. */
export interface TrainerExit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface TrainerProcess {
  exited: Promise<TrainerExit>;
  /** Asks it to write a checkpoint and end, kills it after the grace time; resolves when it is gone. */
  stop(): Promise<TrainerExit>;
}

/** What to run as the trainer. */
export interface TrainerProgram extends Program {
  /** Behind the job directory. */
  options?: readonly string[];
  /** Its whole environment; left out, that of this process. */
  environment?: Readonly<Record<string, string | undefined>>;
}

/** Time for a trainer to finish its step and write a checkpoint: a step takes seconds on two cores, a write less. */
export const TRAINER_GRACE_MS = 30_000;

/** How often an orphaned trainer is looked at. */
const ORPHAN_POLL_MS = 200;

/** What the trainer prints goes here: the only trace of a native crash. */
const LOG_FILE = "trainer.log";

/** The trainer of this package. */
export function embeddedTrainer({
  environment,
  memoryBytes = null,
  jobsAtOnce = 1,
}: {
  environment?: TrainerProgram["environment"];
  /** What a run may take; null: its share of what is available when it starts. */
  memoryBytes?: number | null;
  /** Runs that share this machine's memory: two that start together would each see all of it. */
  jobsAtOnce?: number;
} = {}): TrainerProgram {
  return {
    ...packageProgram("training/trainer"),
    options: [memoryBytes === null ? `--memory-share=${1 / jobsAtOnce}` : `--memory-bytes=${memoryBytes}`],
    ...(environment === undefined ? {} : { environment }),
  };
}

/** Starts a trainer on the directory. Its IPC channel closes when this process dies, which tells it to stop. */
export async function startTrainer(
  program: TrainerProgram,
  jobDirectory: string,
  clock: Clock,
): Promise<TrainerProcess> {
  const log = await open(join(jobDirectory, LOG_FILE), "a");
  const child = fork(program.entry, [jobDirectory, ...(program.options ?? [])], {
    execArgv: [...program.nodeOptions],
    ...(program.environment === undefined ? {} : { env: program.environment }),
    stdio: ["ignore", log.fd, log.fd, "ipc"],
    // Its own process group: Ctrl-C in the terminal reaches the server alone, which then stops the trainer in order.
    detached: true,
  });
  const exited = new Promise<TrainerExit>((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal }));
    child.once("error", () => {
      // "error" also reports a failed kill or send; only a child without pid never started and never exits.
      if (child.pid === undefined) resolve({ code: null, signal: null });
    });
  });
  try {
    if (child.pid !== undefined) {
      // At once: the trainer takes a while to load and to write this itself, and this process may be gone by then.
      writeFileSync(jobPaths(jobDirectory).lock, `${child.pid}\n`);
      giveWay(child.pid);
    }
  } catch (error) {
    child.kill("SIGKILL");
    await exited;
    throw error;
  } finally {
    await log.close();
  }
  return {
    exited,
    async stop() {
      child.kill("SIGTERM");
      const graceOver = new AbortController();
      const killer = clock.delay(TRAINER_GRACE_MS, graceOver.signal).then(() => {
        if (!graceOver.signal.aborted) child.kill("SIGKILL");
      });
      const exit = await exited;
      graceOver.abort();
      await killer;
      return exit;
    },
  };
}

/** Lowers the trainer's priority, so that the server keeps answering while every core computes. */
function giveWay(pid: number): void {
  try {
    setPriority(pid, constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // Gone already, or not permitted: training at normal priority is no reason to fail.
  }
}

/**
 * Waits until no trainer of an earlier server works on the directory; kills one that does not end by itself in the grace
 * time. Two trainers on one directory would interleave their writes. Throws Unavailable when it cannot be got rid of.
 */
export async function waitForOrphan(
  jobDirectory: string,
  clock: Clock,
  signal: AbortSignal,
  graceMs = TRAINER_GRACE_MS,
): Promise<void> {
  const pid = await lockHolder(jobDirectory);
  if (pid === null) return;
  const deadline = clock.now() + graceMs;
  let killed = false;
  while (await isTrainerOf(pid, jobDirectory)) {
    if (signal.aborted) return;
    if (clock.now() >= deadline && !killed) {
      killed = true;
      process.kill(pid, "SIGKILL");
    } else if (clock.now() >= deadline + TRAINER_GRACE_MS) {
      throw new Unavailable(
        `An earlier trainer (process ${pid}) still works on this job and could not be ended. End it by hand, then restart the server; the job goes on from its last checkpoint.`,
      );
    }
    await clock.delay(ORPHAN_POLL_MS, signal);
  }
}

/** The process id in the lock file, or null without a usable one. */
async function lockHolder(jobDirectory: string): Promise<number | null> {
  const text = await readFile(jobPaths(jobDirectory).lock, "utf8").catch(() => "");
  const pid = Number.parseInt(text, 10);
  return Number.isSafeInteger(pid) && pid > 0 && pid !== process.pid ? pid : null;
}

/** Whether the process runs with the job directory among its arguments: process ids are reused, by strangers too. */
async function isTrainerOf(pid: number, jobDirectory: string): Promise<boolean> {
  try {
    // A zombie has an empty command line, and rightly counts as gone.
    const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8");
    return commandLine.split("\0").includes(jobDirectory);
  } catch {
    // No /proc (macOS), or no such process: ps knows both.
  }
  try {
    const { stdout } = await promisify(execFile)("ps", ["-ww", "-o", "command=", "-p", String(pid)]);
    return stdout.includes(jobDirectory);
  } catch {
    return false;
  }
}

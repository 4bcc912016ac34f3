// The training phase: keeps a trainer process on the job directory until it has succeeded or failed, turns what it reports
// into job events, and starts a crashed one again. It knows the directory's contract, not what is trained.
import { OutOfSpace, TunesmithError } from "../errors.ts";
import type { FineTuningQueue } from "../store/fine-tuning-queue.ts";
import type { NewEvent } from "../store/fine-tuning-rows.ts";
import type { Lease } from "../store/leases.ts";
import { jobPaths, TRAINER_EXIT, type TrainerEvent } from "../training/job-directory.ts";
import { LeaseLost } from "./lease-lost.ts";
import { createTrainerEventReader, toJobEvent, type TrainerEventReader } from "./trainer-events.ts";
import { startTrainer, waitForOrphan, type TrainerExit, type TrainerProgram } from "./trainer-process.ts";
import type { Clock, Logger } from "./worker.ts";

/** The trainer found the disk full. */
export class NoRoom extends OutOfSpace {
  /** Values of the adapter, each of which takes 4 bytes in it and 8 in the optimizer's state; 0: unknown. */
  readonly trainableParameters: number;

  constructor(message: string, trainableParameters: number) {
    super(message, { code: "out_of_space" });
    this.trainableParameters = trainableParameters;
  }
}

type Reported<T extends TrainerEvent["type"]> = Extract<TrainerEvent, { type: T }>;

/** What a succeeded trainer has reported over all its lives. */
export interface TrainingOutcome {
  succeeded: Reported<"succeeded">;
  /** Checkpoints at ends of epochs, in order of step. */
  epochCheckpoints: Reported<"checkpoint">[];
}

/** How often new lines of events.jsonl are looked for. Steps take longer; each look that finds some is one transaction. */
const TAIL_INTERVAL_MS = 500;

/**
 * A trainer that dies this often without a new checkpoint in between will not get past that point: more tries only keep
 * the machine busy. More than one, because a single death may be bad luck (memory taken by another program).
 */
export const MAX_CRASHES = 3;

/** Before a crashed trainer is started again: lets whatever took the memory finish. */
const RESTART_PAUSE_MS = 2_000;

export interface TrainOptions {
  queue: FineTuningQueue;
  lease: Lease;
  directory: string;
  trainer: TrainerProgram;
  signal: AbortSignal;
  clock: Clock;
  logger: Logger;
}

/** Null when the signal ended it. Throws TunesmithError when the trainer failed, LeaseLost when the job is not ours any more. */
export async function train(options: TrainOptions): Promise<TrainingOutcome | null> {
  const { directory, trainer, signal, clock, logger, lease } = options;
  const report = createReport(options);
  await waitForOrphan(directory, clock, signal);
  let crashes = 0;
  let lastCheckpoint = -1;
  for (;;) {
    // Also before the first start: an earlier server may have died before it read the trainer's last words.
    await report.forward();
    const outcome = report.outcome();
    if (outcome !== null || signal.aborted) return outcome;

    const exit = await runTrainer(trainer, options, report);
    if (report.outcome() !== null || signal.aborted) continue;

    if (exit.code === TRAINER_EXIT.outOfSpace) {
      throw new NoRoom(report.noRoom() ?? noRoomToReport(directory), report.trainableParameters());
    }
    crashes = report.lastCheckpointStep() > lastCheckpoint ? 1 : crashes + 1;
    lastCheckpoint = report.lastCheckpointStep();
    logger.warn({ job: lease.jobId, exit, crashes, directory }, "The trainer ended unexpectedly.");
    if (crashes >= MAX_CRASHES) throw crashedTooOften(exit);
    await report.append([
      {
        level: "warn",
        message: `The trainer ended unexpectedly (${describeExit(exit)}); starting it again from its last checkpoint`,
      },
    ]);
    await clock.delay(RESTART_PAUSE_MS, signal);
  }
}

/** Starts one trainer and forwards its events until it has ended; the signal makes it end. */
async function runTrainer(
  trainer: TrainerProgram,
  { directory, signal, clock }: TrainOptions,
  report: Report,
): Promise<TrainerExit> {
  const child = await startTrainer(trainer, directory, clock);
  const ended = new AbortController();
  const exited = child.exited.finally(() => ended.abort());
  try {
    while (!ended.signal.aborted && !signal.aborted) {
      await clock.delay(TAIL_INTERVAL_MS, AbortSignal.any([ended.signal, signal]));
      await report.forward();
    }
  } finally {
    // Also when forwarding failed: no trainer may go on without a worker that listens.
    if (!ended.signal.aborted) await child.stop();
  }
  const exit = await exited;
  await report.forward().catch((error: unknown) => {
    // A cancelled job takes no more events; what the trainer said while stopping stays in its directory.
    if (!(error instanceof LeaseLost && signal.aborted)) throw error;
  });
  return exit;
}

interface Report {
  /** Moves new trainer events into the job's events. Throws LeaseLost. */
  forward(): Promise<void>;
  append(events: NewEvent[]): Promise<void>;
  /** Null until the trainer has succeeded; throws the error of one that failed. */
  outcome(): TrainingOutcome | null;
  lastCheckpointStep(): number;
  /** What did not fit on the disk, as this life of the trainer said; null: it had no room to say it. */
  noRoom(): string | null;
  /** 0: unknown yet. */
  trainableParameters(): number;
}

function createReport({ queue, lease, directory, clock, logger }: TrainOptions): Report {
  const reader: TrainerEventReader = createTrainerEventReader(jobPaths(directory).events, (line) =>
    logger.warn({ job: lease.jobId, line }, "Skipped a line of events.jsonl that is not JSON."),
  );
  const epochCheckpoints = new Map<number, Reported<"checkpoint">>();
  let lastStep = -1;
  let end: Reported<"succeeded" | "failed"> | null = null;
  let noRoom: string | null = null;
  let trainableParameters = 0;

  async function append(events: NewEvent[]): Promise<void> {
    if (events.length > 0 && !(await queue.appendEvents(lease, events))) throw new LeaseLost();
  }

  return {
    append,
    async forward() {
      const found = await reader.readNew();
      for (const event of found) {
        if (event.type === "succeeded" || event.type === "failed") end = event;
        if (event.type === "started") trainableParameters = event.trainableParameters;
        // One of an earlier life says nothing of this one's.
        if (event.type === "no_room") noRoom = event.message;
        else noRoom = null;
        if (event.type !== "checkpoint" && event.type !== "resumed") continue;
        // A checkpoint written on the way out has no event of its own; the next trainer's resume tells of it.
        lastStep = Math.max(lastStep, event.step);
        if (event.type === "checkpoint" && event.epochEnd) epochCheckpoints.set(event.step, event);
      }
      await append(found.map(toJobEvent).filter((event) => event !== null));
      const metrics = found.findLast((event) => event.type === "metrics");
      if (metrics === undefined) return;
      const estimatedFinish = Math.ceil(clock.now() / 1000 + metrics.secondsLeft);
      if (!(await queue.update(lease, { estimatedFinish }))) throw new LeaseLost();
    },
    outcome() {
      if (end === null) return null;
      if (end.type === "failed") {
        const { code, param, message } = end.error;
        throw new TunesmithError(message, { code, param });
      }
      const inOrder = [...epochCheckpoints.values()].sort((a, b) => a.step - b.step);
      return { succeeded: end, epochCheckpoints: inOrder };
    },
    lastCheckpointStep: () => lastStep,
    noRoom: () => noRoom,
    trainableParameters: () => trainableParameters,
  };
}

function describeExit(exit: TrainerExit): string {
  if (exit.signal !== null) return `signal ${exit.signal}`;
  if (exit.code === null) return "it could not be started";
  return exit.code === TRAINER_EXIT.interrupted ? "it was interrupted" : `exit code ${exit.code}`;
}

function noRoomToReport(directory: string): string {
  return `The disk that holds ${directory} is full, so that the trainer could not even report it; nothing half-written was left there. Free some space.`;
}

function crashedTooOften(exit: TrainerExit): TunesmithError {
  const hint =
    exit.signal === "SIGKILL"
      ? " The system ends programs this way when memory runs out: free some, or use a smaller batch size."
      : "";
  return new TunesmithError(
    `The trainer ended unexpectedly ${MAX_CRASHES} times without getting further (${describeExit(exit)}).${hint} Its output is in trainer.log in the job's folder on the server. Mend the cause, then create the job again.`,
    { code: "server_error" },
  );
}

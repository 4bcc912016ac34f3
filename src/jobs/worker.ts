// The worker loop: claim a job, keep its lease alive, run it, let go of it. It does not know what running a job means.
import { messageOf, OutOfSpace } from "../errors.ts";
import type { Lease, LeaseState } from "../store/leases.ts";
import { isDeadOwner, newLeaseOwner } from "./lease-owner.ts";

/** Why a running job is asked to stop: the reason of the signal that `run` receives. */
export type StopReason = "cancelled" | "paused" | "lease-lost" | "worker-stopping";

export interface Clock {
  /** Unix milliseconds. */
  now(): number;
  /** Resolves after the time, or at once when the signal aborts; never rejects. */
  delay(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

/** The part of pino's logger that jobs use. */
export interface Logger {
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}

/**
 * Takes a claimed job as far as it can: to its end, or to where the signal aborts. Settles the job itself, also on
 * failure; rejects only when even that could not be done.
 */
export type RunJob<J> = (job: J, lease: Lease, signal: AbortSignal) => Promise<void>;

/** What a worker needs of a table of jobs; the methods are those of store/leases. */
export interface JobQueue<J> {
  claim(owner: string, leaseExpiresAtMs: number): Promise<J | null>;
  heartbeat(jobId: string, owner: string, leaseExpiresAtMs: number): Promise<LeaseState>;
  release(jobId: string, owner: string): Promise<void>;
  listLeases(): Promise<Lease[]>;
  expireLease(lease: Lease): Promise<void>;
}

export interface Worker {
  start(): void;
  /** Looks at the job table at once, because something in it changed: a new job, a cancellation. */
  wake(): void;
  /** Asks the running job to stop, waits for it, and claims no more. */
  stop(): Promise<void>;
}

/** How long an idle worker sleeps when nobody wakes it: only jobs written by another process wait this long. */
const POLL_INTERVAL_MS = 2_000;

/** Also the longest time until a cancellation written by another process is noticed. One small UPDATE each. */
const HEARTBEAT_INTERVAL_MS = 1_000;

/**
 * A job whose worker died without a word, on another machine, is taken up after this time. Long enough that a busy machine,
 * or an event loop held up by loading a model, never loses its lease.
 */
export const LEASE_MS = 30_000;

/** After an error of the database itself (disk full, locked): neither a hot loop nor a long silence. */
const DATABASE_ERROR_PAUSE_MS = 5_000;

export function createWorker<J extends { id: string; status: string }>(options: {
  queue: JobQueue<J>;
  run: RunJob<J>;
  /** Done once, before the first job is claimed: what an earlier worker left undone. Never rejects. */
  sweep?: (signal: AbortSignal) => Promise<void>;
  logger: Logger;
  clock?: Clock;
}): Worker {
  const { queue, run, sweep, logger } = options;
  const clock = options.clock ?? SYSTEM_CLOCK;
  const owner = newLeaseOwner();
  const stopping = new AbortController();
  let nap = new AbortController();
  let loop: Promise<void> | null = null;

  /** Sleeps until the time is over or somebody wakes the worker; a wake since the last nap makes it return at once. */
  async function sleep(milliseconds: number): Promise<void> {
    await clock.delay(milliseconds, nap.signal);
    nap = new AbortController();
    if (stopping.signal.aborted) nap.abort();
  }

  async function loopUntilStopped(): Promise<void> {
    await sweep?.(stopping.signal);
    while (!stopping.signal.aborted) {
      try {
        await freeDeadOwners();
        const job = await queue.claim(owner, clock.now() + LEASE_MS);
        if (job === null) await sleep(POLL_INTERVAL_MS);
        else await work(job);
      } catch (error) {
        logger.error({ error: messageOf(error) }, "The worker failed; it tries again shortly.");
        await clock.delay(DATABASE_ERROR_PAUSE_MS, stopping.signal);
      }
    }
  }

  /** A server killed on this machine leaves leases that nobody will ever prolong: its jobs need not wait for them. */
  async function freeDeadOwners(): Promise<void> {
    for (const lease of await queue.listLeases()) {
      if (lease.owner === owner || !isDeadOwner(lease.owner)) continue;
      logger.warn({ job: lease.jobId }, "The process that worked on this job is gone; taking the job over.");
      await queue.expireLease(lease);
    }
  }

  async function work(job: J): Promise<void> {
    logger.info({ job: job.id, status: job.status }, "Job claimed.");
    const lease: Lease = { jobId: job.id, owner };
    const controller = new AbortController();
    const stop = (reason: StopReason): void => controller.abort(reason);
    const onStopping = (): void => stop("worker-stopping");
    stopping.signal.addEventListener("abort", onStopping);
    if (stopping.signal.aborted) onStopping();
    const finished = new AbortController();
    const heart = keepLease(lease, stop, finished.signal);
    try {
      await run(job, lease, controller.signal);
      // Gives back what was stopped half-way; a job that has ended holds no lease any more.
      await queue.release(job.id, owner);
    } catch (error) {
      if (error instanceof OutOfSpace) await releaseWithRoom(lease, error);
      else {
        await queue.expireLease(lease);
        throw error;
      }
    } finally {
      finished.abort();
      nap.abort();
      await heart;
      stopping.signal.removeEventListener("abort", onStopping);
    }
  }

  /**
   * Gives the job back as soon as the database can be written again; whoever claims it then goes on where it stands. Until then
   * nothing can be said of it in its row.
   */
  async function releaseWithRoom(lease: Lease, reason: OutOfSpace): Promise<void> {
    const details = { job: lease.jobId, error: reason.message };
    logger.error(details, "The disk is full: a job stands still until its state can be written.");
    for (;;) {
      try {
        await queue.release(lease.jobId, owner);
        return;
      } catch (error) {
        if (!(error instanceof OutOfSpace) || stopping.signal.aborted) throw error;
        await clock.delay(DATABASE_ERROR_PAUSE_MS, stopping.signal);
      }
    }
  }

  async function keepLease(
    lease: Lease,
    stop: (reason: StopReason) => void,
    finished: AbortSignal,
  ): Promise<void> {
    let expiresAtMs = clock.now() + LEASE_MS;
    for (;;) {
      // While the worker is stopping, its naps return at once, but the trainer still needs the lease to end in order.
      if (stopping.signal.aborted) await clock.delay(HEARTBEAT_INTERVAL_MS, finished);
      else await sleep(HEARTBEAT_INTERVAL_MS);
      if (finished.aborted) return;
      try {
        const prolongedUntilMs = clock.now() + LEASE_MS;
        const state = await queue.heartbeat(lease.jobId, owner, prolongedUntilMs);
        if (state !== "held") {
          stop(state === "lost" ? "lease-lost" : state);
          return;
        }
        expiresAtMs = prolongedUntilMs;
      } catch (error) {
        logger.warn({ job: lease.jobId, error: messageOf(error) }, "A heartbeat failed.");
        if (clock.now() < expiresAtMs) continue;
        stop("lease-lost");
        return;
      }
    }
  }

  return {
    start() {
      loop ??= loopUntilStopped();
    },
    wake() {
      nap.abort();
    },
    async stop() {
      stopping.abort();
      nap.abort();
      await loop;
    },
  };
}

/** Several workers as one. */
export function joinWorkers(workers: readonly Worker[]): Worker {
  return {
    start: () => workers.forEach((each) => each.start()),
    wake: () => workers.forEach((each) => each.wake()),
    stop: async () => {
      await Promise.all(workers.map((each) => each.stop()));
    },
  };
}

/** The real time. */
export const SYSTEM_CLOCK: Clock = {
  now: () => Date.now(),
  delay: (milliseconds, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted === true) {
        resolve();
        return;
      }
      const finish = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", finish);
        resolve();
      };
      const timer = setTimeout(finish, milliseconds);
      signal?.addEventListener("abort", finish);
    }),
};

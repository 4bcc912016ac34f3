// The worker's side of fine-tuning jobs: a job is claimed under a lease, and only the lease's owner moves it on. It knows no
// trainer: the recipe is an object it keeps but does not read.
//
// A cancelled job loses its lease (leases.ts), so it never comes back to life.
import { sql } from "kysely";
import type { SqlBool } from "kysely";
import { newId } from "../wire/ids.ts";
import { TERMINAL_STATUSES } from "../wire/fine-tuning.ts";
import type { JobStatus, RequestedHyperparameters } from "../wire/fine-tuning.ts";
import type { Database, DatabaseTransaction } from "./database.ts";
import { insertFile } from "./files.ts";
import { insertEvents, toJob } from "./fine-tuning-rows.ts";
import type { FinishedJob, Job, JobError, NewEvent } from "./fine-tuning-rows.ts";
import { Leases, NO_LEASE } from "./leases.ts";
import type { Lease, LeaseState } from "./leases.ts";
import { insertModel } from "./models.ts";
import { queueWebhookEvent } from "./webhooks.ts";

/** What a worker may learn about a job on its way. */
export interface JobChanges {
  hyperparameters?: RequestedHyperparameters;
  /** The resolved recipe (training/job-directory), kept as it is. */
  recipe?: object;
  /** Unix seconds; null: unknown. */
  estimatedFinish?: number | null;
}

export class FineTuningQueue {
  readonly #database: Database;
  /** Milliseconds since 1970. */
  readonly #now: () => number;
  readonly #leases: Leases;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
    this.#leases = new Leases(database, {
      table: "fineTuningJobs",
      wantsWorker: UNFINISHED_SQL,
      // What a stopped server or a crash left half-way has had its turn and goes on.
      first: sql<SqlBool>`status = 'running'`,
      turn: sql<number>`coalesce((SELECT turn FROM fine_tuning_turns AS turns WHERE turns.project_id = fine_tuning_jobs.project_id), 0)`,
      now,
    });
  }

  /**
   * The next unfinished job that nobody holds, now leased to the owner; null when there is none. Projects take turns, and of one
   * project's jobs the oldest is next. Counts an attempt.
   */
  async claim(owner: string, leaseExpiresAtMs: number): Promise<Job | null> {
    return this.#database.transaction().execute(async (transaction) => {
      const id = await this.#leases.claim(transaction, owner, leaseExpiresAtMs);
      if (id === null) return null;
      const row = await transaction
        .selectFrom("fineTuningJobs")
        .selectAll()
        .where("id", "=", id)
        .executeTakeFirstOrThrow();
      await this.#countTurn(transaction, row.projectId);
      return toJob(row);
    });
  }

  heartbeat(jobId: string, owner: string, leaseExpiresAtMs: number): Promise<LeaseState> {
    return this.#leases.heartbeat(jobId, owner, leaseExpiresAtMs);
  }

  /** Whoever holds the job; null when there is none of that id. */
  async status(jobId: string): Promise<JobStatus | null> {
    return (await this.#leases.status(jobId)) as JobStatus | null;
  }

  release(jobId: string, owner: string): Promise<void> {
    return this.#leases.release(jobId, owner);
  }

  listLeases(): Promise<Lease[]> {
    return this.#leases.list();
  }

  expireLease(lease: Lease): Promise<void> {
    return this.#leases.expire(lease);
  }

  /** Moves the job to another unfinished status and stores what was learned, with its events. False also when the status is not in `from`. */
  async moveTo(
    lease: Lease,
    move: {
      from: readonly JobStatus[];
      to: "validating_files" | "queued" | "running";
      changes?: JobChanges;
      events?: NewEvent[];
    },
  ): Promise<boolean> {
    return this.#update(lease, move.from, move.events ?? [], {
      status: move.to,
      ...changedColumns(move.changes ?? {}),
    });
  }

  /** Stores what was learned without a move. */
  async update(lease: Lease, changes: JobChanges): Promise<boolean> {
    return this.#update(lease, UNFINISHED, [], changedColumns(changes));
  }

  /** Appends events; one whose key the job already has is left out, so a resumed trainer may repeat itself. */
  async appendEvents(lease: Lease, events: NewEvent[]): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      if (!(await this.#leases.holds(transaction, lease))) return false;
      await insertEvents(transaction, this.#seconds(), lease.jobId, events);
      return true;
    });
  }

  /**
   * Pauses a job that found no room on the disk; it goes on by itself once that many bytes are free, or twice as many as the last
   * time where that was not enough (a quota does not show in what is free).
   */
  async pauseForSpace(
    lease: Lease,
    neededBytes: number,
    toError: (neededBytes: number) => JobError,
  ): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      if (!(await this.#leases.holds(transaction, lease))) return false;
      const earlier = await transaction
        .selectFrom("fineTuningJobs")
        .select(["waitsForBytes", "attempts"])
        .where("id", "=", lease.jobId)
        .executeTakeFirstOrThrow();
      const waitsForBytes = Math.max(neededBytes, 2 * (earlier.waitsForBytes ?? 0));
      const error = toError(waitsForBytes);
      const paused = await transaction
        .updateTable("fineTuningJobs")
        .set({
          ...NO_LEASE,
          status: "paused" satisfies JobStatus,
          estimatedFinish: null,
          error: JSON.stringify(error),
          waitsForBytes,
          // What the worker did ended in order.
          attempts: Math.max(earlier.attempts - 1, 0),
        })
        .where("id", "=", lease.jobId)
        .where("status", "in", ["queued", "running"] satisfies JobStatus[])
        .executeTakeFirst();
      if (paused.numUpdatedRows === 0n) return false;
      const event: NewEvent = { level: "error", message: error.message };
      await insertEvents(transaction, this.#seconds(), lease.jobId, [event]);
      return true;
    });
  }

  /** Jobs paused on a full disk, oldest first, and the free bytes at which each goes on. */
  async listWaitingForSpace(): Promise<{ jobId: string; neededBytes: number }[]> {
    const rows = await this.#database
      .selectFrom("fineTuningJobs")
      .select(["id", "waitsForBytes"])
      .where(WAITING_FOR_SPACE_SQL)
      .orderBy("sequence", "asc")
      .execute();
    return rows.map(({ id, waitsForBytes }) => ({ jobId: id, neededBytes: waitsForBytes ?? 0 }));
  }

  /** Puts such a job back into the queue. False when it does not wait any more. */
  async resumeWithRoom(jobId: string, event: NewEvent): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      const resumed = await transaction
        .updateTable("fineTuningJobs")
        .set({ status: "queued" satisfies JobStatus, error: null })
        .where("id", "=", jobId)
        .where(WAITING_FOR_SPACE_SQL)
        .executeTakeFirst();
      if (resumed.numUpdatedRows === 0n) return false;
      await insertEvents(transaction, this.#seconds(), jobId, [event]);
      return true;
    });
  }

  /** Ends the job as succeeded: model, checkpoints, result file, numbers and last events appear together or not at all. */
  async finishSucceeded(lease: Lease, finished: FinishedJob): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      if (!(await this.#leases.holds(transaction, lease))) return false;
      const { projectId } = await transaction
        .selectFrom("fineTuningJobs")
        .select("projectId")
        .where("id", "=", lease.jobId)
        .executeTakeFirstOrThrow();
      await insertFile(transaction, { ...finished.resultFile, projectId, createdAt: this.#seconds() });
      await this.#end(transaction, lease, {
        status: "succeeded",
        finishedAt: this.#seconds(),
        fineTunedModel: finished.model.id,
        resultFile: finished.resultFile.id,
        trainedTokens: finished.trainedTokens,
      });
      const models = new Map(
        [...finished.checkpoints.map((each) => each.model), finished.model].map((model) => [model.id, model]),
      );
      for (const model of models.values()) {
        await insertModel(transaction, {
          ...model,
          jobId: lease.jobId,
          projectId,
          createdAt: this.#seconds(),
        });
      }
      await this.#insertCheckpoints(transaction, lease.jobId, finished.checkpoints);
      await insertEvents(transaction, this.#seconds(), lease.jobId, finished.events);
      return true;
    });
  }

  /** Ends the job as failed. Its events stay, and one of level error with the error's message is added; finished_at stays null, as OpenAI's. */
  async failJob(lease: Lease, error: JobError): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      if (!(await this.#leases.holds(transaction, lease))) return false;
      await this.#end(transaction, lease, {
        status: "failed",
        error: JSON.stringify(error),
      });
      await insertEvents(transaction, this.#seconds(), lease.jobId, [
        { key: "failed", level: "error", message: error.message },
      ]);
      return true;
    });
  }

  /**
   * Shows the checkpoints that a failed or cancelled job had made, as models; one whose step is shown already stays as it is, so
   * a repetition changes nothing. False when the job has not ended so.
   */
  async keepCheckpoints(jobId: string, checkpoints: FinishedJob["checkpoints"]): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      // Asked by writing, as Leases.holds does: two repetitions come one after the other.
      const ended = await transaction
        .updateTable("fineTuningJobs")
        .set({ cleanedUp: 0 })
        .where("id", "=", jobId)
        .where("status", "in", ["failed", "cancelled"])
        .returning("projectId")
        .executeTakeFirst();
      if (ended === undefined) return false;
      const shown = await transaction
        .selectFrom("fineTuningCheckpoints")
        .select("step")
        .where("jobId", "=", jobId)
        .execute();
      const fresh = checkpoints.filter(({ step }) => !shown.some((row) => row.step === step));
      for (const { model } of fresh) {
        await insertModel(transaction, {
          ...model,
          jobId,
          projectId: ended.projectId,
          createdAt: this.#seconds(),
        });
      }
      await this.#insertCheckpoints(transaction, jobId, fresh);
      return true;
    });
  }

  /** Ended jobs whose directories may still hold what only a running job needs, oldest first. */
  async listToCleanUp(limit: number): Promise<Job[]> {
    const rows = await this.#database
      .selectFrom("fineTuningJobs")
      .selectAll()
      .where(TO_CLEAN_UP_SQL)
      .orderBy("sequence", "asc")
      .limit(limit)
      .execute();
    return rows.map(toJob);
  }

  /** The folders, relative to the home folder, of the job's models that nobody has deleted: a clean-up leaves them alone. */
  async adapterDirectories(jobId: string): Promise<string[]> {
    const rows = await this.#database
      .selectFrom("fineTuningCheckpoints")
      .innerJoin("models", "models.id", "fineTuningCheckpoints.model")
      .select("models.adapterDirectory")
      .where("fineTuningCheckpoints.jobId", "=", jobId)
      .where("models.deletedAt", "is", null)
      .execute();
    return rows.map(({ adapterDirectory }) => adapterDirectory);
  }

  /** The job's directory holds only what stays; an unfinished job is left as it is. */
  async markCleanedUp(jobId: string): Promise<void> {
    await this.#database
      .updateTable("fineTuningJobs")
      .set({ cleanedUp: 1 })
      .where("id", "=", jobId)
      .where("status", "in", [...TERMINAL_STATUSES])
      .execute();
  }

  /** The project goes to the end of the row. */
  async #countTurn(transaction: DatabaseTransaction, projectId: string): Promise<void> {
    const { last } = await transaction
      .selectFrom("fineTuningTurns")
      .select((select) => select.fn.max("turn").as("last"))
      .executeTakeFirstOrThrow();
    const turn = Number(last ?? 0) + 1;
    await transaction
      .insertInto("fineTuningTurns")
      .values({ projectId, turn })
      .onConflict((conflict) => conflict.column("projectId").doUpdateSet({ turn }))
      .execute();
  }

  async #end(
    transaction: DatabaseTransaction,
    lease: Lease,
    columns: {
      status: "succeeded" | "failed";
      finishedAt?: number;
      fineTunedModel?: string;
      resultFile?: string;
      trainedTokens?: number;
      error?: string;
    },
  ): Promise<void> {
    const { projectId } = await transaction
      .updateTable("fineTuningJobs")
      .set({ ...columns, ...NO_LEASE, estimatedFinish: null })
      .where("id", "=", lease.jobId)
      .returning("projectId")
      .executeTakeFirstOrThrow();
    const event = {
      projectId,
      type: `fine_tuning.job.${columns.status}`,
      objectId: lease.jobId,
    } as const;
    await queueWebhookEvent(transaction, event, this.#now());
  }

  async #insertCheckpoints(
    transaction: DatabaseTransaction,
    jobId: string,
    checkpoints: FinishedJob["checkpoints"],
  ): Promise<void> {
    for (const checkpoint of checkpoints) {
      await transaction
        .insertInto("fineTuningCheckpoints")
        .values({
          id: newId("checkpoint"),
          jobId,
          createdAt: checkpoint.createdAt ?? this.#seconds(),
          step: checkpoint.step,
          model: checkpoint.model.id,
          metrics: JSON.stringify(checkpoint.metrics),
          best: checkpoint.best === true ? 1 : 0,
        })
        .execute();
    }
  }

  async #update(
    lease: Lease,
    from: readonly JobStatus[],
    events: NewEvent[],
    columns: ReturnType<typeof changedColumns> & { status?: JobStatus },
  ): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      const result = await transaction
        .updateTable("fineTuningJobs")
        .set({ leaseOwner: lease.owner, ...columns })
        .where("id", "=", lease.jobId)
        .where("leaseOwner", "=", lease.owner)
        .where("status", "in", [...from])
        .executeTakeFirst();
      if (result.numUpdatedRows === 0n) return false;
      await insertEvents(transaction, this.#seconds(), lease.jobId, events);
      return true;
    });
  }

  #seconds(): number {
    return Math.floor(this.#now() / 1000);
  }
}

/** Literals, not bound values: only so can SQLite see that the partial indexes serve these queries. */
const UNFINISHED_SQL = sql<SqlBool>`status IN ('validating_files', 'queued', 'running')`;
const WAITING_FOR_SPACE_SQL = sql<SqlBool>`status = 'paused' AND waits_for_bytes IS NOT NULL`;
const TO_CLEAN_UP_SQL = sql<SqlBool>`cleaned_up = 0 AND status IN ('succeeded', 'failed', 'cancelled')`;
const UNFINISHED = ["validating_files", "queued", "running"] as const satisfies JobStatus[];

function changedColumns(changes: JobChanges) {
  return {
    ...(changes.hyperparameters === undefined
      ? {}
      : { hyperparameters: JSON.stringify(changes.hyperparameters) }),
    ...(changes.recipe === undefined ? {} : { recipe: JSON.stringify(changes.recipe) }),
    ...(changes.estimatedFinish === undefined ? {} : { estimatedFinish: changes.estimatedFinish }),
  };
}

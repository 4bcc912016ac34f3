// The worker's side of fine-tuning jobs: a job is claimed under a lease, and only the lease's owner moves it on. It knows no
// trainer: the recipe is an object it keeps but does not read.
//
// Every method with a lease answers false when the lease is lost or the job was cancelled: the worker then stops its trainer
// and leaves the row alone. Two workers can therefore never both write, and a cancelled job never comes back to life.
import { sql } from "kysely";
import type { SqlBool } from "kysely";
import { newId } from "../wire/ids.ts";
import { TERMINAL_STATUSES } from "../wire/fine-tuning.ts";
import type { CheckpointMetrics, JobStatus, RequestedHyperparameters } from "../wire/fine-tuning.ts";
import type { Database, DatabaseTransaction } from "./database.ts";
import { insertFile } from "./files.ts";
import type { NewFile } from "./files.ts";
import { insertEvents, toJob } from "./fine-tuning-rows.ts";
import type { Job, JobError, NewEvent } from "./fine-tuning-rows.ts";
import { insertModel } from "./models.ts";
import type { NewModel } from "./models.ts";

export interface Lease {
  jobId: string;
  owner: string;
}

/** What a worker may learn about a job on its way. */
export interface JobChanges {
  hyperparameters?: RequestedHyperparameters;
  /** The resolved recipe (training/job-directory), kept as it is. */
  recipe?: object;
  /** Unix seconds; null: unknown. */
  estimatedFinish?: number | null;
}

export interface FinishedJob {
  model: NewModel;
  /** Its blob is already written. */
  resultFile: NewFile;
  trainedTokens: number;
  /**
   * What the checkpoints list will show, oldest first. The last is the final model under its own name; earlier ones have names
   * with :ckpt-step- and become models too, from their adapterDirectory.
   */
  checkpoints: { step: number; model: NewModel; metrics: CheckpointMetrics; createdAt?: number }[];
  events: NewEvent[];
}

export class FineTuningQueue {
  readonly #database: Database;
  /** Milliseconds since 1970. */
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /**
   * The oldest unfinished job that nobody holds, now leased to the owner (a name unique to one worker's life); null when there
   * is none. A crashed worker's job is free again when its lease expires. Counts an attempt.
   */
  async claim(owner: string, leaseExpiresAtMs: number): Promise<Job | null> {
    const now = this.#now();
    const row = await this.#database
      .updateTable("fineTuningJobs")
      .set((set) => ({
        leaseOwner: owner,
        leaseExpiresAtMs,
        attempts: set("attempts", "+", 1),
      }))
      .where("id", "=", (select) =>
        select
          .selectFrom("fineTuningJobs")
          .select("id")
          .where(UNFINISHED_SQL)
          .where((or) => or.or([or("leaseOwner", "is", null), or("leaseExpiresAtMs", "<=", now)]))
          .orderBy("sequence", "asc")
          .limit(1),
      )
      .returningAll()
      .executeTakeFirst();
    return row === undefined ? null : toJob(row);
  }

  /** Prolongs the lease, or says why there is none. */
  async heartbeat(
    jobId: string,
    owner: string,
    leaseExpiresAtMs: number,
  ): Promise<"held" | "cancelled" | "lost"> {
    const result = await this.#database
      .updateTable("fineTuningJobs")
      .set({ leaseExpiresAtMs })
      .where("id", "=", jobId)
      .where("leaseOwner", "=", owner)
      .executeTakeFirst();
    if (result.numUpdatedRows > 0n) return "held";
    return (await this.status(jobId)) === "cancelled" ? "cancelled" : "lost";
  }

  /** Whoever holds the job; null when there is none of that id. */
  async status(jobId: string): Promise<JobStatus | null> {
    const job = await this.#database
      .selectFrom("fineTuningJobs")
      .select("status")
      .where("id", "=", jobId)
      .executeTakeFirst();
    return (job?.status as JobStatus | undefined) ?? null;
  }

  /** Gives an unfinished job back (the server is stopping): the next worker goes on at once, and the attempt does not count. */
  async release(jobId: string, owner: string): Promise<void> {
    await this.#database
      .updateTable("fineTuningJobs")
      .set((set) => ({ leaseOwner: null, leaseExpiresAtMs: null, attempts: set("attempts", "-", 1) }))
      .where("id", "=", jobId)
      .where("leaseOwner", "=", owner)
      .execute();
  }

  /** Who holds which unfinished job, whether or not the lease has expired. */
  async listLeases(): Promise<Lease[]> {
    const rows = await this.#database
      .selectFrom("fineTuningJobs")
      .select(["id", "leaseOwner"])
      .where(UNFINISHED_SQL)
      .execute();
    return rows.flatMap((row) => (row.leaseOwner === null ? [] : { jobId: row.id, owner: row.leaseOwner }));
  }

  /** Frees the job of an owner known to be dead before its lease expires; the attempt counts, as with an expired lease. */
  async expireLease(lease: Lease): Promise<void> {
    await this.#database
      .updateTable("fineTuningJobs")
      .set({ leaseOwner: null, leaseExpiresAtMs: null })
      .where("id", "=", lease.jobId)
      .where("leaseOwner", "=", lease.owner)
      .execute();
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
      if (!(await this.#holds(transaction, lease))) return false;
      await insertEvents(transaction, this.#seconds(), lease.jobId, events);
      return true;
    });
  }

  /** Ends the job as succeeded: model, checkpoints, result file, numbers and last events appear together or not at all. */
  async finishSucceeded(lease: Lease, finished: FinishedJob): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      if (!(await this.#holds(transaction, lease))) return false;
      await insertFile(transaction, { ...finished.resultFile, createdAt: this.#seconds() });
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
        await insertModel(transaction, { ...model, jobId: lease.jobId, createdAt: this.#seconds() });
      }
      await this.#insertCheckpoints(transaction, lease.jobId, finished.checkpoints);
      await insertEvents(transaction, this.#seconds(), lease.jobId, finished.events);
      return true;
    });
  }

  /** Ends the job as failed. Its events stay, and one of level error with the error's message is added; finished_at stays null, as OpenAI's. */
  async failJob(lease: Lease, error: JobError): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      if (!(await this.#holds(transaction, lease))) return false;
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
      // Asked by writing, as #holds does: two repetitions come one after the other.
      const result = await transaction
        .updateTable("fineTuningJobs")
        .set({ cleanedUp: 0 })
        .where("id", "=", jobId)
        .where("status", "in", ["failed", "cancelled"])
        .executeTakeFirst();
      if (result.numUpdatedRows === 0n) return false;
      const shown = await transaction
        .selectFrom("fineTuningCheckpoints")
        .select("step")
        .where("jobId", "=", jobId)
        .execute();
      const fresh = checkpoints.filter(({ step }) => !shown.some((row) => row.step === step));
      for (const { model } of fresh) {
        await insertModel(transaction, { ...model, jobId, createdAt: this.#seconds() });
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

  /** Whether the lease is still the owner's. It is asked by writing: that takes the write lock, so the answer stays true to the transaction's end. */
  async #holds(transaction: DatabaseTransaction, lease: Lease): Promise<boolean> {
    const result = await transaction
      .updateTable("fineTuningJobs")
      .set({ leaseOwner: lease.owner })
      .where("id", "=", lease.jobId)
      .where("leaseOwner", "=", lease.owner)
      .executeTakeFirst();
    return result.numUpdatedRows > 0n;
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
    await transaction
      .updateTable("fineTuningJobs")
      .set({ ...columns, estimatedFinish: null, leaseOwner: null, leaseExpiresAtMs: null })
      .where("id", "=", lease.jobId)
      .execute();
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

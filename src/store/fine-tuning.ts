// Fine-tuning jobs, their events and checkpoints as the API uses them: create, read, cancel, pause, resume. What a worker does to a job
// stands in fine-tuning-queue.ts. It knows no HTTP and no trainer.
import { sql } from "kysely";
import { InvalidRequest } from "../errors.ts";
import { newId } from "../wire/ids.ts";
import type { JobStatus } from "../wire/fine-tuning.ts";
import { TERMINAL_STATUSES } from "../wire/fine-tuning.ts";
import type { Database, DatabaseTransaction } from "./database.ts";
import { insertEvents, toCheckpoint, toEvent, toJob } from "./fine-tuning-rows.ts";
import type { Job, JobCheckpoint, JobEvent, NewEvent, NewJob } from "./fine-tuning-rows.ts";
import { NO_LEASE } from "./leases.ts";
import { hasPairToo, insertPairs } from "./metadata-pairs.ts";
import { pageOf, placeOf } from "./page.ts";
import type { Page, PageRequest } from "./page.ts";
import { queueWebhookEvent } from "./webhooks.ts";

export class FineTuningStore {
  readonly #database: Database;
  /** Milliseconds since 1970. */
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** Stores a new job in status validating_files together with its first events. */
  async create(job: NewJob, events: (job: Job) => NewEvent[]): Promise<Job> {
    return this.#database.transaction().execute(async (transaction) => {
      const row = await transaction
        .insertInto("fineTuningJobs")
        .values({
          id: newId("job"),
          projectId: job.projectId,
          createdAt: this.#seconds(),
          status: "validating_files" satisfies JobStatus,
          model: job.model,
          baseModel: job.baseModel,
          trainingFile: job.trainingFileId,
          validationFile: job.validationFileId,
          suffix: job.suffix,
          seed: job.seed,
          method: job.method,
          hyperparameters: JSON.stringify(job.hyperparameters),
          metadata: job.metadata === null ? null : JSON.stringify(job.metadata),
          attempts: 0,
        })
        .returningAll()
        .executeTakeFirstOrThrow();
      const created = toJob(row);
      const { projectId, sequence } = row;
      await insertPairs(transaction, "fineTuningJobMetadata", { projectId, sequence }, job.metadata ?? {});
      await insertEvents(transaction, this.#seconds(), created.id, events(created));
      return created;
    });
  }

  /** Null when the project has no such job. */
  async get(projectId: string, jobId: string): Promise<Job | null> {
    const row = await this.#database
      .selectFrom("fineTuningJobs")
      .selectAll()
      .where("projectId", "=", projectId)
      .where("id", "=", jobId)
      .executeTakeFirst();
    return row === undefined ? null : toJob(row);
  }

  /** Newest first. `metadata`: pairs that must all match; null: only jobs without metadata. */
  async list(
    projectId: string,
    page: PageRequest & { metadata?: Record<string, string> | null | undefined },
  ): Promise<Page<Job>> {
    const { limit, after, metadata } = page;
    const cursor =
      after === undefined ? null : await placeOf(this.#database, "fineTuningJobs", { projectId }, after);
    const pairs = Object.entries(metadata ?? {});
    if (pairs.length > 0) return pageOf(await this.#listTagged(projectId, pairs, cursor, limit + 1), limit);
    let query = this.#database
      .selectFrom("fineTuningJobs")
      .selectAll()
      .where("projectId", "=", projectId)
      .orderBy("sequence", "desc")
      .limit(limit + 1);
    if (metadata === null) query = query.where("metadata", "is", null);
    if (cursor !== null) query = query.where("sequence", "<", cursor);
    return pageOf((await query.execute()).map(toJob), limit);
  }

  /** Along the pairs, in the order of their index: to look through all jobs would hold up every other request. */
  async #listTagged(
    projectId: string,
    [[key, value] = ["", ""], ...others]: readonly (readonly [string, string])[],
    cursor: number | null,
    limit: number,
  ): Promise<Job[]> {
    let query = this.#database
      .selectFrom("fineTuningJobMetadata as pair")
      .innerJoin("fineTuningJobs as job", "job.sequence", "pair.sequence")
      .selectAll("job")
      .where("pair.projectId", "=", projectId)
      .where("pair.key", "=", key)
      .where("pair.value", "=", value)
      .orderBy("pair.sequence", "desc")
      .limit(limit);
    for (const pair of others) query = query.where(hasPairToo("fineTuningJobMetadata", projectId, pair));
    if (cursor !== null) query = query.where("pair.sequence", "<", cursor);
    return (await query.execute()).map(toJob);
  }

  /** Cancels an unfinished job at once: its worker loses the lease and stops. Null: the project has no such job. Throws InvalidRequest when it has ended. */
  async cancel(projectId: string, jobId: string, event: NewEvent): Promise<Job | null> {
    return this.#database.transaction().execute(async (transaction) => {
      const row = await transaction
        .updateTable("fineTuningJobs")
        .set({
          status: "cancelled" satisfies JobStatus,
          estimatedFinish: null,
          // What had stopped it for the time being.
          error: null,
          ...NO_LEASE,
        })
        .where("projectId", "=", projectId)
        .where("id", "=", jobId)
        .where("status", "not in", [...TERMINAL_STATUSES])
        .returningAll()
        .executeTakeFirst();
      if (row !== undefined) {
        await insertEvents(transaction, this.#seconds(), jobId, [event]);
        const told = {
          projectId,
          type: "fine_tuning.job.cancelled",
          objectId: jobId,
        } as const;
        await queueWebhookEvent(transaction, told, this.#now());
        return toJob(row);
      }
      const job = await transaction
        .selectFrom("fineTuningJobs")
        .select("status")
        .where("projectId", "=", projectId)
        .where("id", "=", jobId)
        .executeTakeFirst();
      if (job === undefined) return null;
      throw new InvalidRequest(
        `Job ${jobId} has already ended with status '${job.status}' and cannot be cancelled.`,
      );
    });
  }

  /**
   * Pauses a running job at once: its worker loses the lease, and its trainer ends with a checkpoint. Null: no such job. Throws
   * InvalidRequest when it is not running.
   */
  async pause(projectId: string, jobId: string, event: NewEvent): Promise<Job | null> {
    return this.#database.transaction().execute(async (transaction) => {
      const row = await transaction
        .updateTable("fineTuningJobs")
        .set((set) => ({
          ...NO_LEASE,
          status: "paused" satisfies JobStatus,
          estimatedFinish: null,
          // Its owner wants it to rest, whatever room there is.
          waitsForBytes: null,
          // What the worker did ended in order.
          attempts: sql<number>`max(${set.ref("attempts")} - 1, 0)`,
        }))
        .where("projectId", "=", projectId)
        .where("id", "=", jobId)
        .where("status", "=", "running" satisfies JobStatus)
        .returningAll()
        .executeTakeFirst();
      if (row === undefined) return this.#refuse(transaction, projectId, jobId, "paused", "running");
      await insertEvents(transaction, this.#seconds(), jobId, [event]);
      return toJob(row);
    });
  }

  /** Puts a paused job back into the queue. Null: no such job. Throws InvalidRequest when it is not paused. */
  async resume(projectId: string, jobId: string, event: NewEvent): Promise<Job | null> {
    return this.#database.transaction().execute(async (transaction) => {
      const row = await transaction
        .updateTable("fineTuningJobs")
        .set({ status: "queued" satisfies JobStatus, error: null, waitsForBytes: null })
        .where("projectId", "=", projectId)
        .where("id", "=", jobId)
        .where("status", "=", "paused" satisfies JobStatus)
        .returningAll()
        .executeTakeFirst();
      if (row === undefined) return this.#refuse(transaction, projectId, jobId, "resumed", "paused");
      await insertEvents(transaction, this.#seconds(), jobId, [event]);
      return toJob(row);
    });
  }

  /** Null when there is no such job. */
  async #refuse(
    transaction: DatabaseTransaction,
    projectId: string,
    jobId: string,
    wish: string,
    needed: JobStatus,
  ): Promise<null> {
    const job = await transaction
      .selectFrom("fineTuningJobs")
      .select("status")
      .where("projectId", "=", projectId)
      .where("id", "=", jobId)
      .executeTakeFirst();
    if (job === undefined) return null;
    throw new InvalidRequest(
      `Job ${jobId} has status '${job.status}' and cannot be ${wish}: only a job with status '${needed}' can.`,
    );
  }

  /** Newest first. Whose job it is, the caller has seen. */
  async listEvents(jobId: string, page: PageRequest): Promise<Page<JobEvent>> {
    let query = this.#database
      .selectFrom("fineTuningEvents")
      .select(["id", "createdAt", "level", "type", "message", "data"])
      .where("jobId", "=", jobId)
      .orderBy("sequence", "desc")
      .limit(page.limit + 1);
    if (page.after !== undefined) {
      const place = await placeOf(this.#database, "fineTuningEvents", { jobId }, page.after);
      query = query.where("sequence", "<", place);
    }
    return pageOf((await query.execute()).map(toEvent), page.limit);
  }

  /** Newest first; empty until the job has ended. Whose job it is, the caller has seen. */
  async listCheckpoints(jobId: string, page: PageRequest): Promise<Page<JobCheckpoint>> {
    let query = this.#database
      .selectFrom("fineTuningCheckpoints")
      .selectAll()
      .where("jobId", "=", jobId)
      .orderBy("sequence", "desc")
      .limit(page.limit + 1);
    if (page.after !== undefined) {
      const place = await placeOf(this.#database, "fineTuningCheckpoints", { jobId }, page.after);
      query = query.where("sequence", "<", place);
    }
    return pageOf((await query.execute()).map(toCheckpoint), page.limit);
  }

  #seconds(): number {
    return Math.floor(this.#now() / 1000);
  }
}

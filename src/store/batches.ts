// Batches as the API uses them: create, read, cancel. What a worker does to a batch stands in batch-queue.ts. It knows no
// lines: those are files.
import type { Selectable } from "kysely";
import { Conflict } from "../errors.ts";
import { BATCH_WINDOW_SECONDS, NO_USAGE } from "../wire/batches.ts";
import type { BatchError, BatchRequestCounts, BatchStatus, BatchUsage } from "../wire/batches.ts";
import { newId } from "../wire/ids.ts";
import type { Database } from "./database.ts";
import type { BatchesTable } from "./tables.ts";
import { NO_LEASE } from "./leases.ts";
import { pageOf, placeOf } from "./page.ts";
import type { Page, PageRequest } from "./page.ts";
import { queueWebhookEvent } from "./webhooks.ts";

export interface NewBatch {
  projectId: string;
  endpoint: string;
  inputFileId: string;
  /** The API key that made it; null: one of the settings, or none. */
  keyId: string | null;
  /** Life of the output files. */
  outputTtlSeconds: number;
  metadata: Record<string, string> | null;
}

/** Times are Unix seconds. */
export interface Batch extends NewBatch {
  id: string;
  createdAt: number;
  status: BatchStatus;
  /** Null until the input file was read. */
  model: string | null;
  errors: BatchError[] | null;
  outputFileId: string | null;
  errorFileId: string | null;
  inProgressAt: number | null;
  expiresAt: number;
  finalizingAt: number | null;
  completedAt: number | null;
  failedAt: number | null;
  expiredAt: number | null;
  cancellingAt: number | null;
  cancelledAt: number | null;
  requestCounts: BatchRequestCounts;
  usage: BatchUsage;
  /** How many times a worker took the batch and did not give it back in peace. */
  attempts: number;
}

export class BatchStore {
  readonly #database: Database;
  /** Milliseconds since 1970. */
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** Stores a new batch in status validating. */
  async create(batch: NewBatch): Promise<Batch> {
    const createdAt = this.#seconds();
    const noLines: BatchRequestCounts = { total: 0, completed: 0, failed: 0 };
    const row = await this.#database
      .insertInto("batches")
      .values({
        id: newId("batch"),
        projectId: batch.projectId,
        createdAt,
        endpoint: batch.endpoint,
        inputFile: batch.inputFileId,
        keyId: batch.keyId,
        outputTtlSeconds: batch.outputTtlSeconds,
        metadata: batch.metadata === null ? null : JSON.stringify(batch.metadata),
        status: "validating" satisfies BatchStatus,
        expiresAt: createdAt + BATCH_WINDOW_SECONDS,
        requestCounts: JSON.stringify(noLines),
        usage: JSON.stringify(NO_USAGE),
        attempts: 0,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
    return toBatch(row);
  }

  async get(projectId: string, id: string): Promise<Batch | null> {
    const row = await this.#database
      .selectFrom("batches")
      .selectAll()
      .where("projectId", "=", projectId)
      .where("id", "=", id)
      .executeTakeFirst();
    return row === undefined ? null : toBatch(row);
  }

  /** Newest first. */
  async list(projectId: string, page: PageRequest): Promise<Page<Batch>> {
    let query = this.#database
      .selectFrom("batches")
      .selectAll()
      .where("projectId", "=", projectId)
      .orderBy("sequence", "desc")
      .limit(page.limit + 1);
    if (page.after !== undefined) {
      const place = await placeOf(this.#database, "batches", { projectId }, page.after);
      query = query.where("sequence", "<", place);
    }
    return pageOf((await query.execute()).map(toBatch), page.limit);
  }

  /**
   * Begins to cancel a batch: its worker loses the lease, and the next one puts what is done into the output files. A batch that
   * no worker has begun is cancelled at once; one that is being cancelled, or was, stays as it is. Null: no such batch. Throws
   * Conflict when it has ended otherwise.
   */
  async cancel(projectId: string, id: string): Promise<Batch | null> {
    const cancellingAt = this.#seconds();
    return this.#database.transaction().execute(async (transaction) => {
      const update = transaction
        .updateTable("batches")
        .where("projectId", "=", projectId)
        .where("id", "=", id)
        .returningAll();
      const untouched = await update
        .set({ status: "cancelled" satisfies BatchStatus, cancellingAt, cancelledAt: cancellingAt })
        .where("status", "=", "validating" satisfies BatchStatus)
        .where("leaseOwner", "is", null)
        .executeTakeFirst();
      if (untouched !== undefined) {
        const event = { projectId, type: "batch.cancelled", objectId: id } as const;
        await queueWebhookEvent(transaction, event, this.#now());
        return toBatch(untouched);
      }
      const running = await update
        .set((set) => ({
          ...NO_LEASE,
          status: "cancelling" satisfies BatchStatus,
          cancellingAt,
          attempts: set("attempts", "-", 1),
        }))
        .where("status", "in", ["validating", "in_progress", "finalizing"] satisfies BatchStatus[])
        .executeTakeFirst();
      if (running !== undefined) return toBatch(running);
      const row = await transaction
        .selectFrom("batches")
        .selectAll()
        .where("projectId", "=", projectId)
        .where("id", "=", id)
        .executeTakeFirst();
      if (row === undefined) return null;
      if (row.status === "cancelling" || row.status === "cancelled") return toBatch(row);
      throw new Conflict(`Cannot cancel a batch with status '${row.status}'.`);
    });
  }

  #seconds(): number {
    return Math.floor(this.#now() / 1000);
  }
}

export function toBatch(row: Selectable<BatchesTable>): Batch {
  return {
    id: row.id,
    projectId: row.projectId,
    createdAt: row.createdAt,
    endpoint: row.endpoint,
    inputFileId: row.inputFile,
    keyId: row.keyId,
    outputTtlSeconds: row.outputTtlSeconds,
    metadata: row.metadata === null ? null : (JSON.parse(row.metadata) as Record<string, string>),
    status: row.status as BatchStatus,
    model: row.model,
    errors: row.errors === null ? null : (JSON.parse(row.errors) as BatchError[]),
    outputFileId: row.outputFile,
    errorFileId: row.errorFile,
    inProgressAt: row.inProgressAt,
    expiresAt: row.expiresAt,
    finalizingAt: row.finalizingAt,
    completedAt: row.completedAt,
    failedAt: row.failedAt,
    expiredAt: row.expiredAt,
    cancellingAt: row.cancellingAt,
    cancelledAt: row.cancelledAt,
    requestCounts: JSON.parse(row.requestCounts) as BatchRequestCounts,
    usage: JSON.parse(row.usage) as BatchUsage,
    attempts: row.attempts,
  };
}

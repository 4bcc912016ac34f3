// The worker's side of batches: a batch is claimed under a lease, and only the lease's owner moves it on. Every move answers
// false when the lease is lost (leases.ts).
import { sql } from "kysely";
import type { SqlBool, Updateable } from "kysely";
import type { BatchError, BatchRequestCounts, BatchStatus, BatchUsage } from "../wire/batches.ts";
import { toBatch } from "./batches.ts";
import type { Batch } from "./batches.ts";
import type { Database, DatabaseTransaction } from "./database.ts";
import type { BatchesTable } from "./tables.ts";
import { insertUpload } from "./files.ts";
import type { NewUpload } from "./files.ts";
import { Leases, NO_LEASE } from "./leases.ts";
import type { Lease, LeaseState } from "./leases.ts";
import { queueWebhookEvent } from "./webhooks.ts";

/** How far a batch is. */
export interface BatchProgress {
  requestCounts: BatchRequestCounts;
  usage: BatchUsage;
}

export interface FinishedBatch extends BatchProgress {
  status: "completed" | "expired" | "cancelled";
  /** Their blobs are already written; null where there is nothing to say. */
  outputFile: NewUpload | null;
  errorFile: NewUpload | null;
}

const ENDED_AT = { completed: "completedAt", expired: "expiredAt", cancelled: "cancelledAt" } as const;

export class BatchQueue {
  readonly #database: Database;
  readonly #now: () => number;
  readonly #leases: Leases;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
    this.#leases = new Leases(database, {
      table: "batches",
      wantsWorker: sql<SqlBool>`status IN ('validating', 'in_progress', 'finalizing', 'cancelling')`,
      // Somebody waits for these, and they are done in a moment.
      first: sql<SqlBool>`status = 'cancelling'`,
      now,
    });
  }

  /** The batch to work on next, now leased to the owner; null when there is none. Counts an attempt. */
  async claim(owner: string, leaseExpiresAtMs: number): Promise<Batch | null> {
    return this.#database.transaction().execute(async (transaction) => {
      const id = await this.#leases.claim(transaction, owner, leaseExpiresAtMs);
      if (id === null) return null;
      const row = await transaction
        .selectFrom("batches")
        .selectAll()
        .where("id", "=", id)
        .executeTakeFirstOrThrow();
      return toBatch(row);
    });
  }

  heartbeat(id: string, owner: string, leaseExpiresAtMs: number): Promise<LeaseState> {
    return this.#leases.heartbeat(id, owner, leaseExpiresAtMs);
  }

  release(id: string, owner: string): Promise<void> {
    return this.#leases.release(id, owner);
  }

  listLeases(): Promise<Lease[]> {
    return this.#leases.list();
  }

  expireLease(lease: Lease): Promise<void> {
    return this.#leases.expire(lease);
  }

  /** The input file is in order. */
  async start(lease: Lease, found: { model: string; total: number }): Promise<boolean> {
    const counts: BatchRequestCounts = { total: found.total, completed: 0, failed: 0 };
    return this.#update(lease, {
      status: "in_progress",
      inProgressAt: this.#seconds(),
      model: found.model,
      requestCounts: JSON.stringify(counts),
    });
  }

  async update(lease: Lease, progress: BatchProgress): Promise<boolean> {
    return this.#update(lease, progressColumns(progress));
  }

  /** No line is going to run any more. */
  async finalize(lease: Lease, progress: BatchProgress): Promise<boolean> {
    return this.#update(lease, {
      ...progressColumns(progress),
      status: "finalizing",
      finalizingAt: this.#seconds(),
    });
  }

  /** Ends the batch: its files, counts and status appear together or not at all. */
  async finish(lease: Lease, finished: FinishedBatch): Promise<boolean> {
    return this.#end(lease, finished.status, async (transaction) => {
      for (const file of [finished.outputFile, finished.errorFile]) {
        if (file !== null) await insertUpload(transaction, file, this.#seconds());
      }
      return {
        ...progressColumns(finished),
        [ENDED_AT[finished.status]]: this.#seconds(),
        outputFile: finished.outputFile?.id ?? null,
        errorFile: finished.errorFile?.id ?? null,
      };
    });
  }

  /** Ends the batch without any output. */
  async fail(lease: Lease, errors: readonly BatchError[]): Promise<boolean> {
    return this.#end(lease, "failed", async () => ({
      failedAt: this.#seconds(),
      errors: JSON.stringify(errors),
    }));
  }

  async #end(
    lease: Lease,
    status: FinishedBatch["status"] | "failed",
    columnsOf: (transaction: DatabaseTransaction) => Promise<BatchColumns>,
  ): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      if (!(await this.#leases.holds(transaction, lease))) return false;
      const columns = await columnsOf(transaction);
      const { projectId } = await transaction
        .updateTable("batches")
        .set({ ...columns, ...NO_LEASE, status })
        .where("id", "=", lease.jobId)
        .returning("projectId")
        .executeTakeFirstOrThrow();
      const event = { projectId, type: `batch.${status}`, objectId: lease.jobId } as const;
      await queueWebhookEvent(transaction, event, this.#now());
      return true;
    });
  }

  async #update(lease: Lease, columns: BatchColumns): Promise<boolean> {
    const result = await this.#database
      .updateTable("batches")
      .set(columns)
      .where("id", "=", lease.jobId)
      .where("leaseOwner", "=", lease.owner)
      .executeTakeFirst();
    return result.numUpdatedRows > 0n;
  }

  #seconds(): number {
    return Math.floor(this.#now() / 1000);
  }
}

type BatchColumns = Updateable<BatchesTable> & { status?: BatchStatus };

function progressColumns({ requestCounts, usage }: BatchProgress) {
  return { requestCounts: JSON.stringify(requestCounts), usage: JSON.stringify(usage) };
}

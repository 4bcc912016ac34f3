// Leases on rows of work: which worker has which row, until when. Every table of work has the same three columns for it. It
// does not know what the work is.
//
// Every method with a lease answers false when the lease is lost: the worker then stops and leaves the row alone. Two workers
// can therefore never both write.
import type { Expression, SqlBool } from "kysely";
import type { Database, DatabaseTransaction } from "./database.ts";

export interface Lease {
  jobId: string;
  owner: string;
}

/** What a heartbeat finds: a lease, or why there is none. */
export type LeaseState = "held" | "cancelled" | "paused" | "lost";

export type LeasedTable = "fineTuningJobs" | "batches";

export interface LeasesOptions {
  table: LeasedTable;
  /** Which rows want a worker. Literals, not bound values: only so can SQLite see that an index serves the query. */
  wantsWorker: Expression<SqlBool>;
  /** Rows that go before all others, e.g. those that somebody waits for. */
  first?: Expression<SqlBool>;
  /** Among the others the smallest number goes first; equal ones by age. */
  turn?: Expression<number>;
  /** Milliseconds since 1970. */
  now: () => number;
}

export class Leases {
  readonly #database: Database;
  readonly #options: LeasesOptions;

  constructor(database: Database, options: LeasesOptions) {
    this.#database = database;
    this.#options = options;
  }

  /**
   * The id of the next row, as a rule the oldest, that wants a worker and that nobody holds, now leased to the owner (a name unique to one worker's
   * life); null when there is none. A crashed worker's row is free again when its lease expires. Counts an attempt. In a
   * transaction, so that the row can be read as it was claimed.
   */
  async claim(
    transaction: DatabaseTransaction,
    owner: string,
    leaseExpiresAtMs: number,
  ): Promise<string | null> {
    const { table, wantsWorker, first, turn, now } = this.#options;
    const row = await transaction
      .updateTable(table)
      .set((set) => ({ leaseOwner: owner, leaseExpiresAtMs, attempts: set("attempts", "+", 1) }))
      .where("id", "=", (select) => {
        let free = select
          .selectFrom(table)
          .select("id")
          .where(wantsWorker)
          .where((or) => or.or([or("leaseOwner", "is", null), or("leaseExpiresAtMs", "<=", now())]));
        if (first !== undefined) free = free.orderBy(first, "desc");
        if (turn !== undefined) free = free.orderBy(turn, "asc");
        return free.orderBy("sequence", "asc").limit(1);
      })
      .returning("id")
      .executeTakeFirst();
    return row?.id ?? null;
  }

  /** Prolongs the lease, or says why there is none. */
  async heartbeat(jobId: string, owner: string, leaseExpiresAtMs: number): Promise<LeaseState> {
    const result = await this.#database
      .updateTable(this.#options.table)
      .set({ leaseExpiresAtMs })
      .where("id", "=", jobId)
      .where("leaseOwner", "=", owner)
      .executeTakeFirst();
    if (result.numUpdatedRows > 0n) return "held";
    const status = await this.status(jobId);
    if (status === "cancelled" || status === "cancelling") return "cancelled";
    return status === "paused" ? "paused" : "lost";
  }

  /** Whoever holds the row; null when there is none of that id. */
  async status(jobId: string): Promise<string | null> {
    const row = await this.#database
      .selectFrom(this.#options.table)
      .select("status")
      .where("id", "=", jobId)
      .executeTakeFirst();
    return row?.status ?? null;
  }

  /** Gives an unfinished row back (the server is stopping): the next worker goes on at once, and the attempt does not count. */
  async release(jobId: string, owner: string): Promise<void> {
    await this.#database
      .updateTable(this.#options.table)
      .set((set) => ({ leaseOwner: null, leaseExpiresAtMs: null, attempts: set("attempts", "-", 1) }))
      .where("id", "=", jobId)
      .where("leaseOwner", "=", owner)
      .execute();
  }

  /** Who holds which row, whether or not the lease has expired. */
  async list(): Promise<Lease[]> {
    const { table, wantsWorker } = this.#options;
    const rows = await this.#database
      .selectFrom(table)
      .select(["id", "leaseOwner"])
      .where(wantsWorker)
      .execute();
    return rows.flatMap((row) => (row.leaseOwner === null ? [] : { jobId: row.id, owner: row.leaseOwner }));
  }

  /** Frees the row of an owner known to be dead before its lease expires; the attempt counts, as with an expired lease. */
  async expire(lease: Lease): Promise<void> {
    await this.#database
      .updateTable(this.#options.table)
      .set({ leaseOwner: null, leaseExpiresAtMs: null })
      .where("id", "=", lease.jobId)
      .where("leaseOwner", "=", lease.owner)
      .execute();
  }

  /** Whether the lease is still the owner's. It is asked by writing: that takes the write lock, so the answer stays true to the transaction's end. */
  async holds(transaction: DatabaseTransaction, lease: Lease): Promise<boolean> {
    const result = await transaction
      .updateTable(this.#options.table)
      .set({ leaseOwner: lease.owner })
      .where("id", "=", lease.jobId)
      .where("leaseOwner", "=", lease.owner)
      .executeTakeFirst();
    return result.numUpdatedRows > 0n;
  }
}

/** What ends a lease, for the update that ends or stops a row. */
export const NO_LEASE = { leaseOwner: null, leaseExpiresAtMs: null } as const;

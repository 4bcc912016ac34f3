// Idempotency keys: which creations a client has named, and what they answered. A name is taken before the work begins and
// given its answer after it, so the same creation is carried out at most once, whatever happens between.
import { randomUUID } from "node:crypto";
import { sql } from "kysely";
import { TunesmithError } from "../errors.ts";
import type { Database, DatabaseTransaction } from "./database.ts";
import { removeInPortions } from "./removal.ts";

/** What a project's clients have named cannot take more room for now. The caller waits, or sends no key. */
export class TooManyIdempotencyKeys extends TunesmithError {
  override readonly name = "TooManyIdempotencyKeys";
}

export interface IdempotentAnswer {
  status: number;
  /** JSON. */
  body: string;
}

export type Claim =
  | { state: "claimed" }
  /** The same request was answered. */
  | { state: "answered"; answer: IdempotentAnswer }
  /** The same request is being carried out, by this process. */
  | { state: "running" }
  /** The server ended, or could not keep the answer, when it had begun: whether it took effect is not known here. */
  | { state: "lost" }
  /** The key stands for another request. */
  | { state: "different" };

/** How long a key stands for its request. */
const LIFE_SECONDS = 24 * 60 * 60;

/** Keys that a project may have at a time, more than one a second all day long; bounds the table. */
const MAX_IDEMPOTENCY_KEYS = 100_000;

/** Between two counts of a project that is full: each looks at all its keys. */
const RECOUNT_SECONDS = 1;

/**
 * Largest answer that is kept; creations answer with about 1 KB, and with 60 KB where the metadata is as long as it may be. Of
 * a model's answers, those with many log-probabilities are larger.
 */
const MAX_ANSWER_BYTES = 128 * 1024;

export class IdempotencyStore {
  readonly #database: Database;
  readonly #now: () => number;
  /** Claims of an earlier process can never be answered any more. */
  readonly #process = randomUUID();
  /** How many keys each project has at most, so that a claim need not count them: some may have gone since the last count. */
  readonly #counts = new Map<string, { most: number; countedAt: number }>();

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** Takes the key for the request with this fingerprint, or says what stands in the way. Throws TooManyIdempotencyKeys. */
  async claim(projectId: string, key: string, fingerprint: string): Promise<Claim> {
    const now = this.#seconds();
    return this.#database.transaction().execute(async (transaction) => {
      await transaction
        .deleteFrom("idempotencyKeys")
        .where("projectId", "=", projectId)
        .where("key", "=", key)
        .where("createdAt", "<=", now - LIFE_SECONDS)
        .execute();
      const inserted = await transaction
        .insertInto("idempotencyKeys")
        .values({ projectId, key, fingerprint, owner: this.#process, createdAt: now })
        .onConflict((conflict) => conflict.columns(["projectId", "key"]).doNothing())
        .executeTakeFirst();
      if ((inserted.numInsertedOrUpdatedRows ?? 0n) > 0n) {
        // Thrown inside, so that the key is not taken.
        if (!(await this.#hasRoom(transaction, projectId))) throw tooMany();
        return { state: "claimed" };
      }
      const row = await transaction
        .selectFrom("idempotencyKeys")
        .selectAll()
        .where("projectId", "=", projectId)
        .where("key", "=", key)
        .executeTakeFirstOrThrow();
      if (row.fingerprint !== fingerprint) return { state: "different" };
      if (row.status !== null && row.body !== null) {
        return { state: "answered", answer: { status: row.status, body: row.body } };
      }
      return { state: row.owner === this.#process ? "running" : "lost" };
    });
  }

  /** Whether the keys of a project, one just taken included, are no more than it may have. */
  async #hasRoom(transaction: DatabaseTransaction, projectId: string): Promise<boolean> {
    const now = this.#seconds();
    const known = this.#counts.get(projectId);
    if (known !== undefined) {
      if (known.most < MAX_IDEMPOTENCY_KEYS) {
        known.most += 1;
        return true;
      }
      if (Math.abs(now - known.countedAt) < RECOUNT_SECONDS) return false;
    }
    const { count } = await transaction
      .selectFrom("idempotencyKeys")
      .select((select) => select.fn.countAll<number>().as("count"))
      .where("projectId", "=", projectId)
      .where("createdAt", ">", now - LIFE_SECONDS)
      .executeTakeFirstOrThrow();
    this.#counts.set(projectId, { most: Math.min(count, MAX_IDEMPOTENCY_KEYS), countedAt: now });
    return count <= MAX_IDEMPOTENCY_KEYS;
  }

  /** Removes keys past their life. */
  async sweep(): Promise<void> {
    await removeInPortions((limit) =>
      this.#database
        .deleteFrom("idempotencyKeys")
        .where(sql<number>`rowid`, "in", (select) =>
          select
            .selectFrom("idempotencyKeys")
            .select(sql<number>`rowid`.as("rowid"))
            .where("createdAt", "<=", this.#seconds() - LIFE_SECONDS)
            .limit(limit),
        )
        .executeTakeFirst(),
    );
  }

  /** Keeps the answer for as long as the key stands. One that is too large is lost to later requests. */
  async answer(projectId: string, key: string, { status, body }: IdempotentAnswer): Promise<void> {
    if (Buffer.byteLength(body) > MAX_ANSWER_BYTES) return this.lose(projectId, key);
    await this.#database
      .updateTable("idempotencyKeys")
      .set({ status, body })
      .where("projectId", "=", projectId)
      .where("key", "=", key)
      .execute();
  }

  /** Nobody will ever know the answer: the request is not carried out again under this key. */
  async lose(projectId: string, key: string): Promise<void> {
    await this.#database
      .updateTable("idempotencyKeys")
      .set({ owner: "" })
      .where("projectId", "=", projectId)
      .where("key", "=", key)
      .execute();
  }

  /** Frees the key of a request that failed: nothing was created, so it may be sent again, changed or not. */
  async release(projectId: string, key: string): Promise<void> {
    await this.#database
      .deleteFrom("idempotencyKeys")
      .where("projectId", "=", projectId)
      .where("key", "=", key)
      .execute();
  }

  #seconds(): number {
    return Math.floor(this.#now() / 1000);
  }
}

function tooMany(): TooManyIdempotencyKeys {
  return new TooManyIdempotencyKeys(
    `This project has used ${MAX_IDEMPOTENCY_KEYS} idempotency keys within 24 hours, the most that are kept. Nothing was created. Send the request without 'Idempotency-Key', or later.`,
    { code: "too_many_idempotency_keys" },
  );
}

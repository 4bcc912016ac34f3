// SQLite for Kysely whose writes last: whoever awaits a write goes on when the disk has it. The flush is awaited outside SQLite, so the
// event loop turns meanwhile and writes that come together share one.
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { SqliteDialect, SqliteDriver } from "kysely";
import type { CompiledQuery, DatabaseConnection, Driver, QueryResult } from "kysely";
import type Sqlite from "libsql";
import { isFullDisk, OutOfSpace } from "../errors.ts";
import { LogCheckpoints } from "./log-checkpoints.ts";
import { SqliteConnection } from "./sqlite-connection.ts";

export interface DurableOptions {
  /** In WAL mode with `synchronous = NORMAL`: SQLite itself flushes at checkpoints only. */
  database: Sqlite.Database;
  flush: Flush;
  /** What the program calls a column. */
  nameOf: (column: string) => string;
}

export class DurableSqliteDialect extends SqliteDialect {
  readonly #options: DurableOptions;

  constructor(options: DurableOptions) {
    super({ database: options.database });
    this.#options = options;
  }

  override createDriver(): Driver {
    return new DurableDriver(this.#options);
  }
}

/** Makes all last that was committed before the call. */
export interface Flush {
  (): Promise<void>;
  close(): Promise<void>;
}

class DurableDriver extends SqliteDriver {
  readonly #database: Sqlite.Database;
  /** There is only one. */
  readonly #connection: SqliteConnection;
  readonly #checked: DatabaseConnection;
  readonly #flush: Flush;
  readonly #totalChanges: () => number;
  #flushedChanges: number;

  constructor({ database, flush, nameOf }: DurableOptions) {
    super({ database });
    this.#database = database;
    this.#connection = new SqliteConnection(database, nameOf);
    this.#checked = new RoomCheckedConnection(this.#connection);
    this.#flush = flush;
    const statement = database.prepare("SELECT total_changes() AS changes");
    this.#totalChanges = () => (statement.get() as { changes: number }).changes;
    this.#flushedChanges = this.#totalChanges();
  }

  override async acquireConnection(): Promise<DatabaseConnection> {
    await super.acquireConnection();
    return this.#checked;
  }

  /** SQLite ends some transactions by itself, those of a full disk among them; the error of the second try would hide the first. */
  override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    if (this.#database.inTransaction) await super.rollbackTransaction(connection);
  }

  /** Kysely awaits this before it hands a query's or a transaction's result to its caller. */
  override async releaseConnection(): Promise<void> {
    const hasWritten = this.#takeHasWritten();
    // First, so that others work while the disk does.
    await super.releaseConnection();
    if (!hasWritten) return;
    try {
      await this.#flush();
    } catch (error) {
      // Whoever asks next must not be told of what may be lost as if it were safe.
      this.#flushedChanges = -1;
      throw error;
    }
  }

  #takeHasWritten(): boolean {
    const mayHaveWritten = this.#connection.takeMayHaveWritten();
    if (!mayHaveWritten && this.#flushedChanges !== -1) return false;
    const changes = this.#totalChanges();
    const hasWritten = changes !== this.#flushedChanges;
    this.#flushedChanges = changes;
    return hasWritten;
  }

  override async destroy(): Promise<void> {
    this.#connection.close();
    await super.destroy();
    await this.#flush.close();
  }
}

/** A full disk becomes the error whose class and message say so. */
class RoomCheckedConnection implements DatabaseConnection {
  readonly #connection: DatabaseConnection;

  constructor(connection: DatabaseConnection) {
    this.#connection = connection;
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    try {
      return await this.#connection.executeQuery<R>(query);
    } catch (error) {
      throw isFullDisk(error) ? databaseFull(error) : error;
    }
  }

  streamQuery<R>(query: CompiledQuery, chunkSize: number): AsyncIterableIterator<QueryResult<R>> {
    return this.#connection.streamQuery<R>(query, chunkSize);
  }
}

/** Goes to clients, so it names no folder. */
export function databaseFull(cause: unknown): OutOfSpace {
  return new OutOfSpace(
    "The server's disk is full: its database could not be written, and nothing was changed. Free some space there, then try again.",
    { cause },
  );
}

/**
 * Flushes the write-ahead log of the database at this path, and has it moved into the database now and then. What a checkpoint has
 * moved out of the log meanwhile, SQLite has flushed. SQLite holds no locks on this file, which closing it here would free.
 */
export function createFlush(path: string, checkpoints = new LogCheckpoints(path)): Flush {
  let log: FileHandle | null = null;
  const sync = stopAtFailure(async () => {
    checkpoints.due();
    const handle = (log ??= await open(`${path}-wal`, "r+"));
    return () => handle.datasync();
  });
  const close = async () => {
    await checkpoints.close();
    await log?.close();
  };
  return Object.assign(shareFlush(sync), { close });
}

/**
 * A disk tells of a failed flush once and takes the pages for clean afterwards: the next flush would succeed over a hole that ends
 * recovery there. So a failure stays one until the server is started again, which reads what the disk really has. Failing to
 * `prepare`, for want of file handles, is no such failure.
 */
export function stopAtFailure(prepare: () => Promise<() => Promise<void>>): () => Promise<void> {
  let failure: Error | null = null;
  return async () => {
    if (failure !== null) throw failure;
    const flush = await prepare();
    try {
      await flush();
    } catch (cause) {
      failure = new Error(
        "The disk failed to keep the database's log. What was written since may be lost; look at the disk, then start the server again.",
        { cause },
      );
      throw failure;
    }
  };
}

/** Calls that come while one is at work share the next: the one at work may have begun before what they wrote. */
export function shareFlush(sync: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> = Promise.resolve();
  let next: Promise<void> | null = null;
  return () => {
    next ??= running
      .catch(() => undefined) // told to those who waited for it
      .then(() => {
        running = next ?? running;
        next = null;
        return sync();
      });
    return next;
  };
}

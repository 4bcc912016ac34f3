// The SQLite database: opening it and bringing it up to this version.
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { CamelCasePlugin, Kysely } from "kysely";
import type { PluginTransformResultArgs, QueryResult, Transaction, UnknownRow } from "kysely";
import Sqlite from "libsql";
import { Unavailable } from "../errors.ts";
import { createFlush, DurableSqliteDialect } from "./durable-dialect.ts";
import type { Flush } from "./durable-dialect.ts";
import { MAX_LOG_PAGES } from "./log-checkpoints.ts";
import { MIGRATIONS } from "./migrations.ts";
import { asOpeningError } from "./opening.ts";
import type { Tables } from "./tables.ts";

export type Database = Kysely<Tables>;
export type DatabaseTransaction = Transaction<Tables>;

/** How long a query waits for another process's write, in milliseconds; writes here take a few. */
const BUSY_TIMEOUT_MS = 10_000;

/**
 * Opens (and makes or migrates) the database at this path; ":memory:" keeps it in memory. A write that was awaited outlives a power
 * cut. Throws Unavailable if it cannot be read or a newer version wrote it, OutOfSpace on a full disk.
 */
export async function openDatabase(path: string, flush = flushOf(path)): Promise<Database> {
  let sqlite: Sqlite.Database;
  try {
    sqlite = openSqlite(path);
  } catch (error) {
    throw asOpeningError(error, path);
  }
  const names = new ColumnNames();
  return new Kysely<Tables>({
    dialect: new DurableSqliteDialect({
      database: sqlite,
      flush,
      nameOf: (column) => names.ofColumn(column),
    }),
    plugins: [names],
  });
}

function openSqlite(path: string): Sqlite.Database {
  if (path !== ":memory:") mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const sqlite = new Sqlite(path, { timeout: BUSY_TIMEOUT_MS });
  try {
    sqlite.exec("PRAGMA journal_mode = WAL");
    sqlite.exec("PRAGMA foreign_keys = ON");
    migrate(sqlite, path);
    // Commits are flushed by the dialect, without holding up the event loop.
    sqlite.exec("PRAGMA synchronous = NORMAL");
    sqlite.exec(`PRAGMA wal_autocheckpoint = ${MAX_LOG_PAGES}`);
  } catch (error) {
    sqlite.close();
    throw error;
  }
  return sqlite;
}

/** camelCase here, snake_case there. */
class ColumnNames extends CamelCasePlugin {
  /** The connection has named the columns already, once a statement; the plugin would make each row anew. */
  override async transformResult({ result }: PluginTransformResultArgs): Promise<QueryResult<UnknownRow>> {
    return result;
  }

  ofColumn(column: string): string {
    return this.camelCase(column);
  }
}

function flushOf(path: string): Flush {
  return path === ":memory:" ? NO_FLUSH : createFlush(path);
}

/** For a database that need not outlive its process: one in memory, or a test's whose clock stands still. */
export const NO_FLUSH: Flush = Object.assign(async () => undefined, { close: async () => undefined });

/** Runs the migrations that this database has not seen, all in one transaction: it is at the old version or at the new one. */
function migrate(sqlite: Sqlite.Database, path: string): void {
  // IMMEDIATE: two servers that start at once migrate one after the other.
  sqlite.exec("BEGIN IMMEDIATE");
  try {
    const row = sqlite.prepare("PRAGMA user_version").get() as { user_version: number };
    const version = row.user_version;
    if (version > MIGRATIONS.length) {
      throw new Unavailable(
        `The database ${path} has schema version ${version}; this tunesmith knows versions up to ${MIGRATIONS.length}. It was written by a newer tunesmith: install that one, or choose another home folder.`,
      );
    }
    for (const statement of MIGRATIONS.slice(version).flat()) sqlite.exec(statement);
    sqlite.exec(`PRAGMA user_version = ${MIGRATIONS.length}`);
    sqlite.exec("COMMIT");
  } catch (error) {
    // SQLite ends some transactions by itself, those of a full disk among them.
    if (sqlite.inTransaction) sqlite.exec("ROLLBACK");
    throw error;
  }
}

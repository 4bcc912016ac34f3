// The connection through which Kysely asks SQLite: every statement is prepared once, and its columns are named once, not once a row.
// It knows no tables and no disk.
import type { CompiledQuery, DatabaseConnection, QueryResult } from "kysely";
import type Sqlite from "libsql";

/** Statements that stay prepared, a few KB each: more than the queries of this program; lists of ids of many lengths push out the oldest. */
const MAX_PREPARED_STATEMENTS = 400;

interface Prepared {
  statement: Sqlite.Statement;
  /** As the program calls its columns; null for a statement without rows. */
  names: readonly string[] | null;
}

export class SqliteConnection implements DatabaseConnection {
  readonly #database: Sqlite.Database;
  readonly #nameOf: (column: string) => string;
  /** In the order of their last use. */
  readonly #prepared = new Map<string, Prepared>();
  #mayHaveWritten = false;

  constructor(database: Sqlite.Database, nameOf: (column: string) => string) {
    this.#database = database;
    this.#nameOf = nameOf;
  }

  /** Whether anything but a SELECT ran since the last call. */
  takeMayHaveWritten(): boolean {
    const mayHaveWritten = this.#mayHaveWritten;
    this.#mayHaveWritten = false;
    return mayHaveWritten;
  }

  async executeQuery<R>({ sql, parameters, query }: CompiledQuery): Promise<QueryResult<R>> {
    if (query.kind !== "SelectQueryNode") this.#mayHaveWritten = true;
    const { statement, names } = this.#prepare(sql);
    try {
      if (names === null) {
        const { changes, lastInsertRowid } = statement.run(parameters);
        return { numAffectedRows: BigInt(changes), insertId: BigInt(lastInsertRowid), rows: [] };
      }
      // Raw rows: an object made by libsql is named anew, column by column, for every row.
      const rows = statement.all(parameters) as unknown[][];
      return { rows: rows.map((values) => named(names, values) as R) };
    } catch (error) {
      // It may have stopped half-way, and would hold its snapshot of the database.
      this.#prepared.delete(sql);
      throw error;
    }
  }

  /** All rows at once: nothing here reads more than fits into memory. */
  async *streamQuery<R>(query: CompiledQuery): AsyncIterableIterator<QueryResult<R>> {
    yield await this.executeQuery<R>(query);
  }

  /** The statements keep the database open. */
  close(): void {
    this.#prepared.clear();
  }

  #prepare(sql: string): Prepared {
    const known = this.#prepared.get(sql);
    if (known !== undefined) {
      this.#prepared.delete(sql);
      this.#prepared.set(sql, known);
      return known;
    }
    const statement = this.#database.prepare(sql);
    const prepared = {
      statement,
      names: statement.reader
        ? statement
            .raw()
            .columns()
            .map(({ name }) => this.#nameOf(name))
        : null,
    };
    this.#prepared.set(sql, prepared);
    const [oldest] = this.#prepared.keys();
    if (this.#prepared.size > MAX_PREPARED_STATEMENTS && oldest !== undefined) this.#prepared.delete(oldest);
    return prepared;
  }
}

function named(names: readonly string[], values: readonly unknown[]): Record<string, unknown> {
  const row: Record<string, unknown> = {};
  for (const [index, name] of names.entries()) row[name] = values[index];
  return row;
}

// A disk that is full as far as SQLite is concerned, for tests: every write of this process's databases is refused as SQLite
// refuses it, and the transaction that holds it ended, as it ends them (seen on a tmpfs without room).
import Sqlite from "libsql";
import { onTestFinished, vi } from "vitest";

export interface DatabaseDisk {
  isFull: boolean;
}

/** Of the databases that this test opens; the disk has room until it is said to be full. */
export function databaseDisk(): DatabaseDisk {
  const disk = { isFull: false };
  const refuse = (database: Sqlite.Database, text: string): void => {
    if (/^(insert|update|delete)/.test(text)) {
      if (disk.isFull && !database.inTransaction) throw refused();
      changed.add(database);
    } else if (text === "commit" && disk.isFull && changed.has(database)) {
      database.exec("rollback");
      throw refused();
    } else if (text === "begin") changed.delete(database);
  };
  const { prepare } = Sqlite.prototype as { prepare: (this: Sqlite.Database, text: string) => unknown };
  const changed = new WeakSet<Sqlite.Database>();
  const spy = vi.spyOn(Sqlite.prototype, "prepare").mockImplementation(function (
    this: Sqlite.Database,
    text: string,
  ) {
    const statement = prepare.call(this, text) as Sqlite.Statement;
    // Statements are prepared once and run often.
    for (const method of ["run", "all"] as const) {
      const original = statement[method].bind(statement) as (...given: unknown[]) => unknown;
      Object.assign(statement, {
        [method]: (...given: unknown[]) => {
          refuse(this, text);
          return original(...given);
        },
      });
    }
    return statement;
  });
  onTestFinished(() => spy.mockRestore());
  return disk;
}

const refused = () => Object.assign(new Error("database or disk is full"), { code: "SQLITE_FULL" });

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
  const { prepare } = Sqlite.prototype as { prepare: (this: Sqlite.Database, text: string) => unknown };
  const changed = new WeakSet<Sqlite.Database>();
  const spy = vi.spyOn(Sqlite.prototype, "prepare").mockImplementation(function (
    this: Sqlite.Database,
    text: string,
  ) {
    if (/^(insert|update|delete)/.test(text)) {
      if (disk.isFull && !this.inTransaction) throw refused();
      changed.add(this);
    } else if (text === "commit" && disk.isFull && changed.has(this)) {
      this.exec("rollback");
      throw refused();
    } else if (text === "begin") changed.delete(this);
    return prepare.call(this, text) as never;
  });
  onTestFinished(() => spy.mockRestore());
  return disk;
}

const refused = () => Object.assign(new Error("database or disk is full"), { code: "SQLITE_FULL" });

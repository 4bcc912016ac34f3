// Why a home folder or its database could not be opened, as an error for whoever starts the server: the system's and SQLite's own
// words, and the way out.
import { dirname } from "node:path";
import { isFullDisk, messageOf, OutOfSpace, TunesmithError, Unavailable } from "../errors.ts";

/** What the file's opener threw, as what it means; `path` is a database in the home folder, or that folder's lock. */
export function asOpeningError(error: unknown, path: string): unknown {
  if (error instanceof TunesmithError || !(error instanceof Error)) return error;
  const folder = dirname(path);
  const anotherFolder = "choose another home folder with TUNESMITH_HOME";
  if (isFullDisk(error)) {
    return new OutOfSpace(
      `The disk that holds ${folder} is full, so the server cannot start. Free some space, or ${anotherFolder}.`,
      { cause: error },
    );
  }
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  if (code === "SQLITE_NOTADB" || code === "SQLITE_CORRUPT") {
    return new Unavailable(
      `${path} is no database that can be read (${error.message}). Put back a copy of it, or ${anotherFolder}.`,
      { cause: error },
    );
  }
  const isOfSystem =
    "syscall" in error || code.startsWith("SQLITE_") || CONNECTION_FAILED.test(error.message);
  if (!isOfSystem) return error;
  return new Unavailable(
    `The home folder ${folder} cannot be used: expected a folder that this user may write to, found ${messageOf(error)}. Mend that, or ${anotherFolder}.`,
    { cause: error },
  );
}

/** libsql says so, without a code, of a file that it cannot make or open. */
const CONNECTION_FAILED = /^ConnectionFailed\(/;

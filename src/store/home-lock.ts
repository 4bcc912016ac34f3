// One server a home folder: a lock that the system itself lets go of when its holder dies, however it dies. It knows nothing of
// what is in the folder.
import { mkdirSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import Sqlite from "libsql";
import { Conflict } from "../errors.ts";
import { asOpeningError } from "./opening.ts";

/** An empty database under an exclusive transaction: Node has no file locks of its own, and a process id may be reused. */
const LOCK_FILE = "server.lock";
/** Who holds the lock, for people: nothing is decided by it. */
const HOLDER_FILE = "server.pid";

export interface HomeLock {
  release(): Promise<void>;
}

/** Takes the folder, which is made if need be, for this process. Throws Conflict naming the process that has it. */
export async function lockHome(homeDirectory: string): Promise<HomeLock> {
  const lockFile = join(homeDirectory, LOCK_FILE);
  try {
    return await takeLock(homeDirectory, lockFile);
  } catch (error) {
    throw asOpeningError(error, lockFile);
  }
}

async function takeLock(homeDirectory: string, lockFile: string): Promise<HomeLock> {
  // Training data and adapters are nobody else's business.
  mkdirSync(homeDirectory, { recursive: true, mode: 0o700 });
  const holderFile = join(homeDirectory, HOLDER_FILE);
  const lock = new Sqlite(lockFile, { timeout: 0 });
  try {
    lock.exec("BEGIN EXCLUSIVE");
    await writeFile(holderFile, `process ${process.pid} on ${hostname()}\n`);
  } catch (error) {
    lock.close();
    if (!isBusy(error)) throw error;
    const holder = await readFile(holderFile, "utf8").catch(() => "");
    throw new Conflict(
      `Another server (${holder.trim() || "process unknown"}) uses the folder ${homeDirectory}, and one folder serves one server. Stop that one, or give this one a folder of its own with TUNESMITH_HOME.`,
    );
  }
  return {
    async release() {
      // While the lock is still held: afterwards the file may be another server's.
      await rm(holderFile, { force: true });
      lock.close();
    },
  };
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "SQLITE_BUSY";
}

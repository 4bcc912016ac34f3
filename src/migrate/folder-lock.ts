// One command at a time on a folder: a file that names the process that holds it. A holder that was killed is known by its process being
// gone, so that nobody waits for it.
import { randomBytes } from "node:crypto";
import { link, readFile, rename, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { Conflict } from "../errors.ts";

const LOCK_FILE = ".lock";

/** Runs `work` while the folder, which must exist, is this process's. Throws Conflict while it is another's. */
export async function withFolder<T>(directory: string, work: () => Promise<T>): Promise<T> {
  const path = join(directory, LOCK_FILE);
  const mine = `${process.pid} ${hostname()} ${randomBytes(8).toString("hex")}\n`;
  await take(path, mine);
  try {
    return await work();
  } finally {
    if ((await readFile(path, "utf8").catch(() => "")) === mine) await rm(path, { force: true });
  }
}

async function take(path: string, mine: string): Promise<void> {
  // The second time round a dead holder's file is out of the way.
  for (let round = 0; round < 2; round++) {
    if (await create(path, mine)) return;
    const holder = await readFile(path, "utf8").catch(() => "");
    if (isAlive(holder)) break;
    // Of two that find it dead, one moves it; the other finds it gone or taken anew.
    const aside = `${path}.${randomBytes(4).toString("hex")}`;
    await rename(path, aside).catch(() => undefined);
    await rm(aside, { force: true });
  }
  const holder = (await readFile(path, "utf8").catch(() => "")).split(" ");
  throw new Conflict(
    `Another command (process ${holder[0] || "unknown"} on ${holder[1] ?? "this machine"}) works in this folder. Wait for it; if there is none, remove ${path}.`,
  );
}

/** The lock with its holder in it, at one moment: a file that is made first and filled then would look like a dead holder's. */
async function create(path: string, mine: string): Promise<boolean> {
  const prepared = `${path}.${randomBytes(4).toString("hex")}`;
  try {
    await writeFile(prepared, mine, { flag: "wx" });
    await link(prepared, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  } finally {
    await rm(prepared, { force: true });
  }
}

function isAlive(holder: string): boolean {
  const [pid, host] = holder.split(" ");
  // Of another machine's processes nothing is known.
  if (host !== undefined && host !== hostname()) return true;
  const id = Number(pid);
  if (!Number.isSafeInteger(id) || id <= 0) return false;
  try {
    process.kill(id, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

// A lock between processes of one machine: a file that its holder keeps touching. Knows nothing of what it guards.
import { randomBytes } from "node:crypto";
import { link, open, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Cancelled } from "../errors.ts";

/** The holder touches the file this often… */
const HEARTBEAT_MS = 2_000;
/** …and one not touched for so long belongs to a process that died; well above any pause of a living one. */
const STALE_MS = 20_000;
const POLL_MS = 200;

/**
 * Runs `work` while holding the lock at `path`, waiting for whoever holds it now. `onWait` is called once when it must
 * wait. Throws Cancelled when the signal aborts meanwhile.
 */
export async function withFileLock<T>(
  path: string,
  work: () => Promise<T>,
  options: { signal?: AbortSignal | undefined; onWait?: () => void; staleMs?: number } = {},
): Promise<T> {
  const token = randomBytes(8).toString("hex");
  let hasWaited = false;
  while (!(await tryAcquire(path, token))) {
    if (options.signal?.aborted) throw new Cancelled();
    if (!hasWaited) options.onWait?.();
    hasWaited = true;
    if (!(await removeIfStale(path, options.staleMs ?? STALE_MS))) await sleep(POLL_MS);
  }
  const heartbeat = setInterval(() => {
    const now = new Date();
    // Failing to touch it means that it was taken for dead; the work is still checked and renamed atomically.
    utimes(path, now, now).catch(() => {});
  }, HEARTBEAT_MS);
  heartbeat.unref();
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    if ((await readFile(path, "utf8").catch(() => "")) === token) await rm(path, { force: true });
  }
}

async function tryAcquire(path: string, token: string): Promise<boolean> {
  try {
    const handle = await open(path, "wx");
    await handle.writeFile(token);
    await handle.close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

async function removeIfStale(path: string, staleMs: number): Promise<boolean> {
  const age = await stat(path).then(
    (found) => Date.now() - found.mtimeMs,
    () => null,
  );
  if (age === null) return true;
  if (age < staleMs) return false;
  const stale = await readFile(path, "utf8").catch(() => null);
  // Two waiters may find it stale; the one that comes second must not remove the first one's new lock.
  const aside = `${path}.${randomBytes(4).toString("hex")}.stale`;
  try {
    await rename(path, aside);
  } catch {
    return true;
  }
  if ((await readFile(aside, "utf8")) !== stale) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
  return true;
}

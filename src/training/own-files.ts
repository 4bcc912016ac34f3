// Files that this program wrote into a job directory, read back. What is not there as it was written was damaged since, by a disk or
// by hand: the job's owner reads which file, and that the job can only be created again.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { messageOf, TunesmithError } from "../errors.ts";

const DAMAGED = "damaged_job";

/** The JSON object in a file. Throws TunesmithError (damaged_job) where there is another text, and the system's error where none can be read. */
export async function readOwnJson(path: string): Promise<unknown> {
  const text = await readFile(path, "utf8");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw damagedFile(path, text.trim() === "" ? "an empty file" : `no JSON (${messageOf(error)})`, error);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw damagedFile(path, "JSON that is no object");
  return value;
}

/**
 * Waits for what is read from a file of the job; a failure means that the file is damaged or gone. Its own message, which may tell to
 * fetch the file again, is the cause's: nobody has another copy.
 */
export async function readingOwn<T>(path: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof TunesmithError && error.code === DAMAGED) throw error;
    throw damagedFile(path, existsSync(path) ? "what cannot be read" : "none", error);
  }
}

function damagedFile(path: string, found: string, cause?: unknown): TunesmithError {
  return new TunesmithError(
    `A file of the job is damaged: expected ${path} as it was written, found ${found}. Look after the server's disk, then create the job again.`,
    { code: DAMAGED, cause },
  );
}

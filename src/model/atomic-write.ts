// Files and folders that appear whole or not at all: written under a temporary name, flushed, then renamed. What a crash
// leaves behind is never under the final name. Knows no format.
import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { OutOfSpace, messageOf } from "../errors.ts";

/** A hidden sibling of `path`, in the same folder so that the later rename stays on one file system. */
export function temporarySibling(path: string): string {
  return join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`);
}

/**
 * Removes what writers killed half-way left in a folder. Only for a folder whose one writer is the caller, and whose content
 * it can make again.
 */
export async function removeTemporarySiblings(directory: string): Promise<void> {
  for (const name of await readdir(directory))
    if (/^\..+\.\d+-[0-9a-f]{8}\.tmp$/.test(name))
      await rm(join(directory, name), { recursive: true, force: true });
}

/** Writes the chunks to `path`, replacing what was there only when all is on disk. Throws OutOfSpace on a full disk. */
export async function writeFileAtomically(
  path: string,
  chunks: Iterable<Uint8Array | string>,
): Promise<void> {
  const temporary = temporarySibling(path);
  try {
    await writeAndFlush(temporary, chunks);
    await rename(temporary, path);
    await flushDirectory(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true });
    throw asSpaceError(error, path);
  }
}

/**
 * Fills a new folder by `fill` and puts it at `path`. A folder already there is replaced; a crash between the two renames
 * leaves it under its temporary name beside the new one, so no data is lost. `fill` must flush its own files.
 */
export async function writeDirectoryAtomically(
  path: string,
  fill: (directory: string) => Promise<void>,
): Promise<void> {
  const temporary = temporarySibling(path);
  const replaced = temporarySibling(path);
  try {
    await mkdir(temporary, { recursive: true });
    await fill(temporary);
    await flushDirectory(temporary);
    const existed = await renameIfPresent(path, replaced);
    try {
      await rename(temporary, path);
    } catch (error) {
      if (existed) await rename(replaced, path);
      throw error;
    }
    await flushDirectory(dirname(path));
    if (existed) await rm(replaced, { recursive: true, force: true });
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw asSpaceError(error, path);
  }
}

async function renameIfPresent(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

async function writeAndFlush(path: string, chunks: Iterable<Uint8Array | string>): Promise<void> {
  const handle = await open(path, "wx");
  try {
    for (const chunk of chunks) await handle.writeFile(chunk);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes bytes that something else wrote, a copy as a rule, survive a power cut. */
export async function flushFile(path: string): Promise<void> {
  const handle = await open(path, "r+");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes a rename in this folder survive a power cut. */
export async function flushDirectory(path: string): Promise<void> {
  // Windows cannot open folders; its renames are journaled.
  if (process.platform === "win32") return;
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** What the system says when there is no room, and what the person who runs this can do about it. */
const NO_ROOM: ReadonlyMap<unknown, { problem: string; advice: string }> = new Map([
  ["ENOSPC", { problem: "The disk is full", advice: "Free some space" }],
  ["EDQUOT", { problem: "The disk quota is used up", advice: "Free some space" }],
  ["EFBIG", { problem: "A limit on the size of files was reached", advice: "Raise the limit" }],
]);

/** A full disk, quota or limit as the error that says so, naming `path`; anything else unchanged. */
export function asSpaceError(error: unknown, path: string): unknown {
  // A folder's error names the folder, not the file in it that had no room: that one stood under a temporary name.
  const cause = error instanceof OutOfSpace ? error.cause : error;
  const noRoom = NO_ROOM.get((cause as NodeJS.ErrnoException | null)?.code);
  if (noRoom === undefined) return error;
  return new OutOfSpace(
    `${noRoom.problem}: ${path} could not be written (${messageOf(cause)}). ` +
      `${noRoom.advice} and try again; nothing half-written was left there.`,
    { code: "out_of_space", cause },
  );
}

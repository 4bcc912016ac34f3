// Files and folders that appear whole or not at all: written under a temporary name, flushed, then renamed. What a crash
// leaves behind is never under the final name. Knows no format.
import { randomBytes } from "node:crypto";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { OutOfSpace, messageOf } from "../errors.ts";

/** A hidden sibling of `path`, in the same folder so that the later rename stays on one file system. */
export function temporarySibling(path: string): string {
  return join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`);
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

/** A full disk or quota as the error that says so; anything else unchanged. */
export function asSpaceError(error: unknown, path: string): unknown {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  if (code !== "ENOSPC" && code !== "EDQUOT") return error;
  return new OutOfSpace(
    `The disk is full: ${path} could not be written (${messageOf(error)}). ` +
      `Free some space and try again; nothing half-written was left there.`,
    { code: "out_of_space", cause: error },
  );
}

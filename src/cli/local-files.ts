// Files of this machine that a command reads or writes: what an upload may come from, and where a download goes. A name may
// also stand for a pipe, a device or a link; none of them is ever replaced by a file.
import { constants, createReadStream, createWriteStream, openAsBlob, type Stats } from "node:fs";
import { chmod, lstat, open, readlink, realpath, rename, rm, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { InvalidRequest, messageOf, TunesmithError, Unavailable } from "../errors.ts";
import { formatCount } from "./terminal.ts";

/** Of a pipe, whose bytes are held in memory, twice while they are put together; some 50,000 ordinary training rows. */
const MAX_PIPED_BYTES = 64 * 1024 * 1024;

/** Links from one to the next before they count as a circle, as on Linux. */
const MAX_LINKS = 40;

/**
 * The bytes of a file, read from disk when they are needed, or of a pipe, read here. Throws InvalidRequest for anything else:
 * a device has no end, or no content.
 */
export async function openLocal(path: string, signal: AbortSignal): Promise<Blob> {
  try {
    const found = await stat(path);
    // Files under /proc say that they are empty and are not.
    if (found.isFIFO() || (found.isFile() && found.size === 0)) return await readPiped(path, signal);
    if (!found.isFile()) throw unreadable(path, kindOf(found));
    return await openAsBlob(path);
  } catch (error) {
    if (error instanceof InvalidRequest || signal.aborted) throw error;
    throw unreadable(path, isMissing(error) ? "nothing of that name" : messageOf(error), error);
  }
}

async function readPiped(path: string, signal: AbortSignal): Promise<Blob> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  for await (const chunk of createReadStream(path, { signal })) {
    const part = chunk as Buffer<ArrayBuffer>;
    bytes += part.length;
    if (bytes > MAX_PIPED_BYTES)
      throw new InvalidRequest(
        `Cannot read "${path}": more than ${formatCount(MAX_PIPED_BYTES)} bytes come through the pipe, which are held in memory. Write them to a file and name that.`,
      );
    chunks.push(part);
  }
  return new Blob(chunks);
}

function unreadable(path: string, found: string, cause?: unknown): InvalidRequest {
  return new InvalidRequest(
    `Cannot read "${path}": expected a file or a pipe, found ${found}. Check the path.`,
    { cause },
  );
}

/** Where bytes for a path go: into a regular file, there or not yet, or through to a pipe or device that is there. */
export interface Target {
  /** Of a link, what it leads to. */
  path: string;
  /** The permissions of the file that is there; null where there is none. */
  mode: number | null;
  isFile: boolean;
}

/** Throws InvalidRequest where nothing can be written under the path. */
export async function targetOf(path: string): Promise<Target> {
  if (path === "") throw new InvalidRequest("Expected the name of a file to write to, found an empty one.");
  const found = await stat(path).catch((error: unknown) => {
    if (isMissing(error)) return null;
    throw unwritable(path, messageOf(error), error);
  });
  if (found === null) return { path: await endOfLinks(path), mode: null, isFile: true };
  if (found.isDirectory()) throw unwritable(path, "a folder");
  if (!found.isFile()) return { path, mode: null, isFile: false };
  return { path: await realpath(path), mode: found.mode & 0o7777, isFile: true };
}

/** Of a link to a name that is not there yet, that name. */
async function endOfLinks(path: string): Promise<string> {
  let end = path;
  for (let links = 0; links < MAX_LINKS; links++) {
    const found = await lstat(end).catch(() => null);
    if (found?.isSymbolicLink() !== true) return end;
    end = resolve(dirname(end), await readlink(end));
  }
  throw unwritable(path, "links that lead in a circle");
}

function unwritable(path: string, found: string, cause?: unknown): InvalidRequest {
  return new InvalidRequest(
    `Cannot write "${path}": expected the name of a file, found ${found}. Name another.`,
    { cause },
  );
}

/**
 * Writes a body under the path, asked for once there is a place for it. A file is written beside it first, so that a broken
 * download never leaves half a file under its name; a pipe or device gets the bytes as they come.
 */
export async function writeLocal(path: string, openBody: () => Promise<Readable>): Promise<void> {
  const target = await targetOf(path);
  const partial = `${target.path}.${process.pid}.partial`;
  try {
    if (!target.isFile) {
      // Without O_CREAT: what is gone by now is not made a file of.
      const opened = await open(target.path, constants.O_WRONLY);
      await pipeline(await openBody(), opened.createWriteStream());
      return;
    }
    await pipeline(await openBody(), createWriteStream(partial, { flush: true }));
    if (target.mode !== null) await chmod(partial, target.mode);
    await rename(partial, target.path);
  } catch (error) {
    if (target.isFile) await rm(partial, { force: true });
    if (error instanceof TunesmithError) throw error;
    throw new Unavailable(
      `Could not write "${path}": ${messageOf(error)}. Check the folder and the free space.`,
      { cause: error },
    );
  }
}

function kindOf(found: Stats): string {
  if (found.isDirectory()) return "a folder";
  if (found.isCharacterDevice() || found.isBlockDevice()) return "a device";
  return found.isSocket() ? "a socket" : "something else";
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

// Bytes on the disk, one blob an id of a file or of an upload's part. A blob appears whole or not at all: written to a temporary file, flushed,
// renamed, and the rename flushed before its writer may name it in a row. It knows no database and no HTTP.
import { createHash, randomUUID } from "node:crypto";
import { mkdir, open, opendir, rename, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { InvalidRequest, isFullDisk, OutOfSpace, TunesmithError } from "../errors.ts";
import { isId } from "../wire/ids.ts";
import { shareFlush } from "./durable-dialect.ts";

export interface WrittenBlob {
  bytes: number;
  /** Lower-case hex. */
  sha256: string;
}

/** The part of a file handle that writing a blob needs. */
export interface BlobWriter {
  write(chunk: Uint8Array): Promise<unknown>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface BlobStoreOptions {
  directory: string;
  /** What the blobs are named by. */
  kind?: "file" | "uploadPart";
  /** Replaced by tests, whose disks are full when they want. */
  openWriter?: (path: string) => Promise<BlobWriter>;
}

/** A leftover younger than this may belong to another process that is writing it; older ones were left by a crash. */
const SWEEP_AGE_MS = 60 * 60 * 1000;
const TEMPORARY = ".part";

/** Blobs that a sweep asks about at once; between two such questions the event loop turns. */
const SWEEP_BATCH = 500;

/** What a client reads at once: at the default of 64 KiB, turns of the event loop would set the pace. */
const READ_CHUNK_BYTES = 512 * 1024;

export interface BlobLimit {
  maxBytes: number;
  /** The error for a client who sends more; left out: that of a file. */
  refuse?: (maxBytes: number) => Error;
}

export class BlobStore {
  readonly #directory: string;
  readonly #kind: "file" | "uploadPart";
  readonly #openWriter: (path: string) => Promise<BlobWriter>;
  /** Makes renames outlive a power cut; blobs that are written at a time share it. */
  readonly #flushFolder: () => Promise<void>;

  constructor(options: BlobStoreOptions) {
    this.#directory = options.directory;
    this.#kind = options.kind ?? "file";
    this.#openWriter = options.openWriter ?? openForWriting;
    this.#flushFolder = shareFlush(() => flushDirectory(options.directory));
  }

  /**
   * Writes a blob from a stream at the disk's pace, hashing as it goes; it outlives a power cut once this resolves. Throws InvalidRequest
   * beyond `maxBytes` and OutOfSpace when the disk is full; whatever goes wrong, nothing is left behind.
   */
  async write(id: string, source: AsyncIterable<Uint8Array>, limit: BlobLimit): Promise<WrittenBlob> {
    const target = this.path(id);
    const temporary = join(this.#directory, `${id}.${randomUUID()}${TEMPORARY}`);
    try {
      const writer = await this.#open(temporary);
      try {
        const written = await copy(source, writer, limit);
        await writer.sync();
        await rename(temporary, target);
        await this.#flushFolder();
        return written;
      } finally {
        await writer.close();
      }
    } catch (error) {
      await remove(temporary);
      await remove(target);
      if (isFullDisk(error)) {
        throw new OutOfSpace(
          `The disk that holds ${this.#directory} is full, so the file was not stored. Free some space and send it again.`,
          { cause: error },
        );
      }
      throw error;
    }
  }

  async #open(path: string): Promise<BlobWriter> {
    try {
      return await this.#openWriter(path);
    } catch (error) {
      if (!isMissing(error)) throw error;
      // The store's first blob.
      await mkdir(this.#directory, { recursive: true });
      await flushDirectory(dirname(this.#directory));
      return this.#openWriter(path);
    }
  }

  /** Where the blob of this id lies. Throws for anything that is no id of this store's kind, so no id can leave the folder. */
  path(id: string): string {
    if (!isId(this.#kind, id)) throw new Error(`internal: '${id}' is not a ${this.#kind} id`);
    return join(this.#directory, id);
  }

  /**
   * A stream of the whole blob, already open. The caller consumes or destroys it. Throws TunesmithError for one that is not there:
   * whoever asks has its row, so its bytes were lost.
   */
  async read(id: string): Promise<Readable> {
    const handle = await open(this.path(id), "r").catch((error: unknown) => {
      throw isMissing(error) ? contentLost(id, error) : error;
    });
    return handle.createReadStream({ highWaterMark: READ_CHUNK_BYTES });
  }

  /** Removes the blob; one that is already gone is no error. */
  async delete(id: string): Promise<void> {
    await remove(this.path(id));
  }

  /** Removes what crashes left: half-written blobs, and blobs that `liveAmong` does not know. Returns how many. */
  async sweep(
    liveAmong: (ids: readonly string[]) => Promise<ReadonlySet<string>>,
    now = Date.now(),
  ): Promise<number> {
    await mkdir(this.#directory, { recursive: true });
    let removed = 0;
    let ids: string[] = [];
    const sweepIds = async (): Promise<void> => {
      const live = await liveAmong(ids);
      removed += await this.#removeOld(
        ids.filter((id) => !live.has(id)),
        now,
      );
      ids = [];
      // The database answers without a turn of the event loop: thousands of questions in a row would hold up every request.
      await turn();
    };
    for await (const { name } of await opendir(this.#directory)) {
      if (name.endsWith(TEMPORARY)) removed += await this.#removeOld([name], now);
      else if (isId(this.#kind, name)) ids.push(name);
      if (ids.length === SWEEP_BATCH) await sweepIds();
    }
    await sweepIds();
    return removed;
  }

  /** Removes those of the files that nobody can be writing any more; returns how many. */
  async #removeOld(names: readonly string[], now: number): Promise<number> {
    let removed = 0;
    for (const name of names) {
      const path = join(this.#directory, name);
      const age = await stat(path).then(
        ({ mtimeMs }) => now - mtimeMs,
        () => 0, // another process has removed it meanwhile
      );
      if (age < SWEEP_AGE_MS) continue;
      await remove(path);
      removed += 1;
    }
    return removed;
  }
}

/** Throws what `limit` says for a source with more. */
async function copy(
  source: AsyncIterable<Uint8Array>,
  writer: BlobWriter,
  { maxBytes, refuse = fileTooLarge }: BlobLimit,
): Promise<WrittenBlob> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw refuse(maxBytes);
    hash.update(chunk);
    await writer.write(chunk);
  }
  return { bytes, sha256: hash.digest("hex") };
}

function contentLost(id: string, cause: unknown): TunesmithError {
  return new TunesmithError(
    `The content of ${id} is not on the server's disk any more, though nobody has deleted it here. Upload it again, or have it put back from a copy.`,
    { code: "content_lost", cause },
  );
}

function fileTooLarge(maxBytes: number): InvalidRequest {
  return new InvalidRequest(
    `File is too large: expected at most ${maxBytes} bytes (${Math.floor(maxBytes / 2 ** 20)} MB). Send it in parts: POST /v1/uploads.`,
    { param: "file", code: FILE_TOO_LARGE },
  );
}

/** The code that api/app.ts answers with 413. */
export const FILE_TOO_LARGE = "file_too_large";

/** "wx": two writers can never share a temporary file. */
async function openForWriting(path: string): Promise<BlobWriter> {
  const handle = await open(path, "wx");
  return {
    // writeFile at the handle's position goes on until all bytes are written; write may stop half-way.
    write: (chunk) => handle.writeFile(chunk),
    sync: () => handle.sync(),
    close: () => handle.close(),
  };
}

/** Unlike rm, it does not look at the file first. */
async function remove(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

const isMissing = (error: unknown) => error instanceof Error && "code" in error && error.code === "ENOENT";

/** Makes a folder's entries themselves outlive a power cut. Windows cannot open folders and does not need to. */
async function flushDirectory(directory: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

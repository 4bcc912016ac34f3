// An export or an import as a tar archive, streamed both ways. What comes out of an archive is trusted with nothing: plain files with
// plain names, in one new folder.
import { createReadStream, createWriteStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { createTarDecoder, createTarPacker } from "modern-tar";
import { Cancelled, isFullDisk, messageOf, OutOfSpace, TunesmithError, Unavailable } from "../errors.ts";
import { CERTIFICATE_FILE, EXPORTED_FILE_NAME } from "../wire/export.ts";

/** Files of one archive: a model of a thousand shards of 4 GB is larger than any disk this runs on. */
const MAX_ARCHIVE_FILES = 1_000;

/** The folder's files as a tar archive, the certificate last, read as fast as the other end takes it. */
export function packFolder(directory: string): Readable {
  return packFiles(async () => {
    const names = (await readdir(directory)).sort();
    const last = names.filter((name) => name === CERTIFICATE_FILE);
    return [...names.filter((each) => each !== CERTIFICATE_FILE), ...last].map((name) => ({
      name,
      path: join(directory, name),
    }));
  });
}

/** The files as a tar archive in which they have these names. */
export function packFiles(filesOf: () => Promise<{ name: string; path: string }[]>): Readable {
  const { readable, controller } = createTarPacker();
  const fill = async (): Promise<void> => {
    for (const { name, path } of await filesOf()) {
      const { size } = await stat(path);
      // Nothing of this machine: the same files make the same archive.
      const entry = controller.add({ name, size, mode: 0o644, mtime: new Date(0), uid: 0, gid: 0 });
      await feed(createReadStream(path, { highWaterMark: 1 << 18 }), entry);
    }
    controller.finalize();
  };
  fill().catch((error: unknown) => controller.error(error));
  return Readable.fromWeb(readable as ReadableStream);
}

/** Writes all of one into the other. By hand: the adapter of Node that does it throws, caught by nobody, when it is stopped between two chunks. */
async function feed(from: Readable, to: WritableStream<Uint8Array>): Promise<void> {
  const writer = to.getWriter();
  // Its rejection is that of the write that fails.
  writer.closed.catch(() => undefined);
  try {
    for await (const chunk of from) await writer.write(chunk as Uint8Array);
    await writer.close();
  } catch (error) {
    from.destroy();
    await writer.abort(error).catch(() => undefined);
    throw error;
  }
}

export interface UnpackOptions {
  signal?: AbortSignal | undefined;
  /** The error for an archive that cannot be taken; Unavailable, with the advice to export again, unless it says otherwise. */
  refuse?: ((problem: string, cause?: unknown) => TunesmithError) | undefined;
}

/**
 * Writes the archive's files into an existing empty folder, flushed. Throws what `refuse` makes of an archive that is cut off, damaged,
 * or holds anything but plain files with plain names, OutOfSpace, and what the archive's stream throws of the project's own errors;
 * the folder may then hold a part of it.
 */
export async function unpackInto(
  directory: string,
  archive: Readable,
  { signal, refuse = damaged }: UnpackOptions = {},
): Promise<void> {
  const decoder = createTarDecoder({ strict: true });
  const names = new Set<string>();
  const stop = (): void => void archive.destroy(new Cancelled());
  signal?.addEventListener("abort", stop);
  const feeding = feed(archive, decoder.writable);
  // Told of below, where the reading ends.
  feeding.catch(() => undefined);
  try {
    for await (const { header, body } of decoder.readable) {
      const { name, type = "file" } = header;
      const shown = JSON.stringify(name.slice(0, 200));
      if (type !== "file" || !EXPORTED_FILE_NAME.test(name))
        throw refuse(`it holds ${shown} (${type}), expected plain files with plain names`);
      // Some disks take names that differ in case only for one.
      if (names.has(name.toLowerCase())) throw refuse(`it holds ${shown} twice`);
      if (names.size === MAX_ARCHIVE_FILES) throw refuse(`it holds more than ${MAX_ARCHIVE_FILES} files`);
      names.add(name.toLowerCase());
      await pipeline(
        Readable.fromWeb(body as ReadableStream),
        createWriteStream(join(directory, name), { flags: "wx", flush: true }),
      );
    }
    await feeding;
  } catch (error) {
    archive.destroy();
    if (error instanceof TunesmithError || signal?.aborted) throw error;
    if (isFullDisk(error))
      throw new OutOfSpace("The disk is full: the archive could not be unpacked. Free some space.", {
        code: "out_of_space",
        cause: error,
      });
    throw refuse(messageOf(error), error);
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

function damaged(problem: string, cause?: unknown): Unavailable {
  return new Unavailable(`The archive cannot be taken: ${problem}. Export the model again.`, { cause });
}

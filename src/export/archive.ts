// An export as a tar archive, streamed both ways. What comes out of an archive is trusted with nothing: plain files with plain names,
// in one new folder.
import { createReadStream, createWriteStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { createTarDecoder, createTarPacker } from "modern-tar";
import { messageOf, Unavailable } from "../errors.ts";
import { CERTIFICATE_FILE, EXPORTED_FILE_NAME } from "../wire/export.ts";

/** Files of one archive: a model of a thousand shards of 4 GB is larger than any disk this runs on. */
const MAX_ARCHIVE_FILES = 1_000;

/** The folder's files as a tar archive, the certificate last, read as fast as the other end takes it. */
export function packFolder(directory: string): Readable {
  const { readable, controller } = createTarPacker();
  const fill = async (): Promise<void> => {
    const names = (await readdir(directory)).sort();
    const last = names.filter((name) => name === CERTIFICATE_FILE);
    for (const name of [...names.filter((each) => each !== CERTIFICATE_FILE), ...last]) {
      const path = join(directory, name);
      const { size } = await stat(path);
      // Nothing of this machine: the same files make the same archive.
      const entry = controller.add({ name, size, mode: 0o644, mtime: new Date(0), uid: 0, gid: 0 });
      await Readable.toWeb(createReadStream(path, { highWaterMark: 1 << 18 })).pipeTo(entry);
    }
    controller.finalize();
  };
  fill().catch((error: unknown) => controller.error(error));
  return Readable.fromWeb(readable as ReadableStream);
}

/**
 * Writes the archive's files into an existing empty folder, flushed. Throws Unavailable for an archive that is cut off, damaged, or
 * holds anything but plain files with plain names; the folder may then hold a part of it.
 */
export async function unpackInto(directory: string, archive: Readable, signal?: AbortSignal): Promise<void> {
  const decoder = createTarDecoder({ strict: true });
  const names = new Set<string>();
  const feeding = Readable.toWeb(archive).pipeTo(decoder.writable, signal === undefined ? {} : { signal });
  // Told of below, where the reading ends.
  feeding.catch(() => undefined);
  try {
    for await (const { header, body } of decoder.readable) {
      const { name, type = "file" } = header;
      const shown = JSON.stringify(name.slice(0, 200));
      if (type !== "file" || !EXPORTED_FILE_NAME.test(name))
        throw damaged(`it holds ${shown} (${type}), expected plain files with plain names`);
      if (names.has(name)) throw damaged(`it holds ${shown} twice`);
      if (names.size === MAX_ARCHIVE_FILES) throw damaged(`it holds more than ${MAX_ARCHIVE_FILES} files`);
      names.add(name);
      await pipeline(
        Readable.fromWeb(body as ReadableStream),
        createWriteStream(join(directory, name), { flags: "wx", flush: true }),
      );
    }
    await feeding;
  } catch (error) {
    archive.destroy();
    if (error instanceof Unavailable || signal?.aborted) throw error;
    throw damaged(messageOf(error), error);
  }
}

function damaged(problem: string, cause?: unknown): Unavailable {
  return new Unavailable(`The archive cannot be taken: ${problem}. Export the model again.`, { cause });
}

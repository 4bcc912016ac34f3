// Folders and files as the tar archives that imports are sent as.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { packTar } from "modern-tar";
import { packFolder } from "../../src/export/archive.ts";

/** The folder as an export sends it. */
export async function packed(directory: string): Promise<Buffer> {
  return Buffer.concat((await packFolder(directory).toArray()) as Buffer[]);
}

export type Entries = Parameters<typeof packTar>[0];

/** An archive of any entries, right or wrong. */
export async function archiveOf(entries: Entries): Promise<Buffer> {
  return Buffer.from(await packTar(entries));
}

/** The entries of an archive of a folder, to be changed. */
export async function entriesOf(directory: string): Promise<Entries[number][]> {
  const names = (await readdir(directory)).sort();
  return Promise.all(
    names.map(async (name) => {
      const body = await readFile(join(directory, name));
      return { header: { name, size: body.length }, body };
    }),
  );
}

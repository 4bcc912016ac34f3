// Blobs on the disk: whole or not at all, inside their folder, swept when nobody knows them.
import { createHash } from "node:crypto";
import { mkdtemp, open, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test, vi } from "vitest";
import { newId } from "../wire/ids.ts";
import { BlobStore } from "./blobs.ts";

async function newStore(): Promise<{ blobs: BlobStore; directory: string }> {
  const directory = await mkdtemp(join(tmpdir(), "tunesmith-blobs-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return { blobs: new BlobStore({ directory }), directory };
}

async function* chunks(...texts: string[]): AsyncGenerator<Uint8Array> {
  for (const each of texts) yield Buffer.from(each);
}

test("a blob comes back as it was written, with its size and hash", async () => {
  const { blobs } = await newStore();
  const id = newId("file");
  const sha256 = createHash("sha256").update("abcd").digest("hex");
  expect(await blobs.write(id, chunks("ab", "", "cd"), { maxBytes: 4 })).toEqual({ bytes: 4, sha256 });
  expect(await text(await blobs.read(id))).toBe("abcd");
  await blobs.delete(id);
  await blobs.delete(id);
  await expect(blobs.read(id)).rejects.toThrow(
    `The content of ${id} is not on the server's disk any more, though nobody has deleted it here. Upload it again, or have it put back from a copy.`,
  );
});

test("a source that fails, or gives too much, leaves nothing", async () => {
  const { blobs, directory } = await newStore();
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield Buffer.from("ab");
    throw new Error("broke off");
  }
  await expect(blobs.write(newId("file"), failing(), { maxBytes: 9 })).rejects.toThrow("broke off");
  await expect(blobs.write(newId("file"), chunks("abc", "de"), { maxBytes: 4 })).rejects.toThrow(
    "File is too large: expected at most 4 bytes",
  );
  expect(await readdir(directory)).toEqual([]);
});

test("a blob is not written before the disk has it; where the disk fails, nothing is left", async () => {
  const { directory } = await newStore();
  const folder = join(directory, "made", "by the first blob");
  const ends: ((error?: Error) => void)[] = [];
  const openWriter = async (path: string) => {
    const handle = await open(path, "wx");
    const sync = () =>
      new Promise<void>((resolve, reject) => {
        ends.push((error) => (error === undefined ? resolve() : reject(error)));
      });
    return { write: (chunk: Uint8Array) => handle.writeFile(chunk), sync, close: () => handle.close() };
  };
  const blobs = new BlobStore({ directory: folder, openWriter });
  const [kept, lost] = [newId("file"), newId("file")];
  const told: string[] = [];
  const keeping = blobs.write(kept, chunks("x"), { maxBytes: 1 }).then(() => told.push("kept"));
  await vi.waitFor(() => expect(ends).toHaveLength(1));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(told).toEqual([]);
  ends[0]?.();
  await keeping;
  const losing = blobs.write(lost, chunks("x"), { maxBytes: 1 });
  await vi.waitFor(() => expect(ends).toHaveLength(2));
  ends[1]?.(new Error("EIO"));
  await expect(losing).rejects.toThrow("EIO");
  expect(await readdir(folder)).toEqual([kept]);
});

test.each(["../../etc/passwd", "file-../../../../x", "", "file-", "file-0000000000000000000000"])(
  "the id '%s' never becomes a path",
  async (id) => {
    const { blobs } = await newStore();
    expect(() => blobs.path(id)).toThrow("is not a file id");
  },
);

test("a sweep removes old leftovers and old unknown blobs, and nothing else", async () => {
  const { blobs, directory } = await newStore();
  const [live, dead, fresh] = [newId("file"), newId("file"), newId("file")];
  for (const id of [live, dead, fresh]) await blobs.write(id, chunks("x"), { maxBytes: 1 });
  await writeFile(join(directory, `${newId("file")}.0.part`), "x");
  await writeFile(join(directory, "a-stranger"), "x");
  const yesterday = Date.now() / 1000 - 86_400;
  for (const name of await readdir(directory)) {
    if (name !== fresh) await utimes(join(directory, name), yesterday, yesterday);
  }
  expect(await blobs.sweep(async () => new Set([live]))).toBe(2);
  expect((await readdir(directory)).sort()).toEqual(["a-stranger", live, fresh].sort());
});

// Blobs on the disk: whole or not at all, inside their folder, swept when nobody knows them.
import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test } from "vitest";
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

import { mkdtemp, readFile, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Cancelled } from "../errors.ts";
import { withFileLock } from "./file-lock.ts";

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "lock-"));
  path = join(folder, "lock");
});
afterAll(() => rm(folder, { recursive: true }));

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test("one at a time, each in its turn, and the lock is gone afterwards", async () => {
  let inside = 0;
  let most = 0;
  let waits = 0;
  const work = async (value: number) => {
    most = Math.max(most, ++inside);
    await pause(20);
    inside--;
    return value;
  };
  const all = [1, 2, 3].map((value) => withFileLock(path, () => work(value), { onWait: () => waits++ }));
  expect(await Promise.all(all)).toEqual([1, 2, 3]);
  expect(most).toBe(1);
  expect(waits).toBe(2);
  expect(await readdir(folder)).toEqual([]);
});

test("the lock is given back when the work fails", async () => {
  await expect(withFileLock(path, () => Promise.reject(new Error("no")))).rejects.toThrow("no");
  expect(await withFileLock(path, async () => 1)).toBe(1);
});

test("a dead process's lock is taken over by one of those who wait", async () => {
  await writeFile(path, "dead");
  const longAgo = new Date(Date.now() - 60_000);
  await utimes(path, longAgo, longAgo);
  let inside = 0;
  const work = async () => {
    expect(++inside).toBe(1);
    await pause(20);
    inside--;
  };
  await Promise.all([withFileLock(path, work), withFileLock(path, work), withFileLock(path, work)]);
  expect(await readdir(folder)).toEqual([]);
});

test("a living process's lock is left alone; waiting ends when the signal aborts", async () => {
  await writeFile(path, "alive");
  const signal = AbortSignal.timeout(50);
  await expect(withFileLock(path, async () => 1, { signal })).rejects.toThrow(Cancelled);
  expect(await readFile(path, "utf8")).toBe("alive");
  await rm(path);
});

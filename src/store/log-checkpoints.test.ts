// The write-ahead log: moved into the database in a thread, and never longer than its bound.
import { copyFile, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { NO_FLUSH, openDatabase } from "./database.ts";
import { createFlush } from "./durable-dialect.ts";
import { LogCheckpoints, MAX_LOG_PAGES } from "./log-checkpoints.ts";
import { WebhookStore } from "./webhooks.ts";

async function newFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "tunesmith-log-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

const webhook = (url: string) => ({ url, eventTypes: [] });

test("what was written is soon in the database file itself, time and again", async () => {
  const folder = await newFolder();
  const path = join(folder, "a.db");
  const database = await openDatabase(path, createFlush(path, new LogCheckpoints(path, 5)));
  onTestFinished(() => database.destroy());
  const webhooks = new WebhookStore(database);
  for (const count of [1, 2, 3]) {
    await webhooks.create("p", webhook(`http://${count}`));
    await vi.waitFor(async () => {
      const copy = join(folder, `without-log-${count}.db`);
      await copyFile(path, copy);
      const alone = await openDatabase(copy, NO_FLUSH);
      const there = await new WebhookStore(alone).list("p");
      await alone.destroy();
      await Promise.all(["", "-wal", "-shm"].map((end) => rm(`${copy}${end}`, { force: true })));
      expect(there).toHaveLength(count);
    }, 5_000);
  }
});

test("a log that no thread moves begins anew at its bound", async () => {
  const folder = await newFolder();
  const path = join(folder, "a.db");
  const database = await openDatabase(path, NO_FLUSH);
  onTestFinished(() => database.destroy());
  const webhooks = new WebhookStore(database);
  const { id } = await webhooks.create("p", webhook("http://a"));
  const pageBytes = 4096;
  // Two and a half times the bound. Another text each time: pages that stay as they are would not be written.
  for (let chunk = 0; chunk < (2.5 * MAX_LOG_PAGES) / 256; chunk++) {
    const url = String(chunk % 10).repeat(256 * pageBytes);
    await database.updateTable("webhooks").set({ url }).where("id", "=", id).execute();
  }
  const { size } = await stat(`${path}-wal`);
  expect(size / pageBytes).toBeGreaterThan(MAX_LOG_PAGES / 2);
  expect(size / pageBytes).toBeLessThan(MAX_LOG_PAGES * 1.2);
});

test("closing waits for a checkpoint at work, and for none that was to come", async () => {
  const path = join(await newFolder(), "a.db");
  const database = await openDatabase(path, createFlush(path, new LogCheckpoints(path, 60_000)));
  await new WebhookStore(database).create("p", webhook("http://a"));
  await database.destroy();
  const again = await openDatabase(path);
  expect(await new WebhookStore(again).list("p")).toHaveLength(1);
  await again.destroy();
});

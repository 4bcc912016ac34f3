// Writes that last: none is answered before a flush that began after it, and those that come together share one.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sql } from "kysely";
import { expect, onTestFinished, test } from "vitest";
import { OutOfSpace } from "../errors.ts";
import { openDatabase } from "./database.ts";
import { shareFlush, stopAtFailure } from "./durable-dialect.ts";
import { WebhookStore } from "./webhooks.ts";

const webhook = (url: string) => ({ url, eventTypes: [] });

async function openWith(flush: () => Promise<void>) {
  const directory = await mkdtemp(join(tmpdir(), "tunesmith-durable-"));
  const closable = Object.assign(flush, { close: async () => {} });
  const database = await openDatabase(join(directory, "a.db"), closable);
  onTestFinished(async () => {
    await database.destroy();
    await rm(directory, { recursive: true, force: true });
  });
  return database;
}

test("a write waits for its flush, a read for none, not even while one runs", async () => {
  let release = () => {};
  let flushes = 0;
  const database = await openWith(() => {
    flushes += 1;
    return new Promise((resolve) => (release = resolve));
  });
  const webhooks = new WebhookStore(database);
  let isAnswered = false;
  const writing = webhooks.create("p", webhook("http://a")).then(() => (isAnswered = true));
  expect(await webhooks.list("p").then((all) => all.map(({ url }) => url))).toEqual(["http://a"]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect([isAnswered, flushes]).toEqual([false, 1]);
  release();
  await writing;
  await webhooks.list("p");
  expect(flushes).toBe(1);
});

test("a write whose flush fails is not answered as done", async () => {
  const database = await openWith(() => Promise.reject(new Error("EIO")));
  await expect(new WebhookStore(database).create("p", webhook("http://a"))).rejects.toThrow("EIO");
});

test("calls during a flush share the next one, which begins after them; one failure does not stop the next", async () => {
  const begun: string[] = [];
  const releases: ((error?: Error) => void)[] = [];
  const flush = shareFlush(() => {
    begun.push(`flush ${releases.length + 1}`);
    return new Promise((resolve, reject) =>
      releases.push((error) => (error === undefined ? resolve() : reject(error))),
    );
  });
  const first = flush();
  await Promise.resolve().then(() => undefined);
  await new Promise((resolve) => setImmediate(resolve));
  const second = flush();
  const third = flush();
  expect(third).toBe(second);
  expect(begun).toEqual(["flush 1"]);
  releases[0]?.(new Error("EIO"));
  await expect(first).rejects.toThrow("EIO");
  await new Promise((resolve) => setImmediate(resolve));
  expect(begun).toEqual(["flush 1", "flush 2"]);
  releases[1]?.();
  await Promise.all([second, third]);
});

test("a disk that failed once is not believed again; a lack of file handles passes", async () => {
  const told = ["open", "ok", "EIO", "ok"];
  const flush = stopAtFailure(async () => {
    const next = told.shift();
    if (next === "open") throw new Error("EMFILE");
    return async () => {
      if (next === "EIO") throw new Error(next);
    };
  });
  await expect(flush()).rejects.toThrow("EMFILE");
  await flush();
  await expect(flush()).rejects.toThrow("look at the disk");
  await expect(flush()).rejects.toThrow("look at the disk");
  expect(told).toEqual(["ok"]);
});

test("what was read after a failed flush is not told as safe", async () => {
  let isBroken = true;
  const database = await openWith(async () => {
    if (isBroken) throw new Error("EIO");
  });
  const webhooks = new WebhookStore(database);
  await expect(webhooks.create("p", webhook("http://a"))).rejects.toThrow("EIO");
  await expect(webhooks.list("p")).rejects.toThrow("EIO");
  isBroken = false;
  expect(await webhooks.list("p")).toHaveLength(1);
});

test("the log of a real database is flushed and closed", async () => {
  const directory = await mkdtemp(join(tmpdir(), "tunesmith-durable-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const database = await openDatabase(join(directory, "a.db"));
  await Promise.all(
    Array.from({ length: 9 }, (_, index) =>
      new WebhookStore(database).create("p", webhook(`http://${index}`)),
    ),
  );
  await database.destroy();
  const again = await openDatabase(join(directory, "a.db"));
  expect(await new WebhookStore(again).list("p")).toHaveLength(9);
  await again.destroy();
});

test("a full disk is told as one, in a transaction and outside, and the database goes on when there is room", async () => {
  const database = await openWith(async () => {});
  const webhooks = new WebhookStore(database);
  await webhooks.create("p", webhook("http://a"));
  const limitPages = (pages: number) => sql.raw(`PRAGMA max_page_count = ${pages}`).execute(database);
  // No less than the database has.
  await limitPages(1);
  const large = webhook(`http://${"x".repeat(100_000)}`);
  const writes = [
    () => webhooks.create("p", large),
    () => database.updateTable("webhooks").set({ url: large.url }).execute(),
    () =>
      database.transaction().execute((transaction) =>
        // SQLite ends the transaction with it.
        transaction.updateTable("webhooks").set({ url: large.url }).execute(),
      ),
  ];
  for (const write of writes) {
    const failure: unknown = await write().then(
      () => null,
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(OutOfSpace);
    expect(String(failure)).toContain("The server's disk is full: its database could not be written");
  }
  expect(await webhooks.list("p")).toHaveLength(1);
  await limitPages(100_000);
  await webhooks.create("p", large);
  expect(await webhooks.list("p")).toHaveLength(2);
});

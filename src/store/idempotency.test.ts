// The table of idempotency keys: what a claim finds, and its bounds.
import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openDatabase } from "./database.ts";
import type { Database } from "./database.ts";
import { IdempotencyStore, TooManyIdempotencyKeys } from "./idempotency.ts";

let database: Database;
let store: IdempotencyStore;
let now: number;

beforeEach(async () => {
  now = 1_800_000_000_000;
  database = await openDatabase(":memory:");
  store = new IdempotencyStore(database, () => now);
});
afterEach(() => database.destroy());

test("a claim is taken once, answered, and forgotten after a day", async () => {
  expect(await store.claim("p", "k", "f")).toEqual({ state: "claimed" });
  expect(await store.claim("p", "k", "f")).toEqual({ state: "running" });
  expect(await store.claim("p", "k", "g")).toEqual({ state: "different" });
  expect(await store.claim("q", "k", "g")).toEqual({ state: "claimed" });
  await store.answer("p", "k", { status: 201, body: "{}" });
  expect(await store.claim("p", "k", "f")).toEqual({
    state: "answered",
    answer: { status: 201, body: "{}" },
  });
  now += 86_400_000;
  expect(await store.claim("p", "k", "g")).toEqual({ state: "claimed" });
});

test("another process's claim without an answer is lost, and so is an answer that is too large", async () => {
  await store.claim("p", "k", "f");
  expect(await new IdempotencyStore(database, () => now).claim("p", "k", "f")).toEqual({ state: "lost" });
  await store.answer("p", "k", { status: 200, body: "x".repeat(128 * 1024 + 1) });
  expect(await store.claim("p", "k", "f")).toEqual({ state: "lost" });
  await store.release("p", "k");
  expect(await store.claim("p", "k", "f")).toEqual({ state: "claimed" });
});

test("a project has room for 100,000 keys, and none beyond is taken", async () => {
  await sql`WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 99999)
    INSERT INTO idempotency_keys (project_id, key, fingerprint, owner, created_at)
    SELECT 'p', 'k' || number, 'f', '', ${now / 1000} FROM numbers`.execute(database);
  expect(await store.claim("p", "last", "f")).toEqual({ state: "claimed" });
  const claim = store.claim("p", "beyond", "f");
  await expect(claim).rejects.toBeInstanceOf(TooManyIdempotencyKeys);
  await expect(claim).rejects.toThrow(
    "This project has used 100000 idempotency keys within 24 hours, the most that are kept. Nothing was created. Send the request without 'Idempotency-Key', or later.",
  );
  expect(await store.claim("q", "k", "f")).toEqual({ state: "claimed" });
  now += 86_400_000;
  expect(await store.claim("p", "beyond", "f")).toEqual({ state: "claimed" });
});

test("a claim does not count a project's keys again, and a full project gets room as soon as there is some", async () => {
  await sql`WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 99998)
    INSERT INTO idempotency_keys (project_id, key, fingerprint, owner, created_at)
    SELECT 'p', 'k' || number, 'f', '', ${now / 1000} FROM numbers`.execute(database);
  await store.claim("p", "one", "f");
  // Not seen: the count is the store's own from here on.
  await sql`DELETE FROM idempotency_keys WHERE key = 'k1'`.execute(database);
  expect(await store.claim("p", "two", "f")).toEqual({ state: "claimed" });
  await expect(store.claim("p", "three", "f")).rejects.toBeInstanceOf(TooManyIdempotencyKeys);
  now += 1000;
  expect(await store.claim("p", "three", "f")).toEqual({ state: "claimed" });
});

test("the sweep removes keys past their life and no others", async () => {
  await sql`WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 1200)
    INSERT INTO idempotency_keys (project_id, key, fingerprint, owner, created_at)
    SELECT 'p', 'k' || number, 'f', '', ${now / 1000} FROM numbers`.execute(database);
  now += 1000;
  await store.claim("p", "young", "f");
  now += 86_399_000;
  await store.sweep();
  const rows = await database.selectFrom("idempotencyKeys").select("key").execute();
  expect(rows).toEqual([{ key: "young" }]);
});

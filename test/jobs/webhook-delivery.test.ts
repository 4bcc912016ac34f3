// When deliveries are tried, how often, and that none is lost: with a clock that the tests turn and a sender that they hold.
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  createWebhookDelivery,
  MAX_DELIVERY_ATTEMPTS,
  retryDelayMs,
} from "../../src/jobs/webhook-delivery.ts";
import { createWebhookSender, type SendWebhook } from "../../src/jobs/webhook-request.ts";
import { SYSTEM_CLOCK, type Clock, type Worker } from "../../src/jobs/worker.ts";
import { openDatabase, type Database } from "../../src/store/database.ts";
import { queueWebhookEvent, WebhookStore } from "../../src/store/webhooks.ts";
import { recordingLogger, until } from "./workbench.ts";

let database: Database;
let webhooks: WebhookStore;
let nowMs: number;
let logger: ReturnType<typeof recordingLogger>;
const workers: Worker[] = [];

const clock: Clock = {
  now: () => nowMs,
  delay: (milliseconds, signal) => SYSTEM_CLOCK.delay(milliseconds / 100, signal),
};

beforeEach(async () => {
  nowMs = 1_700_000_000_000;
  database = await openDatabase(":memory:");
  webhooks = new WebhookStore(database, () => nowMs);
  logger = recordingLogger();
});
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
  await database.destroy();
});

function start(send: SendWebhook): Worker {
  const worker = createWebhookDelivery({ webhooks, send, logger, clock, random: () => 0.5 });
  worker.start();
  workers.push(worker);
  return worker;
}

const register = (projectId = "proj_a") =>
  webhooks.create(projectId, { url: "https://example.com/", eventTypes: ["batch.completed"] });

const tell = (objectId: string, projectId = "proj_a") =>
  database
    .transaction()
    .execute((transaction) =>
      queueWebhookEvent(transaction, { projectId, type: "batch.completed", objectId }, nowMs),
    );

const pending = () => database.selectFrom("webhookDeliveries").selectAll().execute();

test("pauses grow to half a day, with jitter, and reach over three days", () => {
  const pauses = Array.from({ length: MAX_DELIVERY_ATTEMPTS - 1 }, (_, i) => retryDelayMs(i + 1, 0.5));
  expect(pauses.slice(0, 4)).toEqual([5_000, 20_000, 80_000, 320_000]);
  expect(Math.max(...pauses)).toBe(12 * 3_600_000);
  const total = pauses.reduce((sum, one) => sum + one, 0);
  expect(total / 3_600_000).toBeGreaterThan(55);
  expect(total / 3_600_000).toBeLessThan(80);
  expect(retryDelayMs(1, 0)).toBe(4_500);
  expect(retryDelayMs(1, 1)).toBe(5_500);
});

test("an event goes to the webhooks of its project only, once", async () => {
  await register();
  await register("proj_b");
  const sent: string[] = [];
  start(async ({ body }) => {
    sent.push((JSON.parse(body) as { data: { id: string } }).data.id);
    return 200;
  });
  await tell("batch_1");
  await until("it is gone", async () => (await pending()).length === 0);
  expect(sent).toEqual(["batch_1"]);
});

test("a transaction that is rolled back tells nobody", async () => {
  await register();
  const failing = database.transaction().execute(async (transaction) => {
    await queueWebhookEvent(
      transaction,
      { projectId: "proj_a", type: "batch.completed", objectId: "b" },
      nowMs,
    );
    throw new Error("no");
  });
  await expect(failing).rejects.toThrow("no");
  expect(await pending()).toEqual([]);
});

test("it is given up after the last attempt, and the log says why", async () => {
  await register();
  await tell("batch_1");
  const ids = new Set<string>();
  let attempts = 0;
  start(async ({ id }) => {
    ids.add(id);
    attempts += 1;
    return 500;
  });
  for (let i = 1; i <= MAX_DELIVERY_ATTEMPTS; i += 1) {
    await until(`attempt ${i}`, () => attempts === i);
    nowMs += 24 * 3_600_000;
  }
  await until("it is given up", async () => (await pending()).length === 0);
  expect(ids.size).toBe(1);
  expect(logger.lines.at(-1)).toContain("A webhook was given up.");
  expect(logger.lines.at(-1)).toContain("it answered 500");
  expect(logger.lines.join()).not.toContain("whsec_");
});

test("a sender that was killed in the middle has lost nothing: it comes up again, under the same id", async () => {
  await register();
  await tell("batch_1");
  const [taken] = await webhooks.takeDue(10, nowMs + 60_000);
  // Killed here. Until its time has come nobody else takes it.
  expect(await webhooks.takeDue(10, nowMs + 60_000)).toEqual([]);
  nowMs += 60_000;
  expect(await webhooks.takeDue(10, nowMs + 60_000)).toEqual([{ ...taken, attempts: 2 }]);
});

test("an orderly stop in the middle of an attempt leaves it due at once", async () => {
  await register();
  await tell("batch_1");
  let sending = false;
  const worker = start(
    (_delivery, _at, signal) =>
      new Promise((_resolve, reject) => {
        sending = true;
        signal.addEventListener("abort", () => reject(new Error("aborted")));
      }),
  );
  await until("it is being sent", () => sending);
  await worker.stop();
  expect(await webhooks.takeDue(1, nowMs)).toHaveLength(1);
});

test("a receiver that never answers is left after a while, and does not hold up the others", async () => {
  await register();
  await tell("slow");
  let quick = 0;
  start((delivery, _at, signal) => {
    if (!delivery.body.includes("slow")) {
      quick += 1;
      return Promise.resolve(200);
    }
    return new Promise((_resolve, reject) =>
      signal.addEventListener("abort", () => reject(new Error("aborted"))),
    );
  });
  await tell("quick");
  await until("the quick one is sent", () => quick === 1);
  await until("the slow one is put off", () =>
    logger.lines.some((line) => line.includes("no answer within 15")),
  );
  expect(await pending()).toMatchObject([{ attempts: 1, nextAttemptAtMs: nowMs + 5_000 }]);
});

test("a deleted webhook takes its deliveries with it; a receiver that is down cannot fill the disk", async () => {
  const { id } = await register();
  await tell("batch_1");
  const [one] = await pending();
  if (one === undefined) throw new Error("nothing is pending");
  const { sequence: _sequence, ...row } = one;
  for (let i = 0; i < 9_999; i += 1) {
    await database
      .insertInto("webhookDeliveries")
      .values({ ...row, id: `wh_${i}` })
      .execute();
  }
  await tell("batch_2");
  expect(await pending()).toHaveLength(10_000);
  expect(await webhooks.delete("proj_b", id)).toBe(false);
  expect(await webhooks.delete("proj_a", id)).toBe(true);
  expect(await pending()).toEqual([]);
});

test("a name that leads into a private network is refused when it is resolved", async () => {
  const send = createWebhookSender([]);
  const delivery = { id: "wh_1", secret: "whsec_AAAA", body: "{}", attempts: 1 };
  const signal = new AbortController().signal;
  await expect(send({ ...delivery, url: "https://localhost:9/" }, nowMs, signal)).rejects.toThrow(
    "The address is not allowed: localhost is no public address",
  );
  await expect(send({ ...delivery, url: "http://127.0.0.1:9/" }, nowMs, signal)).rejects.toThrow(
    "The address is not allowed: expected an https address",
  );
});

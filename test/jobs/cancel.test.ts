// A cancelled job stops whatever it was doing, and stays cancelled.
import { readdirSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { SYSTEM_CLOCK } from "../../src/jobs/worker.ts";
import { isAlive, openWorkbench, until, type Workbench } from "./workbench.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";

let bench: Workbench;
afterEach(() => bench.close());

const CANCELLED = { message: "The job was cancelled" };

test("while it waits behind another job", async () => {
  bench = await openWorkbench();
  const running = await bench.create({ instructions: { stepMs: 30 } });
  const waiting = await bench.create();
  bench.worker().start();
  await until("the first runs", async () => (await bench.status(running)) === "running");
  await bench.jobs.cancel(DEFAULT_PROJECT, waiting.id, CANCELLED);
  await until("the first has succeeded", async () => (await bench.status(running)) === "succeeded");
  expect(await bench.status(waiting)).toBe("cancelled");
  expect(bench.lives(waiting)).toEqual([]);
});

test("while its files are validated", async () => {
  let isJudging = false;
  let sawAbort = false;
  bench = await openWorkbench({
    dependencies: {
      judgeData: async ({ signal }) => {
        isJudging = true;
        await SYSTEM_CLOCK.delay(20_000, signal);
        sawAbort = signal.aborted;
        return { examples: 10, warnings: [] };
      },
    },
  });
  const job = await bench.create();
  const worker = bench.worker();
  worker.start();
  await until("the worker looks at its data", () => isJudging);
  await bench.jobs.cancel(DEFAULT_PROJECT, job.id, CANCELLED);
  worker.wake();
  await until("validation was told to stop", () => sawAbort);
  await worker.stop();
  expect(await bench.status(job)).toBe("cancelled");
  expect(await bench.messages(job)).toEqual([
    `Created fine-tuning job: ${job.id}`,
    `Validating training file: ${job.trainingFileId}`,
    "The job was cancelled",
  ]);
});

test("while it is queued and its base model is fetched", async () => {
  let fetching = false;
  bench = await openWorkbench({
    dependencies: {
      resolveBaseModel: async (_id, signal) => {
        fetching = true;
        await SYSTEM_CLOCK.delay(20_000, signal);
        return { path: "/models/x", sha256: "" };
      },
    },
  });
  const job = await bench.create();
  const worker = bench.worker();
  worker.start();
  await until("the model is fetched", () => fetching);
  expect(await bench.status(job)).toBe("queued");
  await bench.jobs.cancel(DEFAULT_PROJECT, job.id, CANCELLED);
  worker.wake();
  await worker.stop();
  expect(await bench.status(job)).toBe("cancelled");
  expect(bench.lives(job)).toEqual([]);
});

test("while it trains: the trainer ends, the events stay", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { hangAt: 3 } });
  const worker = bench.worker();
  worker.start();
  const reported = async () => (await bench.messages(job)).some((message) => message.startsWith("Step 2/6"));
  await until("it has trained two steps", reported);
  const [pid = NaN] = bench.lives(job);
  expect(isAlive(pid)).toBe(true);
  await bench.jobs.cancel(DEFAULT_PROJECT, job.id, CANCELLED);
  worker.wake();
  await until("the trainer is gone", () => !isAlive(pid));
  await worker.stop();
  expect(await bench.status(job)).toBe("cancelled");
  expect(await bench.messages(job)).toContain("Step 2/6: training loss=1.00, full validation loss=2.00");
  expect((await bench.messages(job)).at(-1)).toBe("The job was cancelled");
  expect(bench.lives(job)).toHaveLength(1);
  const left = readdirSync(bench.directoryOf(job)).sort();
  expect(left).toEqual(
    ["checkpoints", "events.jsonl", "fake.json", "job.json", "lives.txt", "trainer.log"].sort(),
  );
});

test("also when nobody wakes the worker", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { hangAt: 1 } });
  bench.worker().start();
  await until("the trainer has started", () => bench.lives(job).length === 1);
  const [pid = NaN] = bench.lives(job);
  await bench.jobs.cancel(DEFAULT_PROJECT, job.id, CANCELLED);
  await until("the trainer is gone", () => !isAlive(pid));
});

test("a trainer deaf to SIGTERM is killed after the grace time", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { stubborn: true, stepMs: 200, steps: 100 } });
  const worker = bench.worker();
  worker.start();
  await until("it trains", async () => (await bench.messages(job)).length >= 5);
  const [pid = NaN] = bench.lives(job);
  await bench.jobs.cancel(DEFAULT_PROJECT, job.id, CANCELLED);
  worker.wake();
  await until("the trainer is gone", () => !isAlive(pid));
  expect(await bench.status(job)).toBe("cancelled");
});

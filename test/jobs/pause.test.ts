// A paused job stops with a checkpoint and lets the next one work; resumed, it goes on from there.
import { afterEach, expect, test } from "vitest";
import { InvalidRequest } from "../../src/errors.ts";
import { isAlive, openWorkbench, until, type Workbench } from "./workbench.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";

let bench: Workbench;
afterEach(() => bench.close());

const PAUSED = { message: "Fine-tuning job paused" };
const RESUMED = { message: "Fine-tuning job resumed" };

test("the trainer ends, the next job works, and the paused one goes on from its checkpoint", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { steps: 40, stepMs: 40 } });
  const next = await bench.create({ instructions: { steps: 2 } });
  const worker = bench.worker();
  worker.start();
  await until("some steps are done", async () => (await bench.messages(job)).length >= 7);
  const paused = await bench.jobs.pause(DEFAULT_PROJECT, job.id, PAUSED);
  expect(paused).toMatchObject({ status: "paused", estimatedFinish: null, finishedAt: null, attempts: 0 });
  worker.wake();
  await until("the next has succeeded", async () => (await bench.status(next)) === "succeeded");
  const [pid = NaN] = bench.lives(job);
  expect(isAlive(pid)).toBe(false);
  expect(await bench.status(job)).toBe("paused");
  expect((await bench.messages(job)).at(-1)).toBe("Fine-tuning job paused");

  expect(await bench.jobs.resume(DEFAULT_PROJECT, job.id, RESUMED)).toMatchObject({ status: "queued" });
  worker.wake();
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  expect(bench.lives(job)).toHaveLength(2);
  const messages = await bench.messages(job);
  // Steps reported while the pause took effect are there too, each once.
  expect(messages.filter((message) => message.startsWith("Step "))).toHaveLength(40);
  expect(messages.filter((message) => message === "Fine-tuning job started")).toHaveLength(1);
  const order = ["Fine-tuning job paused", "Fine-tuning job resumed"].map((one) => messages.indexOf(one));
  const resumedAt = messages.findIndex((one) => one.startsWith("Training resumed from the checkpoint at"));
  expect([...order, resumedAt]).toEqual([...order, resumedAt].sort((a, b) => a - b));
  expect(order[0]).toBeGreaterThan(0);
  expect(messages.some((message) => message.includes("unexpectedly"))).toBe(false);
}, 60_000);

test("resumed at once, while its trainer still stops, there is never more than one trainer", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { steps: 12, stepMs: 60 } });
  const worker = bench.worker();
  worker.start();
  await until("some steps are done", async () => (await bench.messages(job)).length >= 7);
  await bench.jobs.pause(DEFAULT_PROJECT, job.id, PAUSED);
  await bench.jobs.resume(DEFAULT_PROJECT, job.id, RESUMED);
  worker.wake();
  await until("a second trainer has started", () => bench.lives(job).length === 2);
  expect(isAlive(bench.lives(job)[0] ?? NaN)).toBe(false);
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  expect((await bench.messages(job)).filter((message) => message.startsWith("Step "))).toHaveLength(12);
});

test("pausing again and again does not count as crashing", async () => {
  bench = await openWorkbench();
  const job = await bench.create();
  for (let time = 0; time < 25; time += 1) {
    const claimed = await bench.queue.claim("w", Date.now() + 1e9);
    const lease = { jobId: job.id, owner: "w" };
    await bench.queue.moveTo(lease, { from: ["validating_files", "queued"], to: "running" });
    expect(claimed?.attempts).toBe(1);
    await bench.jobs.pause(DEFAULT_PROJECT, job.id, PAUSED);
    expect(await bench.queue.heartbeat(job.id, "w", Date.now() + 1e9)).toBe("paused");
    await bench.jobs.resume(DEFAULT_PROJECT, job.id, RESUMED);
  }
});

test("only a running job can be paused, only a paused one resumed; a paused one can be cancelled", async () => {
  bench = await openWorkbench();
  const job = await bench.create();
  await expect(bench.jobs.pause(DEFAULT_PROJECT, job.id, PAUSED)).rejects.toThrow(
    new InvalidRequest(
      `Job ${job.id} has status 'validating_files' and cannot be paused: only a job with status 'running' can.`,
    ),
  );
  await expect(bench.jobs.resume(DEFAULT_PROJECT, job.id, RESUMED)).rejects.toThrow(
    new InvalidRequest(
      `Job ${job.id} has status 'validating_files' and cannot be resumed: only a job with status 'paused' can.`,
    ),
  );
  expect(await bench.jobs.pause(DEFAULT_PROJECT, "ftjob-none", PAUSED)).toBeNull();
  await bench.database.updateTable("fineTuningJobs").set({ status: "paused" }).execute();
  expect(await bench.queue.claim("w", Date.now() + 1e9)).toBeNull();
  expect(await bench.jobs.cancel(DEFAULT_PROJECT, job.id, { message: "x" })).toMatchObject({
    status: "cancelled",
  });
});

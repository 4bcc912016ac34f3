// A disk that fills up under a job: the job is paused, its owner reads why, and it goes on when there is room. The trainer's own
// writes are in test/e2e.
import { readdirSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { createSpaceWatch, SPARE_ROOM_BYTES } from "../../src/jobs/space-watch.ts";
import type { Worker } from "../../src/jobs/worker.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";
import { databaseDisk } from "../full-disk.ts";
import { FAST_CLOCK, openWorkbench, until, type Workbench } from "./workbench.ts";

let bench: Workbench;
let watch: Worker | null = null;
afterEach(async () => {
  await watch?.stop();
  watch = null;
  await bench.close();
});

const noSpace = () => Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
const RESUMED = "There is room on the disk again: fine-tuning job resumed";

/** A watch that believes in so much free space. */
function watchWith(free: { bytes: number }, worker: Worker): void {
  watch = createSpaceWatch({
    queue: bench.queue,
    homeDirectory: bench.home,
    onResumed: () => worker.wake(),
    logger: bench.logger,
    clock: FAST_CLOCK,
    freeBytes: async () => free.bytes,
  });
  watch.start();
}

test.each([
  {
    name: "says what did not fit",
    says: "The disk is full: checkpoints/step-4 could not be written.",
    message: () => "The disk is full: checkpoints/step-4 could not be written.",
  },
  {
    name: "has no room even for an event",
    says: undefined,
    message: (directory: string) =>
      `The disk that holds ${directory} is full, so that the trainer could not even report it; nothing half-written was left there. Free some space.`,
  },
])(
  "a trainer that $name: the job is paused, and goes on when there is room",
  async ({ says, message }) => {
    bench = await openWorkbench();
    const noRoomAt = { step: 4, lives: 1, ...(says === undefined ? {} : { says }) };
    const job = await bench.create({ instructions: { noRoomAt } });
    const worker = bench.worker();
    worker.start();
    const free = { bytes: SPARE_ROOM_BYTES };
    await until("the job is paused", async () => (await bench.status(job)) === "paused");
    const error = {
      code: "out_of_space",
      param: null,
      message: `${message(bench.directoryOf(job))} The job is paused and goes on by itself once there is room, about 68 MB; resuming it tries at once.`,
    };
    expect(await bench.read(job)).toMatchObject({
      error,
      attempts: 0,
      finishedAt: null,
      estimatedFinish: null,
    });
    expect((await bench.events(job)).at(-1)).toMatchObject({ level: "error", message: error.message });
    // One byte for each of a checkpoint's values is missing.
    watchWith(free, worker);
    for (let look = 0; look < 3; look += 1) await FAST_CLOCK.delay(30_000);
    expect(await bench.status(job)).toBe("paused");
    expect(bench.lives(job)).toHaveLength(1);

    free.bytes += 16;
    await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
    expect((await bench.read(job)).error).toBeNull();
    expect(bench.lives(job)).toHaveLength(2);
    const messages = await bench.messages(job);
    expect(messages.filter((one) => one === RESUMED)).toHaveLength(1);
    expect(messages.filter((one) => one.startsWith("Step "))).toHaveLength(6);
    expect(messages.some((one) => one.includes("unexpectedly"))).toBe(false);
  },
  60_000,
);

test("no room for the result file: no half of it, and once there is room the job ends without a new trainer", async () => {
  let full = false;
  bench = await openWorkbench({
    openBlobWriter: async (path) => {
      const handle = await open(path, "wx");
      return {
        write: (chunk) => (full ? Promise.reject(noSpace()) : handle.writeFile(chunk)),
        sync: () => handle.sync(),
        close: () => handle.close(),
      };
    },
  });
  const job = await bench.create({ instructions: { steps: 6, stepsPerEpoch: 2 } });
  const before = readdirSync(join(bench.home, "files"));
  full = true;
  const worker = bench.worker();
  worker.start();
  await until("the job is paused", async () => (await bench.status(job)) === "paused");
  expect((await bench.read(job)).error?.message).toMatch(
    /^The disk is full, so the result file of this job could not be stored\. Free some space\. The job is paused/,
  );
  expect(readdirSync(join(bench.home, "files"))).toEqual(before);
  expect(readdirSync(bench.directoryOf(job))).toContain("adapter");

  full = false;
  await bench.jobs.resume(DEFAULT_PROJECT, job.id, { message: "Fine-tuning job resumed" });
  worker.wake();
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  expect(await bench.read(job)).toMatchObject({ error: null, trainedTokens: 1234 });
  expect(bench.lives(job)).toHaveLength(1);
  expect((await bench.jobs.listCheckpoints(job.id, { limit: 10 })).data).toHaveLength(3);
});

test("a job that finds the disk full again and again asks for twice the room each time; resuming it forgets that", async () => {
  bench = await openWorkbench();
  const job = await bench.create();
  const error = (bytes: number) => ({ code: "out_of_space", param: null, message: `full: ${bytes}` });
  const pausedWith = async (neededBytes: number) => {
    const lease = { jobId: job.id, owner: "w" };
    await bench.queue.claim(lease.owner, Date.now() + 1e9);
    await bench.queue.moveTo(lease, { from: ["validating_files", "queued"], to: "running" });
    expect(await bench.queue.pauseForSpace(lease, neededBytes, error)).toBe(true);
    const waits = (await bench.queue.listWaitingForSpace())[0]?.neededBytes ?? NaN;
    expect((await bench.read(job)).error).toEqual(error(waits));
    return waits;
  };
  expect(await pausedWith(100)).toBe(100);
  expect(await bench.queue.resumeWithRoom(job.id, { message: RESUMED })).toBe(true);
  expect(await pausedWith(100)).toBe(200);
  expect(await bench.queue.resumeWithRoom(job.id, { message: RESUMED })).toBe(true);
  expect(await pausedWith(1000)).toBe(1000);
  await bench.jobs.resume(DEFAULT_PROJECT, job.id, { message: "resumed" });
  expect(await bench.queue.resumeWithRoom(job.id, { message: RESUMED })).toBe(false);
  expect(await pausedWith(100)).toBe(100);
  const cancelled = await bench.jobs.cancel(DEFAULT_PROJECT, job.id, { message: "cancelled" });
  expect(cancelled).toMatchObject({ status: "cancelled", error: null });
  expect(await bench.queue.listWaitingForSpace()).toEqual([]);
});

test("a job paused by its owner does not go on because there is room", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { hangAt: 2 } });
  const worker = bench.worker();
  worker.start();
  await until("it trains", async () => (await bench.status(job)) === "running");
  // Not even one that was once paused on a full disk.
  await bench.database.updateTable("fineTuningJobs").set({ waitsForBytes: 1 }).execute();
  await bench.jobs.pause(DEFAULT_PROJECT, job.id, { message: "Fine-tuning job paused" });
  watchWith({ bytes: 1e12 }, worker);
  for (let look = 0; look < 3; look += 1) await FAST_CLOCK.delay(30_000);
  expect(await bench.status(job)).toBe("paused");
});

test("no room even for the job's row: its trainer ends in order, and it goes on as soon as the row can be written", async () => {
  const disk = databaseDisk();
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { stepMs: 100 } });
  const worker = bench.worker();
  worker.start();
  await until(
    "it trains",
    async () => bench.lives(job).length === 1 && (await bench.status(job)) === "running",
  );
  disk.isFull = true;
  const stands = "The disk is full: a job stands still until its state can be written.";
  await until("the log says so", () => bench.logger.lines.some((line) => line.startsWith(stands)));
  // Whatever it does meanwhile, its row cannot say.
  for (let look = 0; look < 3; look += 1) await FAST_CLOCK.delay(30_000);
  expect(await bench.read(job)).toMatchObject({ status: "running", error: null });
  expect(bench.lives(job)).toHaveLength(1);
  disk.isFull = false;
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  expect(await bench.read(job)).toMatchObject({ error: null, attempts: 1 });
  expect(bench.lives(job)).toHaveLength(2);
  expect((await bench.messages(job)).filter((one) => one.startsWith("Step "))).toHaveLength(6);
});

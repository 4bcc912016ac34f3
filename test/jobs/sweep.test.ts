// A server that dies between a job's last status and its clean-up: the next start cleans up, and touches nothing else.
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import type { Job } from "../../src/store/fine-tuning-rows.ts";
import { openWorkbench, until, type Workbench } from "./workbench.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";

let bench: Workbench;
afterEach(() => bench.close());

const inDirectory = (job: Job, ...parts: string[]): string => join(bench.directoryOf(job), ...parts);

async function ended(job: Job): Promise<Job> {
  const worker = bench.worker();
  worker.start();
  await until("the job has ended", async () => ["succeeded", "failed"].includes(await bench.status(job)));
  await worker.stop();
  return bench.read(job);
}

/** Puts back what was there before the clean-up, as if the server had died before it. */
async function withoutCleanUp(job: Job): Promise<void> {
  await bench.database.updateTable("fineTuningJobs").set({ cleanedUp: 0 }).where("id", "=", job.id).execute();
  for (const name of ["training.jsonl", "validation.jsonl.part"]) writeFileSync(inDirectory(job, name), "x");
  for (const step of ["step-1", ".step-2.77-0123abcd.tmp"]) {
    mkdirSync(inDirectory(job, "checkpoints", step), { recursive: true });
    writeFileSync(inDirectory(job, "checkpoints", step, "optimizer.safetensors"), "x");
  }
  mkdirSync(inDirectory(job, ".adapter.77-0123abcd.tmp"));
}

const GONE = [
  ["training.jsonl"],
  ["validation.jsonl.part"],
  ["checkpoints", "step-1"],
  ["checkpoints", ".step-2.77-0123abcd.tmp"],
  [".adapter.77-0123abcd.tmp"],
];

test("a succeeded job loses its data and keeps its models, their optimizer states apart", async () => {
  bench = await openWorkbench();
  const job = await ended(await bench.create({ instructions: { steps: 6, stepsPerEpoch: 2 } }));
  const models = await bench.models.list(DEFAULT_PROJECT);
  expect(models).toHaveLength(3);
  await withoutCleanUp(job);
  writeFileSync(inDirectory(job, "checkpoints", "step-4", "optimizer.safetensors"), "x");

  const worker = bench.worker();
  worker.start();
  await until("the job is cleaned up", async () => (await bench.queue.listToCleanUp(1)).length === 0);
  for (const parts of GONE) expect(existsSync(inDirectory(job, ...parts)), parts.join("/")).toBe(false);
  expect(existsSync(inDirectory(job, "checkpoints", "step-4", "optimizer.safetensors"))).toBe(false);
  for (const { id } of models) {
    const { adapterDirectory = "" } = (await bench.models.get(DEFAULT_PROJECT, id)) ?? {};
    expect(readdirSync(adapterDirectory)).toEqual(["adapter_model.safetensors"]);
  }
  expect(readdirSync(bench.directoryOf(job))).toEqual(
    expect.arrayContaining(["adapter", "events.jsonl", "job.json", "result.csv", "trainer.log"]),
  );
});

test("what a model's deletion took away does not come back, and its folder may go", async () => {
  bench = await openWorkbench();
  const job = await ended(await bench.create({ instructions: { steps: 6, stepsPerEpoch: 2 } }));
  const [, checkpoint] = (await bench.jobs.listCheckpoints(job.id, { limit: 10 })).data;
  await bench.models.delete(DEFAULT_PROJECT, checkpoint?.model ?? "");
  await withoutCleanUp(job);
  bench.worker().start();
  await until("the job is cleaned up", async () => (await bench.queue.listToCleanUp(1)).length === 0);
  expect(readdirSync(inDirectory(job, "checkpoints"))).toEqual(["step-2"]);
});

test("a failed job loses its data and what is half-made", async () => {
  bench = await openWorkbench();
  const error = { code: "training_diverged", param: null, message: "The loss is not finite." };
  const job = await ended(await bench.create({ instructions: { failAt: { step: 1, error } } }));
  await withoutCleanUp(job);
  bench.worker().start();
  await until("the job is cleaned up", async () => (await bench.queue.listToCleanUp(1)).length === 0);
  for (const parts of GONE) expect(existsSync(inDirectory(job, ...parts)), parts.join("/")).toBe(false);
  expect((await bench.read(job)).error).toEqual(error);
});

test("an unfinished job is not touched", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { hangAt: 3 } });
  const worker = bench.worker();
  worker.start();
  await until("a checkpoint is made", () => existsSync(inDirectory(job, "checkpoints", "step-2")));
  await worker.stop();
  const before = readdirSync(bench.directoryOf(job)).sort();
  expect(before).toContain("training.jsonl");
  await bench.sweep(new AbortController().signal);
  expect(readdirSync(bench.directoryOf(job)).sort()).toEqual(before);
  expect(readdirSync(inDirectory(job, "checkpoints")).sort()).toEqual(["step-1", "step-2"]);
  // Not even where somebody asks for it.
  await bench.queue.markCleanedUp(job.id);
  await bench.jobs.cancel(DEFAULT_PROJECT, job.id, { message: "The job was cancelled" });
  expect((await bench.queue.listToCleanUp(10)).map(({ id }) => id)).toEqual([job.id]);
});

test("a job cancelled while no worker ran is cleaned up by the next", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { hangAt: 3 } });
  const worker = bench.worker();
  worker.start();
  await until("a checkpoint is made", () => existsSync(inDirectory(job, "checkpoints", "step-2")));
  await worker.stop();
  await bench.jobs.cancel(DEFAULT_PROJECT, job.id, { message: "The job was cancelled" });
  bench.worker().start();
  await until("the job is cleaned up", async () => (await bench.queue.listToCleanUp(1)).length === 0);
  expect(existsSync(inDirectory(job, "training.jsonl"))).toBe(false);
  expect(bench.lives(job)).toHaveLength(1);
});

test("a directory that cannot be cleaned keeps its place in the queue, and the next job runs", async () => {
  bench = await openWorkbench();
  const job = await ended(await bench.create());
  await withoutCleanUp(job);
  // A folder where a file should be: rm refuses.
  mkdirSync(inDirectory(job, "validation.jsonl"));
  const next = await ended(await bench.create());
  expect(next.status).toBe("succeeded");
  expect((await bench.queue.listToCleanUp(10)).map(({ id }) => id)).toEqual([job.id]);
  expect(bench.logger.lines.join("\n")).toContain("the next start tries again");
});

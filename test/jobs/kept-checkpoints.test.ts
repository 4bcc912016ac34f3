// What a job that failed or was cancelled leaves: the checkpoints of its finished epochs, as models; nothing half-made.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import type { Job } from "../../src/store/fine-tuning-rows.ts";
import type { Instructions } from "./fake-trainer.ts";
import { openWorkbench, until, type Workbench } from "./workbench.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";

let bench: Workbench;
afterEach(() => bench.close());

const ERROR = { code: "training_diverged", param: null, message: "The loss is not finite." };
const STAYS = ["checkpoints", "events.jsonl", "fake.json", "job.json", "lives.txt", "trainer.log"].sort();

const cleanedUp = () =>
  until("the job is cleaned up", async () => (await bench.queue.listToCleanUp(1)).length === 0);

async function failedJob(instructions: Instructions): Promise<Job> {
  const job = await bench.create({ instructions });
  const worker = bench.worker();
  worker.start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  await worker.stop();
  return bench.read(job);
}

test("a cancelled job keeps its last three epochs, each under a name that can be chatted with", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { steps: 20, stepsPerEpoch: 2, hangAt: 10 } });
  const worker = bench.worker();
  worker.start();
  const last = join(bench.directoryOf(job), "checkpoints/step-9");
  await until("the trainer hangs", () => existsSync(last));
  await bench.jobs.cancel(DEFAULT_PROJECT, job.id, { message: "The job was cancelled" });
  worker.wake();
  await cleanedUp();

  const checkpoints = (await bench.jobs.listCheckpoints(job.id, { limit: 10 })).data;
  expect(checkpoints.map(({ step }) => step)).toEqual([8, 6, 4]);
  expect(checkpoints[0]?.metrics).toMatchObject({ step: 8, train_loss: 0.25, full_valid_loss: 0.5 });
  for (const { model, step } of checkpoints) {
    expect(model).toMatch(new RegExp(`^ft:gpt-4o-mini-2024-07-18:acme:tacos:\\w{8}:ckpt-step-${step}$`));
    const { adapterDirectory } = (await bench.models.get(DEFAULT_PROJECT, model)) ?? { adapterDirectory: "" };
    const weights = readFileSync(join(adapterDirectory, "adapter_model.safetensors"), "utf8");
    expect(weights).toBe(`weights after step ${step}`);
  }
  expect(readdirSync(bench.directoryOf(job)).sort()).toEqual(STAYS);
  expect(readdirSync(join(bench.directoryOf(job), "checkpoints")).sort()).toEqual([
    "step-4",
    "step-6",
    "step-8",
  ]);
  expect(await bench.read(job)).toMatchObject({
    status: "cancelled",
    fineTunedModel: null,
    finishedAt: null,
  });
});

test("so does a failed one, and its adapter, its result and its temporary folders go", async () => {
  bench = await openWorkbench();
  const job = await failedJob({ steps: 6, stepsPerEpoch: 2, failAt: { step: 4, error: ERROR } });
  expect((await bench.jobs.listCheckpoints(job.id, { limit: 10 })).data.map(({ step }) => step)).toEqual([2]);

  // As if it had failed later, and the server had died before it cleaned up.
  await bench.database.updateTable("fineTuningJobs").set({ cleanedUp: 0 }).execute();
  const directory = bench.directoryOf(job);
  for (const folder of ["adapter", ".adapter.7-0123abcd.tmp"]) {
    mkdirSync(join(directory, folder));
    writeFileSync(join(directory, folder, "adapter_model.safetensors"), "half");
  }
  for (const file of ["result.csv", "job.json.part", "trainer.pid"]) writeFileSync(join(directory, file), "");
  await bench.sweep(new AbortController().signal);
  expect(readdirSync(directory).sort()).toEqual(STAYS);
  expect(readdirSync(join(directory, "checkpoints"))).toEqual(["step-2"]);
});

test("a repetition makes no second model, and a deleted one does not come back", async () => {
  bench = await openWorkbench();
  const job = await failedJob({ steps: 6, stepsPerEpoch: 2, failAt: { step: 5, error: ERROR } });
  const [newest, older] = await bench.models.list(DEFAULT_PROJECT);
  await bench.models.delete(DEFAULT_PROJECT, newest?.id ?? "");
  await bench.database.updateTable("fineTuningJobs").set({ cleanedUp: 0 }).execute();
  await bench.sweep(new AbortController().signal);
  expect((await bench.models.list(DEFAULT_PROJECT)).map(({ id }) => id)).toEqual([older?.id]);
  expect((await bench.jobs.listCheckpoints(job.id, { limit: 10 })).data).toHaveLength(2);
  expect(await bench.queue.listToCleanUp(1)).toEqual([]);
});

test("a job that goes on, or has succeeded, gets no checkpoints this way", async () => {
  bench = await openWorkbench();
  const job = await bench.create();
  expect(await bench.queue.keepCheckpoints(job.id, [])).toBe(false);
});

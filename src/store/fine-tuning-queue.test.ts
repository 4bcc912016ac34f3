// Claims, leases and endings of jobs, with a clock that the tests turn.
import { afterEach, beforeEach, expect, test } from "vitest";
import { DEFAULT_PROJECT, newId } from "../wire/ids.ts";
import { openDatabase } from "./database.ts";
import type { Database } from "./database.ts";
import { FileStore } from "./files.ts";
import { FineTuningQueue } from "./fine-tuning-queue.ts";
import { FineTuningStore } from "./fine-tuning.ts";
import { ModelStore } from "./models.ts";

let database: Database;
let now: number;
let files: FileStore;
let jobs: FineTuningStore;
let queue: FineTuningQueue;
let models: ModelStore;

beforeEach(async () => {
  now = 1_000_000_000_000;
  const clock = () => now;
  database = await openDatabase(":memory:");
  files = new FileStore(database, clock);
  jobs = new FineTuningStore(database, clock);
  queue = new FineTuningQueue(database, clock);
  models = new ModelStore(database, "/data/t", clock);
});
afterEach(() => database.destroy());

const newFile = () => ({
  id: newId("file"),
  projectId: DEFAULT_PROJECT,
  filename: "a",
  purpose: "fine-tune" as const,
  bytes: 1,
  sha256: "00",
  expiresAt: null,
});

async function newJob() {
  const file = await files.create(newFile());
  return jobs.create(
    {
      projectId: DEFAULT_PROJECT,
      model: "gpt-4o-mini-2024-07-18",
      baseModel: "base",
      trainingFileId: file.id,
      validationFileId: null,
      suffix: null,
      seed: 1,
      method: "supervised",
      hyperparameters: { n_epochs: "auto", batch_size: "auto", learning_rate_multiplier: "auto" },
      metadata: null,
    },
    () => [],
  );
}

const claim = (owner: string) => queue.claim(owner, now + 1000);
const messages = async (jobId: string) =>
  (await jobs.listEvents(jobId, { limit: 100 })).data.map(({ message }) => message);

const ending = () => {
  const model = {
    id: `ft:gpt:personal::${newId("model")}`,
    ownedBy: "personal",
    baseModel: "base",
    requestedModel: "gpt-4o-mini-2024-07-18",
    adapterDirectory: "jobs/x/adapter",
  };
  return {
    model,
    resultFile: { ...newFile(), purpose: "fine-tune-results" as const },
    trainedTokens: 5,
    checkpoints: [{ step: 3, model, metrics: { step: 3 } }],
    events: [{ message: "done" }],
  };
};

test("the oldest job is claimed first, and each by one worker only", async () => {
  const [first, second] = [await newJob(), await newJob()];
  expect((await claim("a"))?.id).toBe(first.id);
  expect((await claim("b"))?.id).toBe(second.id);
  expect(await claim("c")).toBeNull();
});

test("a job whose worker went silent is claimed again when the lease is over, and counts both attempts", async () => {
  const { id } = await newJob();
  await claim("a");
  now += 999;
  expect(await claim("b")).toBeNull();
  expect(await queue.heartbeat(id, "a", now + 1000)).toBe("held");
  now += 999;
  expect(await claim("b")).toBeNull();
  now += 1;
  expect(await claim("b")).toMatchObject({ id, attempts: 2 });
  expect(await queue.heartbeat(id, "a", now + 1000)).toBe("lost");
});

test("a job that was given back is claimed at once, and that attempt does not count", async () => {
  const { id } = await newJob();
  await claim("a");
  await queue.release(id, "stranger");
  expect(await claim("b")).toBeNull();
  await queue.release(id, "a");
  expect(await claim("b")).toMatchObject({ id, attempts: 1 });
});

test("a worker without the lease changes nothing", async () => {
  const { id: jobId } = await newJob();
  await claim("a");
  const lease = { jobId, owner: "stranger" };
  expect(await queue.moveTo(lease, { from: ["validating_files"], to: "queued" })).toBe(false);
  expect(await queue.update(lease, { estimatedFinish: 1 })).toBe(false);
  expect(await queue.appendEvents(lease, [{ message: "x" }])).toBe(false);
  expect(await queue.failJob(lease, { code: "c", param: null, message: "m" })).toBe(false);
  expect(await queue.finishSucceeded(lease, ending())).toBe(false);
  expect(await jobs.get(DEFAULT_PROJECT, jobId)).toMatchObject({
    status: "validating_files",
    error: null,
    estimatedFinish: null,
  });
  expect(await messages(jobId)).toEqual([]);
  expect((await files.list(DEFAULT_PROJECT, { limit: 10, order: "asc" })).data).toHaveLength(1);
});

test("a move needs the right status before it", async () => {
  const { id: jobId } = await newJob();
  await claim("a");
  const lease = { jobId, owner: "a" };
  const move = { from: ["validating_files"], to: "queued", events: [{ message: "moved" }] } as const;
  expect(await queue.moveTo(lease, { ...move, events: [...move.events] })).toBe(true);
  expect(await queue.moveTo(lease, { ...move, events: [...move.events] })).toBe(false);
  expect(await messages(jobId)).toEqual(["moved"]);
});

test("an event with a key is stored once for a job, and one without every time", async () => {
  const { id: jobId } = await newJob();
  await claim("a");
  const lease = { jobId, owner: "a" };
  for (const message of ["first", "again"]) {
    await queue.appendEvents(lease, [{ key: "metrics:1", message, data: { step: 1 } }, { message: "plain" }]);
  }
  expect(await messages(jobId)).toEqual(["plain", "plain", "first"]);
});

test("success shows everything together", async () => {
  const { id: jobId } = await newJob();
  await claim("a");
  const end = ending();
  expect(await queue.finishSucceeded({ jobId, owner: "a" }, end)).toBe(true);
  expect(await jobs.get(DEFAULT_PROJECT, jobId)).toMatchObject({
    status: "succeeded",
    fineTunedModel: end.model.id,
    resultFileId: end.resultFile.id,
    trainedTokens: 5,
    finishedAt: now / 1000,
  });
  expect(await models.get(DEFAULT_PROJECT, end.model.id)).toMatchObject({
    adapterDirectory: "/data/t/jobs/x/adapter",
  });
  expect((await jobs.listCheckpoints(jobId, { limit: 10 })).data).toMatchObject([
    { step: 3, model: end.model.id },
  ]);
  expect(await messages(jobId)).toEqual(["done"]);
  expect(await claim("b")).toBeNull();
});

test("success that cannot be stored whole is not stored at all", async () => {
  const { id: jobId } = await newJob();
  await claim("a");
  const end = ending();
  const outside = { ...end, model: { ...end.model, id: "ft:other", adapterDirectory: "../elsewhere" } };
  await expect(queue.finishSucceeded({ jobId, owner: "a" }, outside)).rejects.toThrow(
    "not relative to the home folder",
  );
  expect(await jobs.get(DEFAULT_PROJECT, jobId)).toMatchObject({
    status: "validating_files",
    fineTunedModel: null,
  });
  expect(await files.get(DEFAULT_PROJECT, end.resultFile.id)).toBeNull();
  expect(await models.get(DEFAULT_PROJECT, end.model.id)).toBeNull();
});

test("a failed job keeps its events and leaves finished_at empty", async () => {
  const { id: jobId } = await newJob();
  await claim("a");
  const error = { code: "invalid_training_file", param: "training_file", message: "Line 3 is no JSON." };
  await queue.appendEvents({ jobId, owner: "a" }, [{ message: "Validating" }]);
  expect(await queue.failJob({ jobId, owner: "a" }, error)).toBe(true);
  expect(await jobs.get(DEFAULT_PROJECT, jobId)).toMatchObject({ status: "failed", error, finishedAt: null });
  const [last] = (await jobs.listEvents(jobId, { limit: 1 })).data;
  expect(last).toMatchObject({ level: "error", message: error.message });
});

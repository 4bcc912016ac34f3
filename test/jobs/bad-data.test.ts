// Data that cannot be trained on fails the job, not the server.
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { TunesmithError } from "../../src/errors.ts";
import { openWorkbench, TEN_EXAMPLES, until, type Workbench } from "./workbench.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";

let bench: Workbench;
afterEach(() => bench.close());

test("a bad training file fails the job with code, param and message", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ content: `${TEN_EXAMPLES}bad\n` });
  bench.worker().start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  const failed = await bench.read(job);
  expect(failed).toMatchObject({
    error: { code: "invalid_training_file", param: "training_file" },
    // As OpenAI's failed jobs: nothing resolved, nothing trained, no end.
    hyperparameters: { n_epochs: "auto", batch_size: "auto", learning_rate_multiplier: "auto" },
    trainedTokens: null,
    finishedAt: null,
  });
  expect(failed.error?.message).toMatch(/Example 11 /);
  const events = await bench.events(job);
  expect(events.at(-1)).toMatchObject({ level: "error", message: failed.error?.message });
});

test("what a file holds stays out of the log, where the job's message quotes it", async () => {
  bench = await openWorkbench();
  const row = { messages: [{ role: "patient 4711", content: "My secret" }] };
  const job = await bench.create({ content: `${TEN_EXAMPLES}${JSON.stringify(row)}\n` });
  bench.worker().start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  expect((await bench.read(job)).error?.message).toContain("patient 4711");
  const log = bench.logger.lines.join("\n");
  expect(log).toContain("Job failed by its data.");
  expect(log).toContain("invalid_training_file");
  expect(log).not.toMatch(/patient|secret/);
});

test("a bad validation file is named as such", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ validationFileId: await bench.upload("bad\n") });
  bench.worker().start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  expect((await bench.read(job)).error).toMatchObject({
    code: "invalid_validation_file",
    param: "validation_file",
  });
});

test.each([
  { when: "before the job read it", row: true },
  // Its row is read before its bytes are linked.
  { when: "while the job took it", row: false },
])("a training file deleted $when", async ({ row }) => {
  bench = await openWorkbench();
  const job = await bench.create();
  if (row) await bench.files.delete(DEFAULT_PROJECT, job.trainingFileId);
  await bench.blobs.delete(job.trainingFileId);
  bench.worker().start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  expect((await bench.read(job)).error).toEqual({
    code: "deleted_training_file",
    param: "training_file",
    message: `The training file ${job.trainingFileId} was deleted before the job could read it. Upload it again and create a new job.`,
  });
});

test("a training file deleted after validation does no harm", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { stepMs: 50 } });
  bench.worker().start();
  await until("the job runs", async () => (await bench.status(job)) === "running");
  await bench.files.delete(DEFAULT_PROJECT, job.trainingFileId);
  await bench.blobs.delete(job.trainingFileId);
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
});

test("stored bytes that changed since the upload are noticed", async () => {
  bench = await openWorkbench();
  const job = await bench.create();
  const path = bench.blobs.path(job.trainingFileId);
  rmSync(path);
  writeFileSync(path, "other bytes\n");
  bench.worker().start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  const { error } = await bench.read(job);
  expect(error).toMatchObject({ code: "server_error", param: "training_file" });
  expect(error?.message).toMatch(
    /^The stored bytes of file-\w+ are damaged: expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}\. Upload the file again/,
  );
});

test("a base model that cannot be had fails the job with its reason", async () => {
  bench = await openWorkbench({
    dependencies: {
      resolveBaseModel: async (id) => {
        throw new TunesmithError(`No source has ${id}.`, { code: "model_not_available" });
      },
    },
  });
  const job = await bench.create();
  bench.worker().start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  expect((await bench.read(job)).error).toEqual({
    code: "model_not_available",
    param: null,
    message: "No source has smollm2-135m-instruct.",
  });
});

test("a fault of this program is logged and not told to the client", async () => {
  bench = await openWorkbench({
    dependencies: {
      judgeData: async () => {
        throw new TypeError("x is not a function");
      },
    },
  });
  const job = await bench.create();
  bench.worker().start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  const { error } = await bench.read(job);
  expect(error?.code).toBe("server_error");
  expect(error?.message).not.toContain("x is not");
  expect(bench.logger.lines.join("\n")).toContain("x is not a function");
});

test("a trainer that reports a failure is not started again", async () => {
  bench = await openWorkbench();
  const error = { code: "invalid_training_file", param: "training_file", message: "No supervised token." };
  const job = await bench.create({ instructions: { failAt: { step: 2, error } } });
  bench.worker().start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  expect((await bench.read(job)).error).toEqual(error);
  expect(bench.lives(job)).toHaveLength(1);
  // What tells the story stays; the data and the checkpoint before the first epoch's end go.
  await until("it is cleaned up", async () => (await bench.queue.listToCleanUp(1)).length === 0);
  expect(readdirSync(join(bench.directoryOf(job), "checkpoints"))).toEqual([]);
  expect(readdirSync(bench.directoryOf(job)).sort()).toEqual(
    ["checkpoints", "events.jsonl", "fake.json", "job.json", "lives.txt", "trainer.log"].sort(),
  );
});

test("after a failed job the next one runs", async () => {
  bench = await openWorkbench();
  await bench.create({ content: "bad\n" });
  const good = await bench.create({ trainingFileId: await bench.upload(TEN_EXAMPLES) });
  bench.worker().start();
  await until("the good one has succeeded", async () => (await bench.status(good)) === "succeeded");
});

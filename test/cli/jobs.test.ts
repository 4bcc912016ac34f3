// Jobs on the command line: creating one, following it to its end in a pipe, and the exit codes.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ServerResponse } from "node:http";
import { sendError, startFakeServer, tunesmith, type Asked } from "./fake-server.ts";

let folder: string;
let close: () => Promise<unknown> = async () => undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tunesmith-cli-"));
});
afterEach(async () => {
  rmSync(folder, { recursive: true });
  await close();
});

const JOB = "/v1/fine_tuning/jobs/ftjob-1";

function jobObject(status: string, more: object = {}) {
  const hyperparameters = { n_epochs: 3, batch_size: "auto", learning_rate_multiplier: 2 };
  return {
    object: "fine_tuning.job",
    id: "ftjob-1",
    model: "gpt-4o-mini-2024-07-18",
    created_at: 1_790_000_000,
    finished_at: null,
    fine_tuned_model: null,
    organization_id: "acme",
    result_files: [],
    status,
    validation_file: null,
    training_file: "file-abc",
    hyperparameters,
    trained_tokens: null,
    error: null,
    seed: 42,
    estimated_finish: null,
    method: { type: "supervised", supervised: { hyperparameters } },
    ...more,
  };
}

function event(id: number, message: string, more: object = {}) {
  return {
    object: "fine_tuning.job.event",
    id: `ftevent-${id}`,
    created_at: 1_790_000_000 + id,
    level: "info",
    message,
    data: {},
    type: "message",
    ...more,
  };
}

const STEP = event(2, "Step 1/2: training loss=1.50", {
  type: "metrics",
  data: { step: 1, total_steps: 2, train_loss: 1.5, tokens_per_second: 231.4, seconds_left: 3 },
});

/** As the API: newest first. */
function eventList(...events: object[]) {
  return { object: "list", data: events.toReversed(), has_more: false };
}

test("create uploads local files, keeps ids, and sends only what was given", async () => {
  const server = await startFakeServer({
    "POST /v1/files": { object: "file", id: "file-new", filename: "train.jsonl", bytes: 3 },
    "POST /v1/fine_tuning/jobs": jobObject("validating_files"),
  });
  close = server.close;
  const path = join(folder, "train.jsonl");
  writeFileSync(path, "{}\n");
  const { code, out, err } = await tunesmith([
    ...["jobs", "create", "-m", "gpt-4o-mini", "-t", path, "--validation-file", "file-abc"],
    ...["--suffix", "tacos", "--seed", "42", "--epochs", "3", "--batch-size", "auto"],
    ...["--learning-rate-multiplier", "0.5", "--metadata", "team=a=b", "--metadata", "run=1"],
    ...["--base-url", server.baseUrl],
  ]);
  expect(code).toBe(0);
  // Standard output is the id alone, so that a script can keep it.
  expect(out).toBe("ftjob-1\n");
  expect(err).toContain(`Uploaded ${path} as file-new\n`);
  expect(err).toContain('Follow it with "tunesmith jobs follow ftjob-1".\n');
  expect(JSON.parse(server.asked[1]?.body ?? "")).toEqual({
    model: "gpt-4o-mini",
    training_file: "file-new",
    validation_file: "file-abc",
    suffix: "tacos",
    seed: 42,
    method: {
      type: "supervised",
      supervised: {
        hyperparameters: { n_epochs: 3, batch_size: "auto", learning_rate_multiplier: 0.5 },
      },
    },
    metadata: { team: "a=b", run: "1" },
  });
});

test("create leaves out what was not given", async () => {
  const server = await startFakeServer({ "POST /v1/fine_tuning/jobs": jobObject("validating_files") });
  close = server.close;
  const words = ["jobs", "create", "-m", "m", "-t", "file-abc", "--json", "--base-url", server.baseUrl];
  const { out, err } = await tunesmith(words);
  expect(JSON.parse(out)).toMatchObject({ id: "ftjob-1", status: "validating_files" });
  expect(err).toBe("");
  expect(JSON.parse(server.asked[0]?.body ?? "")).toEqual({
    model: "m",
    training_file: "file-abc",
    method: { type: "supervised", supervised: { hyperparameters: {} } },
  });
});

test("create sends what the recipe changes, get shows it, and a wrong value is refused before anything is sent", async () => {
  const additions = { lora: { rank: 4, target_modules: ["q_proj", "v_proj"] }, max_length: 64 };
  const job = jobObject("queued", {
    method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 3, ...additions } } },
  });
  const server = await startFakeServer({
    "POST /v1/fine_tuning/jobs": job,
    "GET /v1/fine_tuning/jobs/ftjob-1": job,
  });
  close = server.close;
  const at = ["--base-url", server.baseUrl];
  const words = ["jobs", "create", "-m", "m", "-t", "file-abc", "--lora-targets", "q_proj,v_proj", ...at];
  await tunesmith([...words, "--lora-rank", "4", "--max-length", "64", "--early-stopping", "2"]);
  expect(JSON.parse(server.asked[0]?.body ?? "")).toMatchObject({
    method: { supervised: { hyperparameters: { ...additions, early_stopping: { patience: 2 } } } },
  });
  const { out } = await tunesmith(["jobs", "get", "ftjob-1", ...at]);
  expect(out).toMatch(/^lora +\{"rank":4,"target_modules":\["q_proj","v_proj"\]\}$/m);
  expect(out).toMatch(/^max length +64$/m);
  const asked = server.asked.length;
  const wrong = await tunesmith([...words, "--lora-dropout", "2"]);
  expect(wrong.code).not.toBe(0);
  expect(wrong.err).toContain("'lora.dropout': decimal above maximum value");
  expect(server.asked).toHaveLength(asked);
});

test("create and get know jobs by preference", async () => {
  const hyperparameters = { n_epochs: 3, batch_size: 1, learning_rate_multiplier: 2, beta: 0.3 };
  const job = jobObject("queued", {
    hyperparameters: null,
    method: { type: "dpo", dpo: { hyperparameters } },
  });
  const server = await startFakeServer({
    "POST /v1/fine_tuning/jobs": job,
    "GET /v1/fine_tuning/jobs/ftjob-1": job,
  });
  close = server.close;
  const at = ["--base-url", server.baseUrl];
  await tunesmith(["jobs", "create", "-m", "m", "-t", "file-abc", "--method", "dpo", "--beta", "0.3", ...at]);
  expect(JSON.parse(server.asked[0]?.body ?? "")).toMatchObject({
    method: { type: "dpo", dpo: { hyperparameters: { beta: 0.3 } } },
  });
  const { out } = await tunesmith(["jobs", "get", "ftjob-1", ...at]);
  expect(out).toMatch(/^method +dpo$/m);
  expect(out).toMatch(/^beta +0\.3$/m);
});

const SUCCEEDED = jobObject("succeeded", {
  fine_tuned_model: "ft:gpt-4o-mini-2024-07-18:acme::abcdEFGH",
  trained_tokens: 12345,
});

test("follow prints every event once, then the model, and ends with 0", async () => {
  const started = event(1, "Fine-tuning job started");
  const done = event(3, "The job has successfully completed");
  const server = await startFakeServer({
    [`GET ${JOB}`]: [jobObject("running"), SUCCEEDED],
    [`GET ${JOB}/events`]: [eventList(started, STEP), eventList(started, STEP, done)],
  });
  close = server.close;
  const { code, out } = await tunesmith(["jobs", "follow", "ftjob-1", "--base-url", server.baseUrl]);
  expect(out).toBe(
    [
      "2026-09-21 14:13:21Z  Fine-tuning job started",
      "2026-09-21 14:13:22Z  Step 1/2: training loss=1.50 (231 tokens/s)",
      "2026-09-21 14:13:23Z  The job has successfully completed",
      "ftjob-1 succeeded, 12,345 trained tokens",
      "ft:gpt-4o-mini-2024-07-18:acme::abcdEFGH",
      "",
    ].join("\n"),
  );
  expect(code).toBe(0);
});

test("follow --json prints one object a line, the job last", async () => {
  const server = await startFakeServer({
    [`GET ${JOB}`]: SUCCEEDED,
    [`GET ${JOB}/events`]: eventList(event(1, "Fine-tuning job started"), STEP),
  });
  close = server.close;
  const { out, err } = await tunesmith(["jobs", "follow", "ftjob-1", "--json", "--base-url", server.baseUrl]);
  const objects = out
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { object: string });
  expect(objects.map(({ object }) => object)).toEqual([
    "fine_tuning.job.event",
    "fine_tuning.job.event",
    "fine_tuning.job",
  ]);
  expect(objects[1]).toEqual(STEP);
  expect(err).toBe("");
});

test("follow reads all pages of what happened before", async () => {
  const events = Array.from({ length: 250 }, (_, index) => event(index, `event ${index}`));
  const newestFirst = events.toReversed();
  const server = await startFakeServer({
    [`GET ${JOB}`]: SUCCEEDED,
    [`GET ${JOB}/events`]: (response: ServerResponse, asked: Asked) => {
      const query = new URL(asked.path, "http://x").searchParams;
      const after = query.get("after");
      const from = after === null ? 0 : newestFirst.findIndex(({ id }) => id === after) + 1;
      const data = newestFirst.slice(from, from + Number(query.get("limit")));
      const has_more = from + data.length < newestFirst.length;
      response.end(JSON.stringify({ object: "list", data, has_more }));
    },
  });
  close = server.close;
  const { out } = await tunesmith(["jobs", "follow", "ftjob-1", "--base-url", server.baseUrl]);
  const lines = out.split("\n").slice(0, 250);
  expect(lines.map((line) => line.split("  ")[1])).toEqual(events.map(({ message }) => message));
});

test.each([
  {
    status: "failed",
    more: { error: { code: "invalid_n_examples", param: "training_file", message: "Too few." } },
    says: "ftjob-1 failed\ninvalid_n_examples: Too few.\n",
  },
  { status: "cancelled", more: { error: {} }, says: "ftjob-1 was cancelled\n" },
])("follow of a job that is $status ends with 1", async ({ status, more, says }) => {
  const server = await startFakeServer({
    [`GET ${JOB}`]: jobObject(status, more),
    [`GET ${JOB}/events`]: eventList(),
  });
  close = server.close;
  const { code, out } = await tunesmith(["jobs", "follow", "ftjob-1", "--base-url", server.baseUrl]);
  expect({ code, out }).toEqual({ code: 1, out: says });
});

test("follow outlives a server that goes away for a moment", async () => {
  const server = await startFakeServer({
    [`GET ${JOB}`]: [jobObject("running"), (response: ServerResponse) => void response.destroy(), SUCCEEDED],
    [`GET ${JOB}/events`]: eventList(),
  });
  close = server.close;
  const { code } = await tunesmith(["jobs", "follow", "ftjob-1", "--base-url", server.baseUrl]);
  expect(code).toBe(0);
});

test("list, get, events, checkpoints, pause, resume, cancel", async () => {
  const checkpoint = {
    object: "fine_tuning.job.checkpoint",
    id: "ftckpt_1",
    created_at: 1,
    fine_tuned_model_checkpoint: "ft:x:acme::abcdEFGH",
    fine_tuning_job_id: "ftjob-1",
    metrics: { step: 80, train_loss: 0.123456 },
    step_number: 80,
    tunesmith: { best: true },
  };
  const server = await startFakeServer({
    "GET /v1/fine_tuning/jobs": { object: "list", data: [SUCCEEDED, jobObject("running")], has_more: false },
    [`GET ${JOB}`]: SUCCEEDED,
    [`GET ${JOB}/events`]: eventList(event(1, "one"), event(2, "two", { level: "error" })),
    [`GET ${JOB}/checkpoints`]: { object: "list", data: [checkpoint], has_more: false },
    [`POST ${JOB}/pause`]: jobObject("paused"),
    [`POST ${JOB}/resume`]: jobObject("queued"),
    [`POST ${JOB}/cancel`]: jobObject("cancelled"),
  });
  close = server.close;
  const run = (...words: string[]) => tunesmith(["jobs", ...words, "--base-url", server.baseUrl]);
  const list = await run("list");
  expect(list.out.split("\n")[0]).toMatch(/^ID +STATUS +MODEL +FINE-TUNED MODEL +CREATED$/);
  expect(list.out).toMatch(/^ftjob-1 {2}running +gpt-4o-mini-2024-07-18 {2}- /m);
  const got = await run("get", "ftjob-1");
  expect(got.out).toContain("trained tokens            12,345\n");
  expect(got.out).not.toContain("error");
  expect((await run("events", "ftjob-1")).out).toBe(
    "2026-09-21 14:13:21Z  one\n2026-09-21 14:13:22Z  error: two\n",
  );
  expect((await run("checkpoints", "ftjob-1")).out.split("\n")[1]).toBe(
    "  80      0.1235                -  *     ft:x:acme::abcdEFGH",
  );
  expect(await run("pause", "ftjob-1")).toMatchObject({ code: 0, out: "ftjob-1 is paused\n" });
  expect(await run("resume", "ftjob-1")).toMatchObject({ code: 0, out: "ftjob-1 is queued\n" });
  expect(await run("cancel", "ftjob-1")).toMatchObject({ code: 0, out: "ftjob-1 is cancelled\n" });
  expect(server.asked.at(-1)?.body).toBe("");
});

test("an unknown job ends with 1", async () => {
  const server = await startFakeServer({
    [`GET ${JOB}`]: sendError(404, "Could not find fine tune: ftjob-1", "fine_tune_not_found"),
  });
  close = server.close;
  const { code, err } = await tunesmith(["jobs", "follow", "ftjob-1", "--base-url", server.baseUrl]);
  expect({ code, err }).toEqual({ code: 1, err: "tunesmith: Could not find fine tune: ftjob-1\n" });
});

test("a job that is refused leaves no uploaded copies behind, whichever of them it was refused for", async () => {
  const server = await startFakeServer({
    "POST /v1/files": [{ id: "file-train" }, { id: "file-valid" }, { id: "file-second" }],
    "POST /v1/fine_tuning/jobs": sendError(400, "No such model."),
    "DELETE /v1/files/file-train": { id: "file-train", deleted: true },
    "DELETE /v1/files/file-valid": sendError(404, "No such file."),
    "DELETE /v1/files/file-second": { id: "file-second", deleted: true },
  });
  close = server.close;
  const path = join(folder, "train.jsonl");
  writeFileSync(path, "{}\n");
  const create = (validation: string) =>
    tunesmith([
      ...["jobs", "create", "-m", "m", "-t", path, "--validation-file", validation],
      ...["--base-url", server.baseUrl],
    ]);
  const deleted = () => server.asked.filter(({ method }) => method === "DELETE").map((one) => one.path);
  const refused = await create(path);
  expect(refused.code).toBe(1);
  expect(refused.err).toContain("The uploaded copy file-valid could not be deleted: No such file.\n");
  expect(refused.err).toMatch(/tunesmith: No such model\.\n$/);
  expect(deleted()).toEqual(["/v1/files/file-train", "/v1/files/file-valid"]);
  expect((await create(join(folder, "none.jsonl"))).code).toBe(2);
  expect(deleted()).toContain("/v1/files/file-second");
});

test("where a job may be there after all, its uploaded copy stays", async () => {
  const server = await startFakeServer({
    "POST /v1/files": { id: "file-train" },
    "POST /v1/fine_tuning/jobs": sendError(500, "The server had an error."),
  });
  close = server.close;
  const path = join(folder, "train.jsonl");
  writeFileSync(path, "{}\n");
  const { code } = await tunesmith(["jobs", "create", "-m", "m", "-t", path, "--base-url", server.baseUrl]);
  expect(code).toBe(1);
  expect(server.asked.map(({ method }) => method)).toEqual(["POST", "POST"]);
});

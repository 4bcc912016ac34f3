// Fine-tuning jobs over HTTP, with a test in the worker's place.
import OpenAI from "openai";
import { expect, test } from "vitest";
import { jobCheckpointObject, jobEventObject, jobObject } from "../../src/wire/fine-tuning.ts";
import { BASE_MODEL, succeedJob, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";

async function create(server: TestServer, body: object) {
  return server.app.inject({ method: "POST", url: "/v1/fine_tuning/jobs", payload: body });
}

async function createdJob(server: TestServer, body: object = {}) {
  const { id } = await upload(server);
  const answer = await create(server, { model: "gpt-4o-mini", training_file: id, ...body });
  expect(answer.statusCode, answer.body).toBe(200);
  return jobObject.strict().parse(answer.json());
}

const get = async (server: TestServer, url: string) =>
  (await server.app.inject(`/v1/fine_tuning/jobs${url}`)).json<{
    data: { id: string; message: string }[];
    has_more: boolean;
  }>();

test("a new job waits for validation, echoes the snapshot and what was asked for", async () => {
  const server = await testServer();
  const job = await createdJob(server, {
    suffix: "my suffix",
    seed: 42,
    metadata: { team: "a" },
    method: {
      type: "supervised",
      supervised: { hyperparameters: { n_epochs: 4 } },
      dpo: { hyperparameters: {} },
    },
  });
  expect(job).toMatchObject({
    object: "fine_tuning.job",
    model: "gpt-4o-mini-2024-07-18",
    status: "validating_files",
    organization_id: "org-personal",
    error: null,
    fine_tuned_model: null,
    finished_at: null,
    result_files: [],
    trained_tokens: null,
    estimated_finish: null,
    validation_file: null,
    user_provided_suffix: "my suffix",
    seed: 42,
    metadata: { team: "a" },
    integrations: [],
    hyperparameters: { n_epochs: 4, batch_size: "auto", learning_rate_multiplier: "auto" },
    method: {
      type: "supervised",
      supervised: { hyperparameters: { n_epochs: 4, batch_size: "auto", learning_rate_multiplier: "auto" } },
    },
  });
  expect(job.id).toMatch(/^ftjob-[A-Za-z0-9]{24}$/);
  expect(await get(server, `/${job.id}`)).toEqual(job);
});

test("nulls stand for what is left out, and the deprecated hyperparameters still count", async () => {
  const server = await testServer();
  const nothing = {
    suffix: null,
    seed: null,
    validation_file: null,
    method: null,
    integrations: null,
    metadata: null,
  };
  const job = await createdJob(server, { ...nothing, hyperparameters: { n_epochs: 2, batch_size: "auto" } });
  expect(job.hyperparameters).toEqual({ n_epochs: 2, batch_size: "auto", learning_rate_multiplier: "auto" });
  expect(job.seed).toBeGreaterThanOrEqual(0);
});

test("the first event keeps OpenAI's words, and the events say which model is really trained", async () => {
  const server = await testServer();
  const aliased = await createdJob(server);
  const { data } = await get(server, `/${aliased.id}/events`);
  const events = data.map((event) => jobEventObject.strict().parse(event));
  expect(events.map(({ message }) => message)).toEqual([
    `Training ${BASE_MODEL} in place of gpt-4o-mini-2024-07-18`,
    `Created fine-tuning job: ${aliased.id}`,
  ]);
  expect(events.at(-1)).toMatchObject({ level: "info", type: "message", data: { base_model: BASE_MODEL } });
  const plain = await createdJob(server, { model: BASE_MODEL });
  expect(plain.model).toBe(BASE_MODEL);
  expect((await get(server, `/${plain.id}/events`)).data).toHaveLength(1);
});

test("a setting sends {} as the error of a healthy job", async () => {
  const server = await testServer({ emptyJobError: "object" });
  expect((await createdJob(server)).error).toEqual({});
});

test.each([
  [
    { training_file: undefined },
    "training_file",
    "missing_required_parameter",
    "Missing required parameter: 'training_file'.",
  ],
  [{ model: undefined }, "model", "missing_required_parameter", "Missing required parameter: 'model'."],
  [{ training_file: "file-nobody" }, "training_file", null, "invalid training_file: file-nobody"],
  [{ validation_file: "file-nobody" }, "validation_file", null, "invalid validation_file: file-nobody"],
  [
    { model: "gpt-9" },
    null,
    "model_not_available",
    "Model gpt-9 is not available for fine-tuning or does not exist. GET /v1/models lists the models there are; TUNESMITH_MODEL_ALIASES gives one of them another name.",
  ],
  [
    { suffix: "" },
    "suffix",
    "string_below_min_length",
    "Invalid 'suffix': string too short. Expected a string with minimum length 1, but got a string with length 0 instead.",
  ],
  [
    { suffix: "x".repeat(65) },
    "suffix",
    "string_above_max_length",
    "Invalid 'suffix': string too long. Expected a string with maximum length 64, but got a string with length 65 instead.",
  ],
  [
    { seed: -1 },
    "seed",
    "integer_below_min_value",
    "Invalid 'seed': integer below minimum value. Expected a value >= 0, but got -1 instead.",
  ],
  [
    { seed: 2 ** 31 },
    "seed",
    "integer_above_max_value",
    "Invalid 'seed': integer above maximum value. Expected a value <= 2147483647, but got 2147483648 instead.",
  ],
  [{ colour: "red" }, "colour", "unknown_parameter", "Unknown parameter: 'colour'."],
  [
    { hyperparameters: { n_epochs: 51 } },
    "hyperparameters.n_epochs",
    "integer_above_max_value",
    "Invalid 'hyperparameters.n_epochs': integer above maximum value. Expected a value <= 50, but got 51 instead.",
  ],
  [
    { hyperparameters: { n_epochs: "three" } },
    "hyperparameters.n_epochs",
    "invalid_type",
    "Invalid type for 'hyperparameters.n_epochs': expected 'auto' or a number, but got 'three' instead.",
  ],
  [
    { hyperparameters: { batch_size: 1.5 } },
    "hyperparameters.batch_size",
    "invalid_type",
    "Invalid type for 'hyperparameters.batch_size': expected an integer, but got a decimal number instead.",
  ],
  [
    { hyperparameters: { learning_rate_multiplier: 0 } },
    "hyperparameters.learning_rate_multiplier",
    "decimal_below_min_value",
    "Invalid 'hyperparameters.learning_rate_multiplier': decimal below minimum value. Expected a value > 0, but got 0 instead.",
  ],
  [
    { hyperparameters: { beta: 1 } },
    "hyperparameters.beta",
    "unknown_parameter",
    "Unknown parameter: 'hyperparameters.beta'.",
  ],
  [
    {
      hyperparameters: { n_epochs: 1 },
      method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 2 } } },
    },
    "hyperparameters.n_epochs",
    "invalid_value",
    "Invalid 'hyperparameters.n_epochs': 1 contradicts 'method.supervised.hyperparameters.n_epochs', which is 2. Send only the latter.",
  ],
  [
    { method: { type: "reinforcement", reinforcement: { grader: {} } } },
    "method.type",
    "unsupported_value",
    "Unsupported value: 'method.type' does not support 'reinforcement' on this server yet. Use 'supervised' or 'dpo'.",
  ],
  [
    { method: { type: "reinforcement", supervised: { foo: 1 }, dpo: 7 } },
    "method.type",
    "unsupported_value",
    "Unsupported value: 'method.type' does not support 'reinforcement' on this server yet. Use 'supervised' or 'dpo'.",
  ],
  [
    { method: { type: "supervised", magic: {} } },
    "method.magic",
    "unknown_parameter",
    "Unknown parameter: 'method.magic'.",
  ],
  [
    { method: "supervised" },
    "method",
    "invalid_type",
    "Invalid type for 'method': expected an object, but got a string instead.",
  ],
  [
    { method: { type: "magic" } },
    "method.type",
    "invalid_value",
    "Invalid value for 'method.type': 'magic'. Supported values are: 'supervised', 'dpo', 'reinforcement'.",
  ],
  [
    { integrations: [{ type: "wandb" }] },
    "integrations",
    "unsupported_parameter",
    "Unsupported parameter: 'integrations': this server has no Weights & Biases to send to. The metrics of every step are in the job's events and its result file. Leave it out or send null or [].",
  ],
  [
    { metadata: { a: 1 } },
    "metadata.a",
    "invalid_type",
    "Invalid type for 'metadata.a': expected a string, but got a number instead.",
  ],
  [
    { metadata: { ["k".repeat(65)]: "v" } },
    "metadata",
    "string_above_max_length",
    "Invalid 'metadata': a key is too long. Expected at most 64 characters, but got 65 instead.",
  ],
  [
    { metadata: { a: "v".repeat(513) } },
    "metadata.a",
    "string_above_max_length",
    "Invalid 'metadata.a': string too long. Expected a string with maximum length 512, but got a string with length 513 instead.",
  ],
  [
    { metadata: { ["😀".repeat(65)]: "v" } },
    "metadata",
    "string_above_max_length",
    "Invalid 'metadata': a key is too long. Expected at most 64 characters, but got 65 instead.",
  ],
  [
    { metadata: { a: "😀".repeat(513) } },
    "metadata.a",
    "string_above_max_length",
    "Invalid 'metadata.a': string too long. Expected a string with maximum length 512, but got a string with length 513 instead.",
  ],
  [
    { suffix: "😀".repeat(65) },
    "suffix",
    "string_above_max_length",
    "Invalid 'suffix': string too long. Expected a string with maximum length 64, but got a string with length 65 instead.",
  ],
  [
    { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`k${index}`, "v"])) },
    "metadata",
    "object_above_max_properties",
    "Invalid 'metadata': too many properties. Expected at most 16, but got 17 instead.",
  ],
])("a job with %j is refused", async (change, param, code, message) => {
  const server = await testServer();
  const { id } = await upload(server);
  const answer = await create(server, { model: "gpt-4o-mini", training_file: id, ...change });
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toEqual({ error: { message, type: "invalid_request_error", param, code } });
  expect((await get(server, "")).data).toEqual([]);
});

test("lengths are counted in characters, as people and JSON schemas count them", async () => {
  const server = await testServer();
  const metadata = { ["😀".repeat(64)]: "😀".repeat(512) };
  const job = await createdJob(server, { metadata, suffix: "😀".repeat(64) });
  expect(job.metadata).toEqual(metadata);
});

test.each([{ hyperparameters: { beta: 9 } }, { foo: 1 }, "text", 7, null])(
  "a supervised job ignores what the other methods hold: %j",
  async (other) => {
    const server = await testServer();
    const method = { supervised: { hyperparameters: { n_epochs: 2 } }, dpo: other, reinforcement: other };
    const job = await createdJob(server, { method: { type: "supervised", ...method } });
    const hyperparameters = { n_epochs: 2, batch_size: "auto", learning_rate_multiplier: "auto" };
    expect(job.method).toEqual({ type: "supervised", supervised: { hyperparameters } });
  },
);

test("a file uploaded for something else cannot be trained on", async () => {
  const server = await testServer();
  const { id } = await upload(server, "x", { purpose: "assistants" });
  const answer = await create(server, { model: "gpt-4o-mini", training_file: id });
  expect(answer.json()).toMatchObject({
    error: {
      message: `invalid training_file: ${id} was uploaded with purpose 'assistants'. Upload it with purpose 'fine-tune'.`,
      param: "training_file",
    },
  });
});

test("a finished job shows its model, numbers, result file and checkpoints", async () => {
  const server = await testServer();
  const { id } = await createdJob(server, { suffix: "s" });
  expect((await get(server, `/${id}/checkpoints`)).data).toEqual([]);
  const { model, checkpoint } = await succeedJob(server, id);
  const job = jobObject.parse(await get(server, `/${id}`));
  expect(job).toMatchObject({
    status: "succeeded",
    fine_tuned_model: model,
    trained_tokens: 5070,
    error: null,
    hyperparameters: { n_epochs: 2, batch_size: 1, learning_rate_multiplier: 1.8 },
  });
  expect(job.finished_at).not.toBeNull();
  const list = await get(server, `/${id}/checkpoints`);
  const checkpoints = list.data.map((each) => jobCheckpointObject.strict().parse(each));
  expect(checkpoints.map((each) => [each.step_number, each.fine_tuned_model_checkpoint])).toEqual([
    [20, model],
    [10, checkpoint],
  ]);
  expect(checkpoints[0]?.id).toMatch(/^ftckpt_[A-Za-z0-9]{24}$/);
  expect(list).toMatchObject({ first_id: checkpoints[0]?.id, last_id: checkpoints[1]?.id, has_more: false });
});

test("a fine-tuned model and a checkpoint can be trained on; a deleted one cannot", async () => {
  const server = await testServer();
  const { id, training_file } = await createdJob(server);
  const { model, checkpoint } = await succeedJob(server, id);
  for (const name of [model, checkpoint]) {
    const job = (await create(server, { model: name, training_file })).json<{ id: string; model: string }>();
    expect(job.model).toBe(name);
    const { data } = await get(server, `/${job.id}/events`);
    expect(data.map((event) => event.message)).toEqual([
      `Going on from ${name}, an adapter of ${BASE_MODEL}`,
      `Created fine-tuning job: ${job.id}`,
    ]);
  }
  await server.stores.models.delete(DEFAULT_PROJECT, model);
  expect((await create(server, { model, training_file })).json()).toMatchObject({
    error: {
      code: "model_not_available",
      message: `Model ${model} is not available for fine-tuning or does not exist. GET /v1/models lists the models there are; TUNESMITH_MODEL_ALIASES gives one of them another name.`,
    },
  });
});

test("pause and resume answer in the words of the protocol", async () => {
  const server = await testServer();
  const { id } = await createdJob(server);
  const post = (end: string) =>
    server.app.inject({ method: "POST", url: `/v1/fine_tuning/jobs/${id}/${end}` });
  expect((await post("pause")).json()).toMatchObject({
    error: { type: "invalid_request_error", param: null, code: null },
  });
  const { queue } = server.stores;
  await queue.claim("w", Date.now() + 60_000);
  await queue.moveTo({ jobId: id, owner: "w" }, { from: ["validating_files"], to: "running" });
  const paused = await post("pause");
  expect(paused.statusCode).toBe(200);
  expect(paused.json()).toMatchObject({ id, status: "paused", finished_at: null, error: null });
  expect((await get(server, `/${id}/events`)).data[0]?.message).toBe("Fine-tuning job paused");
  expect((await post("resume")).json()).toMatchObject({ id, status: "queued" });
  expect((await get(server, `/${id}/events`)).data[0]?.message).toBe("Fine-tuning job resumed");
});

test("cancelling takes the job from its worker at once, and only once", async () => {
  let woken = 0;
  const worker = { start: () => {}, wake: () => void woken++, stop: async () => {} };
  const server = await testServer({}, { createWorker: () => worker });
  const { id } = await createdJob(server);
  expect(woken).toBe(1);
  const lease = { jobId: id, owner: "worker" };
  await server.stores.queue.claim(lease.owner, Date.now() + 60_000);
  const cancelled = await server.app.inject({ method: "POST", url: `/v1/fine_tuning/jobs/${id}/cancel` });
  expect(cancelled.json()).toMatchObject({ status: "cancelled", finished_at: null, error: null });
  expect(woken).toBe(2);
  expect(await server.stores.queue.heartbeat(id, lease.owner, Date.now() + 60_000)).toBe("cancelled");
  expect(await server.stores.queue.appendEvents(lease, [{ message: "late" }])).toBe(false);
  expect((await get(server, `/${id}/events`)).data[0]?.message).toBe("Fine-tuning job cancelled");
  const again = await server.app.inject({ method: "POST", url: `/v1/fine_tuning/jobs/${id}/cancel` });
  expect(again.statusCode).toBe(400);
  expect(again.json()).toMatchObject({
    error: {
      message: `Job ${id} has already ended with status 'cancelled' and cannot be cancelled.`,
      param: null,
    },
  });
});

test("lists of jobs and events go newest first and have neither first_id nor last_id", async () => {
  const server = await testServer();
  const ids: string[] = [];
  for (let index = 0; index < 3; index++)
    ids.unshift((await createdJob(server, { metadata: { n: `${index}` } })).id);
  const first = await get(server, "?limit=2");
  expect(Object.keys(first).sort()).toEqual(["data", "has_more", "object"]);
  expect(first.data.map(({ id }) => id)).toEqual(ids.slice(0, 2));
  expect(first.has_more).toBe(true);
  const second = await get(server, `?limit=2&after=${ids[1]}`);
  expect(second.data.map(({ id }) => id)).toEqual(ids.slice(2));
  expect(second.has_more).toBe(false);
  expect((await get(server, "?metadata[n]=1")).data.map(({ id }) => id)).toEqual([ids[1]]);
  expect((await get(server, "?metadata=null")).data).toEqual([]);
  const plain = (await createdJob(server)).id;
  expect((await get(server, "?metadata=null")).data.map(({ id }) => id)).toEqual([plain]);
  const client = new OpenAI({ baseURL: `${await server.listen()}/v1`, apiKey: "any" });
  for (const metadata of [null, { n: "0" }]) {
    const { data } = await client.fineTuning.jobs.list({ metadata });
    expect(data.map(({ id }) => id)).toEqual([metadata === null ? plain : ids[2]]);
  }
  expect((await get(server, "?metadata=")).data.map(({ id }) => id)).toEqual([plain]);
  for (const both of ["?metadata=null&metadata[team]=a", "?metadata[team]=a&metadata="]) {
    expect((await server.app.inject(`/v1/fine_tuning/jobs${both}`)).json()).toMatchObject({
      error: {
        message:
          "Invalid 'metadata': expected pairs as metadata[key]=value, or metadata=null, but got both. Send one of them.",
        param: "metadata",
        code: "invalid_value",
      },
    });
  }
  const events = await get(server, `/${ids[0]}/events?limit=1`);
  expect(events.has_more).toBe(true);
  const rest = await get(server, `/${ids[0]}/events?limit=1&after=${events.data[0]?.id}`);
  expect(rest.data[0]?.message).toBe(`Created fine-tuning job: ${ids[0]}`);
});

test.each(["", "/cancel", "/pause", "/resume", "/events", "/checkpoints"])(
  "an unknown job's address%s answers 404",
  async (end) => {
    const server = await testServer();
    const method = ["/cancel", "/pause", "/resume"].includes(end) ? "POST" : "GET";
    const answer = await server.app.inject({ method, url: `/v1/fine_tuning/jobs/ftjob-nobody${end}` });
    expect(answer.statusCode).toBe(404);
    expect(answer.json()).toEqual({
      error: {
        message: "Could not find fine tune: ftjob-nobody",
        type: "invalid_request_error",
        param: "fine_tune_id",
        code: "fine_tune_not_found",
      },
    });
  },
);

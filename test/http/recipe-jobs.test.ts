// Our additions beside a job's hyperparameters, as clients send them through `extra_body`: echoed where they were given, absent where
// not, and every wrong one named.
import OpenAI from "openai";
import { expect, test } from "vitest";
import { jobEventObject, jobObject } from "../../src/wire/fine-tuning.ts";
import { testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

async function create(server: TestServer, members: object) {
  const { id } = await upload(server);
  const payload = { model: "gpt-4o-mini", training_file: id, ...members };
  return server.app.inject({ method: "POST", url: "/v1/fine_tuning/jobs", payload });
}

const supervised = (hyperparameters: object) => ({
  method: { type: "supervised", supervised: { hyperparameters } },
});
const AUTO = { n_epochs: "auto", batch_size: "auto", learning_rate_multiplier: "auto" };
const ADDITIONS = {
  lora: { rank: 4, alpha: 8, dropout: 0.1, target_modules: ["v_proj", "q_proj"] },
  max_length: 512,
  early_stopping: { patience: 2 },
  warmup_ratio: 0.1,
  weight_decay: 0.01,
};

test("additions are echoed and stand in the first event; a job without them shows none", async () => {
  const server = await testServer();
  const validation = (await upload(server)).id;
  const answer = await create(server, { ...supervised(ADDITIONS), validation_file: validation });
  expect(answer.statusCode, answer.body).toBe(200);
  const job = jobObject.strict().parse(answer.json());
  expect(job.method).toEqual({
    type: "supervised",
    supervised: { hyperparameters: { ...AUTO, ...ADDITIONS } },
  });
  expect(job.hyperparameters).toEqual({ ...AUTO, ...ADDITIONS });
  const events = await server.app.inject(`/v1/fine_tuning/jobs/${job.id}/events`);
  const first = jobEventObject.parse(events.json<{ data: unknown[] }>().data.at(-1));
  expect(first.data).toMatchObject(ADDITIONS);

  const plain = jobObject.parse((await create(server, {})).json());
  expect(plain.hyperparameters).toEqual(AUTO);
});

test("the official client carries them in extra_body, at both places and for dpo", async () => {
  const server = await testServer();
  const url = await server.app.listen({ port: 0, host: "127.0.0.1" });
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "not-needed" });
  const training_file = (await upload(server)).id;
  const lora = { rank: 16 };
  const body = { model: "gpt-4o-mini", training_file, hyperparameters: { n_epochs: 2, lora } };
  const legacy = await client.fineTuning.jobs.create(body);
  expect(legacy.hyperparameters).toEqual({ ...AUTO, n_epochs: 2, lora });
  const dpo = await client.fineTuning.jobs.create({
    model: "gpt-4o-mini",
    training_file,
    method: { type: "dpo", dpo: { hyperparameters: { beta: 0.2, ...{ lora, max_length: 64 } } } },
  });
  expect(dpo.method?.dpo?.hyperparameters).toEqual({ ...AUTO, beta: 0.2, lora, max_length: 64 });
});

const AT = "method.supervised.hyperparameters";

test.each([
  [
    { lora: { rank: 0 } },
    `${AT}.lora.rank`,
    "integer_below_min_value",
    `Invalid '${AT}.lora.rank': integer below minimum value. Expected a value >= 1, but got 0 instead.`,
  ],
  [
    { lora: { rank: 257 } },
    `${AT}.lora.rank`,
    "integer_above_max_value",
    `Invalid '${AT}.lora.rank': integer above maximum value. Expected a value <= 256, but got 257 instead.`,
  ],
  [
    { lora: { dropout: 1 } },
    `${AT}.lora.dropout`,
    "decimal_above_max_value",
    `Invalid '${AT}.lora.dropout': decimal above maximum value. Expected a value <= 0.9, but got 1 instead.`,
  ],
  [
    { lora: { target_modules: ["lm_head"] } },
    `${AT}.lora.target_modules[0]`,
    "invalid_value",
    `Invalid value for '${AT}.lora.target_modules[0]': 'lm_head'. Supported values are: 'q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'.`,
  ],
  [
    { lora: { target_modules: ["q_proj", "q_proj"] } },
    `${AT}.lora.target_modules`,
    "invalid_value",
    `Invalid '${AT}.lora.target_modules': expected each layer once, but got 'q_proj' twice.`,
  ],
  [
    { lora: { use_dora: true } },
    `${AT}.lora.use_dora`,
    "unknown_parameter",
    `Unknown parameter: '${AT}.lora.use_dora'.`,
  ],
  [
    { max_length: 15 },
    `${AT}.max_length`,
    "integer_below_min_value",
    `Invalid '${AT}.max_length': integer below minimum value. Expected a value >= 16, but got 15 instead.`,
  ],
  [
    { packing: true },
    `${AT}.packing`,
    "unsupported_parameter",
    `Unsupported parameter: '${AT}.packing': rows of different lengths share a pass here without padding, so there is nothing to pack. Leave it out or send null or false.`,
  ],
  [
    { early_stopping: { patience: 1 } },
    `${AT}.early_stopping`,
    "invalid_value",
    `Invalid '${AT}.early_stopping': it watches the full validation loss, and this job has no 'validation_file'. Send one, or leave it out.`,
  ],
  [
    { warmup_ratio: 0.6 },
    `${AT}.warmup_ratio`,
    "decimal_above_max_value",
    `Invalid '${AT}.warmup_ratio': decimal above maximum value. Expected a value <= 0.5, but got 0.6 instead.`,
  ],
])("refuses %j", async (hyperparameters, param, code, message) => {
  const server = await testServer();
  const answer = await create(server, supervised(hyperparameters));
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toEqual({ error: { type: "invalid_request_error", message, param, code } });
});

test("both places must agree on additions too", async () => {
  const server = await testServer();
  const same = await create(server, {
    ...supervised({ lora: { rank: 4 } }),
    hyperparameters: { lora: { rank: 4 }, packing: false },
  });
  expect(same.statusCode, same.body).toBe(200);
  const answer = await create(server, {
    ...supervised({ lora: { rank: 4 } }),
    hyperparameters: { lora: { rank: 8 } },
  });
  expect(answer.json()).toMatchObject({
    error: {
      param: "hyperparameters.lora",
      message: `Invalid 'hyperparameters.lora': {"rank":8} contradicts '${AT}.lora', which is {"rank":4}. Send only the latter.`,
    },
  });
});

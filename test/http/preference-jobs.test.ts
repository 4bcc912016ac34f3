// Jobs by preference (DPO) as the API shows them: what is asked for comes back, the legacy member is null, and every wrong member
// is named.
import { expect, test } from "vitest";
import { jobObject } from "../../src/wire/fine-tuning.ts";
import { testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

async function create(server: TestServer, members: object) {
  const { id } = await upload(server);
  const payload = { model: "gpt-4o-mini", training_file: id, ...members };
  return server.app.inject({ method: "POST", url: "/v1/fine_tuning/jobs", payload });
}

async function createdJob(server: TestServer, members: object) {
  const answer = await create(server, members);
  expect(answer.statusCode, answer.body).toBe(200);
  return jobObject.strict().parse(answer.json());
}

const dpo = (hyperparameters: object) => ({ method: { type: "dpo", dpo: { hyperparameters } } });

test("a job by preference echoes its method, and null where supervised jobs have their hyperparameters", async () => {
  const server = await testServer();
  const job = await createdJob(server, dpo({ n_epochs: 2, beta: 0.3 }));
  const found = await server.app.inject(`/v1/fine_tuning/jobs/${job.id}`);
  expect(found.json()).toEqual(job);
  expect(job.hyperparameters).toBeNull();
  expect(job.method).toEqual({
    type: "dpo",
    dpo: {
      hyperparameters: { n_epochs: 2, batch_size: "auto", learning_rate_multiplier: "auto", beta: 0.3 },
    },
  });
});

test("what is left out is auto, and what the other methods hold means nothing", async () => {
  const server = await testServer();
  const others = [
    {
      supervised: { hyperparameters: { n_epochs: 9 } },
      reinforcement: { grader: { type: "string_check" } },
    },
    { supervised: { foo: 1 }, reinforcement: 7 },
    { supervised: { hyperparameters: { n_epochs: "many" } } },
  ];
  const auto = { n_epochs: "auto", batch_size: "auto", learning_rate_multiplier: "auto", beta: "auto" };
  for (const given of [{}, { dpo: {} }, { dpo: null }, { dpo: { hyperparameters: null } }]) {
    for (const other of others) {
      const job = await createdJob(server, { method: { type: "dpo", ...other, ...given } });
      expect(job.method).toEqual({ type: "dpo", dpo: { hyperparameters: auto } });
    }
  }
});

test.each([
  [
    dpo({ beta: 0 }),
    "method.dpo.hyperparameters.beta",
    "decimal_below_min_value",
    "Invalid 'method.dpo.hyperparameters.beta': decimal below minimum value. Expected a value > 0, but got 0 instead.",
  ],
  [
    dpo({ beta: 2.1 }),
    "method.dpo.hyperparameters.beta",
    "decimal_above_max_value",
    "Invalid 'method.dpo.hyperparameters.beta': decimal above maximum value. Expected a value <= 2, but got 2.1 instead.",
  ],
  [
    dpo({ loss: "ipo" }),
    "method.dpo.hyperparameters.loss",
    "unknown_parameter",
    "Unknown parameter: 'method.dpo.hyperparameters.loss'.",
  ],
  [
    { ...dpo({}), hyperparameters: { n_epochs: 1 } },
    "hyperparameters",
    "invalid_value",
    "Invalid 'hyperparameters': it is for supervised jobs alone, and this job's method is 'dpo'. Send 'method.dpo.hyperparameters' in its place.",
  ],
  [
    { method: { type: "supervised", supervised: { hyperparameters: { beta: 1 } } } },
    "method.supervised.hyperparameters.beta",
    "unknown_parameter",
    "Unknown parameter: 'method.supervised.hyperparameters.beta'.",
  ],
])("%j is refused", async (members, param, code, message) => {
  const server = await testServer();
  const response = await create(server, members);
  expect(response.statusCode).toBe(400);
  expect(response.json()).toEqual({ error: { message, type: "invalid_request_error", param, code } });
});

// POST /tunesmith/preflight: the report of a job that does not exist yet, its refusals, and who may ask for it.
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { preflightObject } from "../../src/wire/preflight.ts";
import { BASE_MODEL, createKey, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const row = (i: number) =>
  JSON.stringify({
    messages: [
      { role: "user", content: `Question ${i}` },
      { role: "assistant", content: `The answer ${i}` },
    ],
  });
const good = Array.from({ length: 10 }, (_, i) => row(i)).join("\n");

const ask = (server: TestServer, payload: object, headers: Record<string, string> = {}) =>
  server.app.inject({ method: "POST", url: "/tunesmith/preflight", payload, headers });

test("the report of a good job on a model that is here", async () => {
  const home = mkdtempSync(join(tmpdir(), "tunesmith-preflight-"));
  await makeTinyModel(join(home, "models", BASE_MODEL));
  const server = await testServer({ homeDirectory: home });
  const [training, validation] = [await upload(server, good), await upload(server, row(3))];
  const answer = await ask(server, {
    model: "gpt-4o-mini",
    training_file: training.id,
    validation_file: validation.id,
    method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 4, batch_size: 5 } } },
  });
  expect(answer.statusCode).toBe(200);
  const report = preflightObject.parse(answer.json());
  expect(report).toMatchObject({
    base_model: BASE_MODEL,
    trainable: true,
    fault_count: 0,
    findings: [{ kind: "leakage", param: "validation_file", count: 1 }],
    files: [
      { param: "training_file", examples: 10, tokens: { end_token_rows: 10 } },
      { param: "validation_file", examples: 1 },
    ],
    cost: { n_epochs: 4, batch_size: 5, steps: 8, seconds_from: "assumed" },
    limits: [],
  });
  const { cost } = report;
  const mini = cost?.openai.prices.find(({ model }) => model === "gpt-4o-mini-2024-07-18");
  expect(mini?.usd).toBeCloseTo(((cost?.trained_tokens ?? NaN) * 3) / 1e6, 2);
});

test("what the recipe changes counts: where rows are cut, how many parameters; more than the model reads is refused", async () => {
  const home = mkdtempSync(join(tmpdir(), "tunesmith-preflight-"));
  await makeTinyModel(join(home, "models", BASE_MODEL));
  const server = await testServer({ homeDirectory: home });
  const training = await upload(server, good);
  const report = async (hyperparameters: object) => {
    const method = { type: "supervised", supervised: { hyperparameters } };
    return ask(server, { model: BASE_MODEL, training_file: training.id, method });
  };
  const plain = preflightObject.parse((await report({})).json());
  const cut = (plain.files[0]?.tokens?.per_row.max ?? NaN) - 1;
  const changed = preflightObject.parse(
    (await report({ lora: { rank: 16, target_modules: ["q_proj"] }, max_length: cut })).json(),
  );
  const twice = preflightObject.parse((await report({ lora: { rank: 16 } })).json());
  expect(twice.cost?.trainable_parameters).toBe(2 * (plain.cost?.trainable_parameters ?? NaN));
  expect(changed.cost?.trainable_parameters).toBeLessThan(plain.cost?.trainable_parameters ?? NaN);
  expect(changed.files[0]?.tokens?.max_length).toBe(cut);
  expect(changed.files[0]?.tokens?.truncated_rows).toBe(10);
  const refused = await report({ max_length: 8192 });
  expect(refused.statusCode).toBe(400);
  expect(refused.json()).toMatchObject({
    error: {
      code: "max_length_above_context",
      param: "method.supervised.hyperparameters.max_length",
    },
  });
});

test("without the model on this machine: the data is judged, and what is missing is said", async () => {
  const server = await testServer();
  const training = await upload(server, `${good}\nnope`);
  const report = preflightObject.parse(
    (await ask(server, { model: BASE_MODEL, training_file: training.id })).json(),
  );
  expect(report).toMatchObject({
    base_model: null,
    cost: null,
    trainable: false,
    fault_count: 1,
    faults: [{ param: "training_file", line: 11, expected: "one JSON object a line" }],
  });
  expect(report.limits[0]).toContain("not on this machine");
});

test("what creating the job would refuse is refused in the same words", async () => {
  const server = await testServer();
  const training = await upload(server, good);
  const bodies = [
    { training_file: training.id, model: "no-such" },
    { training_file: "file-x", model: BASE_MODEL },
    { training_file: training.id, model: BASE_MODEL, n_epochs: 3 },
    { training_file: training.id, model: BASE_MODEL, integrations: [{ type: "wandb" }] },
  ];
  for (const payload of bodies) {
    const refused = await ask(server, payload);
    expect(refused.statusCode).toBe(400);
    const created = await server.app.inject({ method: "POST", url: "/v1/fine_tuning/jobs", payload });
    expect(refused.json()).toEqual(created.json());
  }
});

test("preference pairs are judged by their own rules, and cost what both answers take", async () => {
  const home = mkdtempSync(join(tmpdir(), "tunesmith-preflight-"));
  await makeTinyModel(join(home, "models", BASE_MODEL));
  const server = await testServer({ homeDirectory: home });
  const pair = (i: number) => {
    const answer = (content: string) => [{ role: "assistant", content }];
    return JSON.stringify({
      input: { messages: [{ role: "user", content: `Question ${i}` }] },
      preferred_output: answer(`A long answer to question ${i}`),
      non_preferred_output: answer(`No ${i}`),
    });
  };
  const training = await upload(server, Array.from({ length: 24 }, (_, i) => pair(i)).join("\n"));
  const judged = async (method: object) => {
    const answer = await ask(server, { model: BASE_MODEL, training_file: training.id, method });
    expect(answer.statusCode).toBe(200);
    return preflightObject.parse(answer.json());
  };
  const hyperparameters = { n_epochs: 2, batch_size: 6 };
  const report = await judged({ type: "dpo", dpo: { hyperparameters } });
  expect(report).toMatchObject({
    trainable: true,
    findings: [{ kind: "preferred_by_length", count: 24 }],
    files: [{ examples: 24, tokens: { per_row: { count: 48 }, end_token_rows: 48 } }],
    cost: { n_epochs: 2, batch_size: 6, steps: 8 },
  });
  // As chats they are in another format.
  expect(await judged({ type: "supervised", supervised: { hyperparameters } })).toMatchObject({
    trainable: false,
    files: [{ examples: 0, bad_lines: 24 }],
  });
});

test("another project's file is unknown, and the scope is train", async () => {
  const server = await testServer();
  const admin = await createKey(server, { scopes: ["admin", "read", "train", "infer"] });
  const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
  const project = await server.app.inject({
    method: "POST",
    url: "/tunesmith/projects",
    payload: { name: "other" },
    headers: bearer(admin.key),
  });
  const other = await server.app.inject({
    method: "POST",
    url: "/tunesmith/keys",
    payload: { project_id: project.json<{ id: string }>().id, scopes: ["train"] },
    headers: bearer(admin.key),
  });
  const reader = await server.app.inject({
    method: "POST",
    url: "/tunesmith/keys",
    payload: { scopes: ["read", "infer"] },
    headers: bearer(admin.key),
  });
  const training = await upload(server, good, { headers: bearer(admin.key) });
  const payload = { model: BASE_MODEL, training_file: training.id };
  const status = async (key: string) => (await ask(server, payload, bearer(key))).statusCode;
  expect(await status(admin.key)).toBe(200);
  expect(await status(other.json<{ key: string }>().key)).toBe(400);
  expect(await status(reader.json<{ key: string }>().key)).toBe(403);
});

test("the server goes on answering while it checks a large file, and checks two at a time", async () => {
  const server = await testServer();
  const many = Array.from({ length: 4_000 }, (_, i) => row(i)).join("\n");
  const training = await upload(server, many);
  const payload = { model: BASE_MODEL, training_file: training.id };
  const checks = [ask(server, payload), ask(server, payload), ask(server, payload)];
  let answered = 0;
  let isDone = false;
  const watch = (async () => {
    while (!isDone) {
      // A request that injects itself never lets go of the turn by itself.
      await nextTurn();
      if ((await server.app.inject("/healthz")).statusCode === 200) answered += 1;
    }
  })();
  const statuses = (await Promise.all(checks)).map(({ statusCode }) => statusCode);
  isDone = true;
  await watch;
  expect(statuses.sort()).toEqual([200, 200, 503]);
  expect(answered).toBeGreaterThan(3);
});

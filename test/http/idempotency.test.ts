// Idempotency-Key: a creation sent twice is carried out once, for JSON and for uploads, also after a restart.
import { setTimeout as delay } from "node:timers/promises";
import OpenAI from "openai";
import { expect, test } from "vitest";
import { createServer } from "../../src/main.ts";
import { loadConfig } from "../../src/config.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";
import { BASE_MODEL, createKey, form, messages, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

type Injected = Pick<TestServer, "app">;

const named = (key: string) => ({ "idempotency-key": key });

const createJob = async (
  server: Injected,
  file: string,
  headers: Record<string, string>,
  more: object = {},
) =>
  server.app.inject({
    method: "POST",
    url: "/v1/fine_tuning/jobs",
    payload: { model: BASE_MODEL, training_file: file, ...more },
    headers,
  });

const uploadFile = (server: Injected, content: string, headers: Record<string, string>) => {
  const { payload, headers: type } = form([
    { name: "file", filename: "a.jsonl", content },
    { name: "purpose", value: "fine-tune" },
  ]);
  return server.app.inject({ method: "POST", url: "/v1/files", payload, headers: { ...type, ...headers } });
};

const countOf = async (server: Injected, url: string) =>
  (await server.app.inject(url)).json<{ data: unknown[] }>().data.length;

const errorOf = (answer: { json: <T>() => T }) => answer.json<{ error: Record<string, unknown> }>().error;

test("the same request with the same key gets the same answer, and one job is made", async () => {
  const server = await testServer();
  const file = await upload(server);
  const first = await createJob(server, file.id, named("a"));
  const second = await createJob(server, file.id, named("a"));
  expect(second.statusCode).toBe(200);
  expect(second.body).toBe(first.body);
  expect(second.headers).toMatchObject({
    "idempotent-replayed": "true",
    "content-type": "application/json; charset=utf-8",
  });
  expect(first.headers["idempotent-replayed"]).toBeUndefined();
  expect(second.headers["x-request-id"]).not.toBe(first.headers["x-request-id"]);
  expect(await countOf(server, "/v1/fine_tuning/jobs")).toBe(1);
  await createJob(server, file.id, named("b"));
  await createJob(server, file.id, {});
  expect(await countOf(server, "/v1/fine_tuning/jobs")).toBe(3);
});

test("an upload sent twice is one file, and its second bytes are not kept", async () => {
  const server = await testServer();
  const first = await uploadFile(server, "one\n", named("a"));
  const second = await uploadFile(server, "one\n", named("a"));
  expect(second.body).toBe(first.body);
  expect(await countOf(server, "/v1/files")).toBe(1);
  const other = await uploadFile(server, "two\n", named("a"));
  expect([other.statusCode, errorOf(other)["code"]]).toEqual([400, "idempotency_key_reused"]);
  const blobs = await server.stores.blobs.sweep(
    (ids) => server.stores.files.liveAmong(ids),
    Date.now() + 7_200_000,
  );
  expect(blobs).toBe(0);
});

test("members in another order are the same request, elements of a list are not", async () => {
  const server = await testServer();
  const file = await upload(server);
  const create = (payload: object) =>
    server.app.inject({ method: "POST", url: "/v1/fine_tuning/jobs", payload, headers: named("a") });
  const method = (hyperparameters: object) => ({ type: "supervised", supervised: { hyperparameters } });
  const first = await create({
    model: BASE_MODEL,
    training_file: file.id,
    method: method({ n_epochs: 2, lora: { target_modules: ["q_proj", "v_proj"] } }),
  });
  expect(first.statusCode).toBe(200);
  const second = await create({
    method: method({ lora: { target_modules: ["q_proj", "v_proj"] }, n_epochs: 2 }),
    training_file: file.id,
    model: BASE_MODEL,
  });
  expect(second.body).toBe(first.body);
  expect(second.headers["idempotent-replayed"]).toBe("true");
  const third = await create({
    model: BASE_MODEL,
    training_file: file.id,
    method: method({ n_epochs: 2, lora: { target_modules: ["v_proj", "q_proj"] } }),
  });
  expect(errorOf(third)["code"]).toBe("idempotency_key_reused");
});

test.each([
  ["another body", { seed: 5 }],
  ["a body that is wrong", { nonsense: 1 }],
])("a key used again for %s is refused", async (_name, more) => {
  const server = await testServer();
  const file = await upload(server);
  await createJob(server, file.id, named("a"));
  const answer = await createJob(server, file.id, named("a"), more);
  expect(answer.statusCode).toBe(400);
  expect(errorOf(answer)).toEqual({
    message:
      "This 'Idempotency-Key' was used for another request within the last 24 hours: address and content must be the same. Send a new key for a new request.",
    type: "invalid_request_error",
    param: null,
    code: "idempotency_key_reused",
  });
  const elsewhere = await uploadFile(server, "one\n", named("a"));
  expect(errorOf(elsewhere)["code"]).toBe("idempotency_key_reused");
});

test("a request that failed made nothing and frees its key", async () => {
  const server = await testServer();
  expect((await createJob(server, "file-nobody", named("a"))).statusCode).toBe(400);
  const file = await upload(server);
  expect((await createJob(server, file.id, named("a"))).statusCode).toBe(200);
});

test("a duplicate of a request in flight is told to come back", async () => {
  const server = await testServer();
  const file = await upload(server);
  const jobs = await Promise.all(Array.from({ length: 8 }, () => createJob(server, file.id, named("a"))));
  expect(await countOf(server, "/v1/fine_tuning/jobs")).toBe(1);
  expect(jobs.filter(({ statusCode }) => statusCode === 200).length).toBeGreaterThan(0);
  expect(jobs.every(({ statusCode }) => [200, 409].includes(statusCode))).toBe(true);

  await server.stores.idempotency.claim(DEFAULT_PROJECT, "begun", "another fingerprint");
  expect(errorOf(await createJob(server, file.id, named("begun")))["code"]).toBe("idempotency_key_reused");
});

test("while the first is at work, its duplicate gets a 409 that is worth repeating", async () => {
  const server = await testServer();
  const file = await upload(server);
  // Holds the first request between its claim and its answer.
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  const { idempotency } = server.stores;
  const answer = idempotency.answer.bind(idempotency);
  idempotency.answer = async (...given) => {
    await held;
    return answer(...given);
  };
  const first = createJob(server, file.id, named("a"));
  while ((await countOf(server, "/v1/fine_tuning/jobs")) === 0) await delay(5);
  const second = await createJob(server, file.id, named("a"));
  expect(second.statusCode).toBe(409);
  expect(second.headers).toMatchObject({ "x-should-retry": "true", "retry-after": "1" });
  expect(errorOf(second)).toMatchObject({
    code: "idempotency_key_in_use",
    message:
      "The same request, with the same 'Idempotency-Key', is being carried out. Send it again in a moment to get its answer.",
  });
  release();
  const { body } = await first;
  expect((await createJob(server, file.id, named("a"))).body).toBe(body);
});

test("answers survive a restart; what was begun and never answered is not repeated", async () => {
  const server = await testServer();
  const file = await upload(server);
  const first = await createJob(server, file.id, named("a"));
  const { idempotency } = server.stores;
  // As after kill -9: the job is there, its answer is not.
  idempotency.answer = async () => {};
  await createJob(server, file.id, named("b"));
  await server.stop();
  const config = loadConfig({ port: 0, logLevel: "silent", homeDirectory: server.home }, {});
  const next = await createServer(config, {
    engine: server.engine,
    createWorker: null,
  });
  expect((await createJob(next, file.id, named("a"))).body).toBe(first.body);
  const lost = await createJob(next, file.id, named("b"));
  expect(lost.statusCode).toBe(409);
  expect(lost.headers["x-should-retry"]).toBe("false");
  expect(errorOf(lost)).toMatchObject({
    code: "idempotency_answer_lost",
    message:
      "A request with this 'Idempotency-Key' was begun, but its answer was not kept: the server failed or stopped in between, or the answer was too large. It is not repeated, as it may have taken effect. Look at the list of these objects; to create another, send a new key.",
  });
  expect(await countOf(next, "/v1/fine_tuning/jobs")).toBe(2);
  await next.stop();
});

test("a key stands for 24 hours", async () => {
  let now = 1_800_000_000_000;
  const server = await testServer({}, { now: () => now });
  await uploadFile(server, "one\n", named("a"));
  now += 24 * 3_600_000 - 1000;
  expect((await uploadFile(server, "one\n", named("a"))).headers["idempotent-replayed"]).toBe("true");
  now += 1000;
  expect((await uploadFile(server, "one\n", named("a"))).headers["idempotent-replayed"]).toBeUndefined();
  expect(await countOf(server, "/v1/files")).toBe(2);
});

test("each project has its own keys", async () => {
  const server = await testServer();
  await server.stores.projects.create({ id: "proj_two", name: "Two" });
  await uploadFile(server, "one\n", named("a"));
  const theirs = await uploadFile(server, "other\n", { ...named("a"), "openai-project": "proj_two" });
  expect(theirs.statusCode).toBe(200);
});

test.each([
  ["", "empty"],
  ["x".repeat(256), "long"],
  ["a b", "with a space"],
])("the key %j is none", async (key) => {
  const server = await testServer();
  for (const answer of [
    await createJob(server, "file-x", named(key)),
    await uploadFile(server, "one\n", named(key)),
  ]) {
    expect(answer.statusCode).toBe(400);
    expect(errorOf(answer)["message"]).toBe(
      "Invalid 'Idempotency-Key': expected 1 to 255 visible ASCII characters.",
    );
  }
  expect(await countOf(server, "/v1/files")).toBe(0);
});

const idOf = (answer: { json: <T>() => T }) => answer.json<{ id: string }>().id;

test.each<[string, string, object]>([
  ["a stored chat completion", "/v1/chat/completions", { messages, store: true }],
  ["a stored response", "/v1/responses", { input: "Hi" }],
  ["a response in the background", "/v1/responses", { input: "Hi", background: true }],
])("%s is made once, whatever its retries", async (_name, url, body) => {
  const server = await testServer();
  const send = (key: string) =>
    server.app.inject({
      method: "POST",
      url,
      payload: { model: BASE_MODEL, ...body },
      headers: named(key),
    });
  const [first, second, other] = [await send("a"), await send("a"), await send("b")];
  expect(second.body).toBe(first.body);
  expect(second.headers["idempotent-replayed"]).toBe("true");
  expect(idOf(other)).not.toBe(idOf(first));
  await expect.poll(() => server.engine.requests.length).toBe(2);
  expect((await server.app.inject(`${url}/${idOf(first)}`)).statusCode).toBe(200);
});

test("a background response that could not begin frees its key", async () => {
  const server = await testServer();
  const send = (body: object) =>
    server.app.inject({
      method: "POST",
      url: "/v1/responses",
      payload: { model: BASE_MODEL, background: true, ...body },
      headers: named("a"),
    });
  expect((await send({ input: "Hi", previous_response_id: "resp_nobody" })).statusCode).toBe(400);
  expect((await send({ input: "Hi" })).statusCode).toBe(200);
});

test.each<[string, string, object]>([
  ["chat that is not stored", "/v1/chat/completions", { messages }],
  ["a stream of a stored chat completion", "/v1/chat/completions", { messages, store: true, stream: true }],
  ["a response that is not stored", "/v1/responses", { input: "Hi", store: false }],
  ["a stream of a response", "/v1/responses", { input: "Hi", stream: true }],
  ["a legacy completion", "/v1/completions", { prompt: "Hi" }],
])("%s takes no notice of the key", async (_name, url, body) => {
  const server = await testServer();
  const send = () =>
    server.app.inject({
      method: "POST",
      url,
      payload: { model: BASE_MODEL, ...body },
      headers: named("a"),
    });
  const [one, two] = [await send(), await send()];
  expect([one.statusCode, two.statusCode]).toEqual([200, 200]);
  expect(two.headers["idempotent-replayed"]).toBeUndefined();
  expect(server.engine.requests.length + server.engine.textRequests.length).toBe(2);
});

test("the answer with an API key's secret is never kept", async () => {
  const server = await testServer();
  const refused = await server.app.inject({
    method: "POST",
    url: "/tunesmith/keys",
    payload: { scopes: ["admin"] },
    headers: named("a"),
  });
  expect(refused.statusCode).toBe(400);
  expect(errorOf(refused)["message"]).toContain("'Idempotency-Key' cannot be used here");
  expect((await createKey(server, { scopes: ["admin"] })).key).toMatch(/^sk-/);
});

test("the official client's retries with a key make one job", async () => {
  const server = await testServer();
  const file = await upload(server);
  const client = new OpenAI({ baseURL: `${await server.listen()}/v1`, apiKey: "any", maxRetries: 3 });
  const create = () =>
    client.fineTuning.jobs.create(
      { model: BASE_MODEL, training_file: file.id },
      { headers: { "Idempotency-Key": "once" } },
    );
  const jobs = await Promise.all([create(), create(), create()]);
  expect(new Set(jobs.map(({ id }) => id)).size).toBe(1);
});

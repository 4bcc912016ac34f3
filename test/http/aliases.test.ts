// Aliases over HTTP: making, moving, rolling back, trying out a second model, and what clients see of it.
import { expect, test } from "vitest";
import type { AliasMoveObject, AliasObject, ComparisonObject } from "../../src/wire/aliases.ts";
import type { ChatCompletion } from "../../src/wire/chat.ts";
import type { ListWithIds } from "../../src/wire/list.ts";
import { BASE_MODEL, messages, succeedJob, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

let models = 0;

async function newModel(server: TestServer): Promise<string> {
  const { id } = await upload(server);
  models += 1;
  const payload = { model: BASE_MODEL, training_file: id, suffix: `v${models}` };
  const job = await server.app.inject({ method: "POST", url: "/v1/fine_tuning/jobs", payload });
  return (await succeedJob(server, job.json<{ id: string }>().id)).model;
}

type Answer = Awaited<ReturnType<typeof send>>;

async function send(server: TestServer, method: "GET" | "POST" | "DELETE", path: string, payload?: object) {
  const url = path.startsWith("/v1/") ? path : `/tunesmith/aliases${path}`;
  return server.app.inject({ method, url, ...(payload === undefined ? {} : { payload }) });
}

const errorOf = (answer: Answer) => answer.json<{ error: { message: string; param: string | null } }>().error;

async function ask(server: TestServer, model: string, more: object = {}): Promise<ChatCompletion> {
  const answer = await send(server, "POST", "/v1/chat/completions", { model, messages, ...more });
  expect(answer.statusCode, answer.body).toBe(200);
  return answer.json<ChatCompletion>();
}

/** Answers with the name of the model that is asked. */
function answerByName(server: TestServer): void {
  server.engine.answer = async function* ({ model, n }) {
    yield { type: "prompt", promptTokens: 7 };
    for (let index = 0; index < n; index++) {
      yield { type: "text-delta", index, text: `I am ${model.id}` };
      yield { type: "finish", index, reason: "stop", completionTokens: 3 };
    }
  };
}

test("an alias answers as the model it leads to, is listed as a model, and can be moved", async () => {
  const server = await testServer();
  answerByName(server);
  const [first, second] = [await newModel(server), await newModel(server)];
  const name = "ft:gpt-4o-mini-2024-07-18:acme:triage:AbCdEf12";
  const made = await send(server, "POST", `/${name}`, { model: first });
  expect(made.json()).toMatchObject({ id: name, model: first, previous_model: null, candidate: null });
  expect((await ask(server, name)).model).toBe(first);

  await send(server, "POST", `/${name}`, { model: second, reason: "better on refunds" });
  const answer = await ask(server, name);
  expect(answer.model).toBe(second);
  expect(answer.choices[0]?.message.content).toBe(`I am ${second}`);

  const listed = (await send(server, "GET", "/v1/models")).json<{
    data: { id: string; tunesmith: object }[];
  }>();
  expect(listed.data[0]).toMatchObject({ id: name, tunesmith: { base_model: BASE_MODEL, alias_of: second } });
  const one = await send(server, "GET", `/v1/models/${encodeURIComponent(name)}`);
  expect(one.json()).toMatchObject({ id: name, tunesmith: { alias_of: second } });
  const responses = await send(server, "POST", "/v1/responses", { model: name, input: "Hi" });
  expect(responses.json()).toMatchObject({ model: second });
});

test("moves are logged, and rollbacks take them back one by one", async () => {
  const server = await testServer();
  const versions = [await newModel(server), await newModel(server), BASE_MODEL] as const;
  for (const model of versions) await send(server, "POST", "/triage", { model, reason: `now ${model}` });
  // To where it is already: no move.
  await send(server, "POST", "/triage", { model: BASE_MODEL });
  const back = async () =>
    (await send(server, "POST", "/triage/rollback", { reason: "worse" })).json<AliasObject>();
  expect(await back()).toMatchObject({ model: versions[1], previous_model: versions[0] });
  expect(await back()).toMatchObject({ model: versions[0], previous_model: null });
  const refused = await send(server, "POST", "/triage/rollback");
  expect(refused.statusCode).toBe(409);
  expect(errorOf(refused).message).toContain("nothing to roll back to");

  const log = (await send(server, "GET", "/triage/moves")).json<ListWithIds<AliasMoveObject>>().data;
  expect(
    log.map(({ action, from_model, to_model, reason }) => [action, from_model, to_model, reason]),
  ).toEqual([
    ["rolled_back", versions[1], versions[0], "worse"],
    ["rolled_back", BASE_MODEL, versions[1], "worse"],
    ["moved", versions[1], BASE_MODEL, `now ${BASE_MODEL}`],
    ["moved", versions[0], versions[1], `now ${versions[1]}`],
    ["created", null, versions[0], `now ${versions[0]}`],
  ]);
  expect(new Set(log.map(({ by }) => by))).toEqual(new Set(["owner"]));
});

test("the log names the key that moved an alias", async () => {
  const server = await testServer();
  const owner = await server.app.inject({
    ...{
      method: "POST",
      url: "/tunesmith/keys",
      payload: { name: "ci", scopes: ["admin", "train", "read"] },
    },
  });
  const { id, key } = owner.json<{ id: string; key: string }>();
  const headers = { authorization: `Bearer ${key}` };
  const payload = { model: BASE_MODEL };
  await server.app.inject({ method: "POST", url: "/tunesmith/aliases/a", payload, headers });
  const log = await server.app.inject({ url: "/tunesmith/aliases/a/moves", headers });
  expect(log.json<ListWithIds<AliasMoveObject>>().data[0]?.by).toBe(id);
});

test("a model that an alias leads to or tries out is not deleted, and the alias is no model to delete", async () => {
  const server = await testServer();
  const [first, second] = [await newModel(server), await newModel(server)];
  await send(server, "POST", "/triage", { model: first });
  await send(server, "POST", "/triage/candidate", { model: second, mode: "canary", percent: 50 });
  for (const model of [first, second]) {
    const refused = await send(server, "DELETE", `/v1/models/${model}`);
    expect(refused.statusCode).toBe(409);
    expect(errorOf(refused).message).toContain("'triage'");
  }
  const alias = await send(server, "DELETE", "/v1/models/triage");
  expect(alias.statusCode).toBe(403);
  expect(errorOf(alias).message).toContain("/tunesmith/aliases/triage");

  await send(server, "DELETE", "/triage/candidate");
  expect((await send(server, "DELETE", `/v1/models/${second}`)).statusCode).toBe(200);
  expect((await send(server, "DELETE", "/triage")).json()).toMatchObject({ deleted: true });
  expect((await send(server, "DELETE", `/v1/models/${first}`)).statusCode).toBe(200);
  expect((await send(server, "POST", "/v1/chat/completions", { model: "triage", messages })).statusCode).toBe(
    404,
  );
  const log = (await send(server, "GET", "/triage/moves")).json<ListWithIds<AliasMoveObject>>().data;
  expect(log[0]).toMatchObject({ action: "deleted", from_model: first });
});

test("a rollback to a model that was deleted since says so", async () => {
  const server = await testServer();
  const [first, second] = [await newModel(server), await newModel(server)];
  for (const model of [first, second]) await send(server, "POST", "/triage", { model });
  await send(server, "DELETE", `/v1/models/${first}`);
  const refused = await send(server, "POST", "/triage/rollback");
  expect(refused.statusCode).toBe(409);
  expect(errorOf(refused).message).toContain(first);
  expect((await send(server, "GET", "/triage")).json()).toMatchObject({ model: second });
});

test("names that lead somewhere already and models that are none are refused", async () => {
  const server = await testServer();
  const model = await newModel(server);
  await send(server, "POST", "/triage", { model });
  const refusals: [string, object, number, string][] = [
    ["/gpt-4o-mini", { model }, 409, "TUNESMITH_MODEL_ALIASES"],
    [`/${BASE_MODEL}`, { model }, 409, "already leads to a base model"],
    [`/${model}`, { model: BASE_MODEL }, 409, "fine-tuned model of this server"],
    ["/b", { model: "triage" }, 400, `Name the model it leads to now: '${model}'`],
    ["/b", { model: "ft:nothing:x::12345678" }, 404, "does not exist"],
    ["/b", { model: "all-minilm-l6-v2" }, 400, "makes embeddings"],
    ["/b%20c", { model }, 400, "Invalid alias"],
    ["/b", { model, percent: 3 }, 400, "percent"],
    ["/triage/candidate", { model, mode: "canary", percent: 10 }, 409, "already"],
    ["/triage/candidate", { model: BASE_MODEL, mode: "canary", percent: 0 }, 400, "percent"],
    ["/none/candidate", { model: BASE_MODEL, mode: "canary", percent: 10 }, 404, "No alias found"],
    ["/none/rollback", {}, 404, "No alias found"],
  ];
  for (const [path, body, status, text] of refusals) {
    const answer = await send(server, "POST", path, body);
    expect(answer.statusCode, `${path} ${answer.body}`).toBe(status);
    expect(errorOf(answer).message).toContain(text);
  }
  expect((await send(server, "GET", "/none/moves")).statusCode).toBe(404);
  expect((await send(server, "GET", "")).json<{ data: AliasObject[] }>().data.map(({ id }) => id)).toEqual([
    "triage",
  ]);
});

test("a canary answers users of its share, and becomes the alias's model by a move", async () => {
  const server = await testServer();
  answerByName(server);
  const [first, second] = [await newModel(server), await newModel(server)];
  await send(server, "POST", "/triage", { model: first });
  await send(server, "POST", "/triage/candidate", { model: second, mode: "canary", percent: 40 });
  const byUser = async (user: string) => (await ask(server, "triage", { user })).model;
  const users = Array.from({ length: 40 }, (_, i) => `user-${i}`);
  const answering = await Promise.all(users.map(byUser));
  expect(new Set(answering)).toEqual(new Set([first, second]));
  expect(await Promise.all(users.map(byUser))).toEqual(answering);
  const { candidate } = (await send(server, "POST", "/triage", { model: second })).json<AliasObject>();
  expect(candidate).toBeNull();
});

test("a shadow's answers are compared with the alias's own and reach no client", async () => {
  const server = await testServer();
  answerByName(server);
  const [first, second] = [await newModel(server), await newModel(server)];
  await send(server, "POST", "/triage", { model: first });
  await send(server, "POST", "/triage/candidate", { model: second, mode: "shadow", percent: 100 });
  expect((await ask(server, "triage")).choices[0]?.message.content).toBe(`I am ${first}`);
  const streamed = await send(server, "POST", "/v1/chat/completions", {
    model: "triage",
    messages,
    stream: true,
  });
  expect(streamed.body).not.toContain(second);

  const compared = async () => (await send(server, "GET", "/triage")).json<AliasObject>().candidate?.compared;
  await expect.poll(compared).toBe(2);
  const { data } = (await send(server, "GET", "/triage/comparisons")).json<ListWithIds<ComparisonObject>>();
  expect(data).toHaveLength(2);
  expect(data[0]).toMatchObject({
    ...{ model: first, candidate: second, equal: false, question: messages.at(-1)?.content },
    ...{ answer: `I am ${first}`, candidate_answer: `I am ${second}`, completion_tokens: 3 },
  });
  expect(data[0]?.similarity).toBeGreaterThan(0.5);
  expect(data[0]?.similarity).toBeLessThan(1);
  // The copy was asked with the same seed: only the model differs.
  const [own, copy] = server.engine.requests;
  expect(typeof own?.seed).toBe("number");
  expect(copy?.seed).toBe(own?.seed);
});

test("a shadow that fails costs its client nothing", async () => {
  const server = await testServer();
  const [first, second] = [await newModel(server), await newModel(server)];
  await send(server, "POST", "/triage", { model: first });
  await send(server, "POST", "/triage/candidate", { model: second, mode: "shadow", percent: 100 });
  answerByName(server);
  const byName = server.engine.answer;
  server.engine.answer = (request) => {
    if (request.model.id === second) throw new Error("broken adapter");
    return byName?.(request) ?? (async function* () {})();
  };
  expect((await ask(server, "triage")).model).toBe(first);
  expect((await ask(server, "triage")).model).toBe(first);
  expect((await send(server, "GET", "/triage")).json<AliasObject>().candidate).toMatchObject({
    ...{ compared: 0, mean_similarity: null },
  });
});

test("a job goes on from the model that an alias leads to, and says so", async () => {
  const server = await testServer();
  const model = await newModel(server);
  await send(server, "POST", "/triage", { model });
  const { id } = await upload(server);
  const job = await send(server, "POST", "/v1/fine_tuning/jobs", { model: "triage", training_file: id });
  expect(job.json()).toMatchObject({ model });
});

test("moved 1,000 times under load, an alias is never unknown, and no answer mixes two versions", async () => {
  const server = await testServer();
  answerByName(server);
  const versions = [await newModel(server), await newModel(server)] as const;
  await send(server, "POST", "/triage", { model: versions[0] });
  let moving = true;
  const seen = new Set<string>();
  const client = async (): Promise<void> => {
    while (moving) {
      const answer = await ask(server, "triage", { n: 3 });
      seen.add(answer.model);
      for (const { message } of answer.choices) expect(message.content).toBe(`I am ${answer.model}`);
    }
  };
  const clients = Array.from({ length: 4 }, client);
  for (let move = 1; move <= 1000; move++) {
    const answer = await send(server, "POST", "/triage", { model: versions[move % 2] });
    expect(answer.statusCode).toBe(200);
  }
  moving = false;
  await Promise.all(clients);
  expect(seen).toEqual(new Set(versions));
}, 60_000);

// Stored chat completions: what is kept, with the exact members, and what happens when it cannot be kept.
import { sql } from "kysely";
import { expect, test } from "vitest";
import { createServer } from "../../src/main.ts";
import { loadConfig } from "../../src/config.ts";
import { COMPLETION_LIFE_SECONDS } from "../../src/store/chat-completions.ts";
import { openDatabase } from "../../src/store/database.ts";
import { newId } from "../../src/wire/ids.ts";
import { ask, BASE_MODEL, eventsOf, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const URL = "/v1/chat/completions";

/** Asks for an answer that is kept; its id. */
async function store(server: TestServer, body: object = {}): Promise<string> {
  const answer = await ask(server, { store: true, ...body });
  if (answer.statusCode !== 200) throw new Error(answer.body);
  return answer.json<{ id: string }>().id;
}

const read = async (server: TestServer, path: string, query: Record<string, string> = {}) =>
  (await server.app.inject({ url: `${URL}${path}`, query })).json<Record<string, unknown>>();

const idsOf = ({ data }: Record<string, unknown>) => (data as { id: string }[]).map(({ id }) => id);

test("a stored completion has exactly the members that OpenAI's have", async () => {
  const server = await testServer();
  const answer = await ask(server, {
    store: true,
    metadata: { team: "a" },
    seed: 7,
    temperature: 0.5,
    user: "u1",
    messages: [{ role: "user", content: "As JSON, please" }],
    response_format: { type: "json_object" },
  });
  const { id, created, system_fingerprint: fingerprint } = answer.json<Record<string, unknown>>();
  expect(await read(server, `/${String(id)}`)).toEqual({
    object: "chat.completion",
    id,
    model: BASE_MODEL,
    created,
    request_id: answer.headers["x-request-id"],
    tool_choice: null,
    usage: { total_tokens: 10, completion_tokens: 3, prompt_tokens: 7 },
    seed: 7,
    top_p: 1,
    temperature: 0.5,
    presence_penalty: 0,
    frequency_penalty: 0,
    system_fingerprint: fingerprint,
    input_user: "u1",
    service_tier: "default",
    tools: null,
    metadata: { team: "a" },
    choices: [
      {
        index: 0,
        message: { content: "Hello there!", role: "assistant", tool_calls: null, function_call: null },
        finish_reason: "stop",
        logprobs: null,
      },
    ],
    response_format: { type: "json_object" },
  });
});

test("without a seed, the one that was drawn is used and kept", async () => {
  const server = await testServer();
  const id = await store(server);
  const { seed } = await read(server, `/${id}`);
  expect(seed).toEqual(expect.any(Number));
  expect(server.engine.requests[0]?.seed).toBe(seed);
});

test("without store nothing is kept", async () => {
  const server = await testServer();
  await ask(server, {});
  await ask(server, { store: false, metadata: {} });
  expect(await read(server, "")).toEqual({
    object: "list",
    data: [],
    has_more: false,
    first_id: null,
    last_id: null,
  });
  expect(server.engine.requests[0]?.seed).toBeNull();
});

test("metadata=null, which the Node client sends for null, filters nothing; beside pairs it is refused", async () => {
  const server = await testServer();
  const id = await store(server, { metadata: { team: "a" } });
  for (const written of ["null", ""]) {
    expect(idsOf(await read(server, "", { metadata: written }))).toEqual([id]);
    expect(await read(server, "", { metadata: written, "metadata[team]": "a" })).toMatchObject({
      error: { param: "metadata", code: "invalid_value" },
    });
  }
});

test("metadata without store is refused", async () => {
  const answer = await ask(await testServer(), { metadata: { a: "b" } });
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toMatchObject({
    error: {
      message: "The 'metadata' parameter is only allowed when 'store' is enabled.",
      param: "metadata",
      code: "invalid_parameter_combination",
    },
  });
});

test("a streamed answer is kept as a whole one is, calls and log-probabilities included", async () => {
  const server = await testServer();
  const token = { token: "a", bytes: [97], logprob: -1 };
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 2 };
    yield { type: "text-delta", index: 1, text: "a", logprobs: [{ ...token, top: [token] }] };
    yield { type: "text-delta", index: 1, text: "b", logprobs: [{ ...token, token: "b", top: [] }] };
    yield { type: "tool-call", index: 0, call: 0, name: "f", arguments: '{"a":1}' };
    yield { type: "tool-call", index: 0, call: 1, name: "f", arguments: "{}" };
    yield { type: "finish", index: 0, reason: "tool_calls", completionTokens: 3 };
    yield { type: "finish", index: 1, reason: "length", completionTokens: 2 };
  };
  const body = {
    n: 2,
    logprobs: true,
    top_logprobs: 1,
    tools: [{ type: "function", function: { name: "f" } }],
    tool_choice: "auto",
  };
  const whole = await read(server, `/${await store(server, body)}`);
  const answer = await ask(server, { store: true, stream: true, ...body });
  const events = eventsOf(answer.body) as { id: string; choices: { delta: { tool_calls?: object[] } }[] }[];
  const streamed = await read(server, `/${String(events[0]?.id)}`);
  const [first, second] = streamed["choices"] as { message: { tool_calls: { id: string }[] } }[];
  // Calls keep the ids that the client was sent.
  const sent = events.flatMap(({ choices }) => choices?.[0]?.delta.tool_calls ?? []);
  expect(sent).toEqual(
    expect.arrayContaining(
      (first?.message.tool_calls ?? []).map(({ id }) => expect.objectContaining({ id }) as object),
    ),
  );
  expect(first?.message).toMatchObject({
    content: null,
    tool_calls: [{ function: { name: "f", arguments: '{"a":1}' } }, { function: { arguments: "{}" } }],
  });
  expect(second).toMatchObject({ message: { content: "ab" }, finish_reason: "length" });
  const blurred = (value: object) =>
    JSON.stringify(value, (key, each: unknown) =>
      ["id", "seed", "created", "request_id"].includes(key) ? "" : each,
    );
  expect(blurred(streamed)).toBe(blurred(whole));
});

test("a stream that breaks off is not kept", async () => {
  const server = await testServer();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    yield { type: "text-delta", index: 0, text: "He" };
    throw new Error("a bug");
  };
  await ask(server, { store: true, stream: true });
  expect(idsOf(await read(server, ""))).toEqual([]);
});

test("an answer that cannot be kept is given all the same, whole and streamed", async () => {
  const server = await testServer();
  server.stores.chatCompletions.create = () => Promise.reject(new Error("SQLITE_FULL"));
  const answer = await ask(server, { store: true });
  expect(answer.statusCode).toBe(200);
  const streamed = await ask(server, { store: true, stream: true });
  expect(eventsOf(streamed.body).at(-1)).toBe("[DONE]");
  expect(idsOf(await read(server, ""))).toEqual([]);
});

test("lists: newest first unless asked otherwise, by model and metadata, page by page", async () => {
  const server = await testServer();
  const ids: string[] = [];
  for (const [team, env] of [
    ["a", "x"],
    ["b", "x"],
    ["a", "y"],
    ["a", "x"],
  ] as const) {
    ids.push(await store(server, { metadata: { team, env } }));
  }
  const [one = "", two = "", three = "", four = ""] = ids;
  expect(idsOf(await read(server, ""))).toEqual([four, three, two, one]);
  expect(idsOf(await read(server, "", { order: "asc" }))).toEqual(ids);
  const first = await read(server, "", { order: "asc", limit: "3" });
  expect(first).toMatchObject({ has_more: true, first_id: one, last_id: three });
  expect(await read(server, "", { order: "asc", limit: "3", after: three })).toMatchObject({
    has_more: false,
    data: [{ id: four }],
  });
  expect(idsOf(await read(server, "", { model: BASE_MODEL }))).toHaveLength(4);
  expect(idsOf(await read(server, "", { model: "other" }))).toEqual([]);
  expect(idsOf(await read(server, "", { "metadata[team]": "a" }))).toEqual([four, three, one]);
  const both = { "metadata[team]": "a", "metadata[env]": "x" };
  expect(idsOf(await read(server, "", both))).toEqual([four, one]);
  expect(idsOf(await read(server, "", { ...both, after: four, model: BASE_MODEL }))).toEqual([one]);
  expect(idsOf(await read(server, "", { ...both, order: "asc", limit: "1" }))).toEqual([one]);
  expect(idsOf(await read(server, "", { "metadata[team]": "c" }))).toEqual([]);
  expect(await read(server, "", { limit: "101" })).toMatchObject({ error: { param: "limit" } });
  expect(await read(server, "", { colour: "red" })).toMatchObject({ error: { code: "unknown_parameter" } });
});

test("new metadata replaces the old, in lists too; nothing else can be changed", async () => {
  const server = await testServer();
  const id = await store(server, { metadata: { team: "a" } });
  const post = async (payload: object) =>
    (await server.app.inject({ method: "POST", url: `${URL}/${id}`, payload })).json<
      Record<string, unknown>
    >();
  expect(await post({ metadata: { env: "x" } })).toMatchObject({ id, metadata: { env: "x" } });
  expect(idsOf(await read(server, "", { "metadata[team]": "a" }))).toEqual([]);
  expect(idsOf(await read(server, "", { "metadata[env]": "x" }))).toEqual([id]);
  expect(await post({ metadata: null })).toMatchObject({ metadata: {} });
  expect(await post({})).toMatchObject({ error: { code: "missing_required_parameter", param: "metadata" } });
  expect(await post({ metadata: {}, model: "x" })).toMatchObject({ error: { code: "unknown_parameter" } });
});

test("a deleted completion is gone, and the list walks on after it", async () => {
  const server = await testServer();
  const [one, two] = [
    await store(server, { metadata: { a: "b" } }),
    await store(server, { metadata: { a: "b" } }),
  ];
  const remove = () => server.app.inject({ method: "DELETE", url: `${URL}/${two}` });
  expect((await remove()).json()).toEqual({ object: "chat.completion.deleted", id: two, deleted: true });
  const gone = {
    error: {
      message: `Completion ${two} not found`,
      type: "invalid_request_error",
      param: "completion_id",
      code: "not_found",
    },
  };
  expect((await remove()).json()).toEqual(gone);
  expect(await read(server, `/${two}`)).toEqual(gone);
  expect(await read(server, `/${two}/messages`)).toEqual(gone);
  expect(idsOf(await read(server, "", { after: two }))).toEqual([one]);
  expect(idsOf(await read(server, "", { after: two, "metadata[a]": "b" }))).toEqual([one]);
  const unknown = await read(server, "", { after: newId("chatCompletion") });
  expect(unknown).toMatchObject({ error: { param: "after", code: "invalid_value" } });
});

test("messages are those that the model was given", async () => {
  const server = await testServer();
  const call = { id: "c1", type: "function", function: { name: "f", arguments: "{}" } };
  const id = await store(server, {
    messages: [
      { role: "developer", content: "Be short", name: "boss" },
      {
        role: "user",
        content: [
          { type: "text", text: "A" },
          { type: "text", text: "B" },
        ],
      },
      { role: "assistant", tool_calls: [call] },
      { role: "tool", tool_call_id: "c1", content: "done" },
    ],
  });
  const data = [
    { id: `${id}-0`, role: "developer", content: "Be short", name: "boss", content_parts: null },
    {
      id: `${id}-1`,
      role: "user",
      content: "AB",
      name: null,
      content_parts: [
        { type: "text", text: "A" },
        { type: "text", text: "B" },
      ],
    },
    { id: `${id}-2`, role: "assistant", content: null, name: null, content_parts: null, tool_calls: [call] },
    { id: `${id}-3`, role: "tool", content: "done", name: null, content_parts: null, tool_call_id: "c1" },
  ];
  const path = `/${id}/messages`;
  expect(await read(server, path)).toEqual({
    object: "list",
    data,
    first_id: `${id}-0`,
    last_id: `${id}-3`,
    has_more: false,
  });
  expect(idsOf(await read(server, path, { order: "desc" }))).toEqual(data.map((each) => each.id).reverse());
  const page = await read(server, path, { after: `${id}-0`, limit: "2" });
  expect(page).toMatchObject({ has_more: true, data: [{ id: `${id}-1` }, { id: `${id}-2` }] });
  expect(await read(server, path, { after: `${id}-9` })).toMatchObject({ error: { param: "after" } });
});

test("after 30 days it is removed, deleted or not, with its pairs", async () => {
  let time = Date.now();
  const server = await testServer({}, { now: () => time });
  const [one, two] = [await store(server, { metadata: { a: "b" } }), await store(server)];
  await server.app.inject({ method: "DELETE", url: `${URL}/${two}` });
  time += (COMPLETION_LIFE_SECONDS - 60) * 1000;
  await server.stores.chatCompletions.sweep();
  expect(idsOf(await read(server, ""))).toEqual([one]);
  time += 120 * 1000;
  await server.stores.chatCompletions.sweep();
  expect(idsOf(await read(server, ""))).toEqual([]);
  expect(await read(server, "", { after: two })).toMatchObject({ error: { param: "after" } });
});

test("they outlive a restart", async () => {
  const server = await testServer();
  const id = await store(server);
  await server.stop();
  const config = loadConfig({ port: 0, logLevel: "silent", homeDirectory: server.home }, {});
  const next = await createServer(config, { engine: server.engine, createWorker: null });
  expect((await next.app.inject({ url: `${URL}/${id}` })).json()).toMatchObject({ id });
  await next.stop();
});

test("a filter by metadata reads its own index, not every completion", async () => {
  const database = await openDatabase(":memory:");
  const { rows } = await sql<{ detail: string }>`EXPLAIN QUERY PLAN
    SELECT completion.sequence FROM chat_completion_metadata AS pair
    JOIN chat_completions AS completion ON completion.sequence = pair.sequence
    WHERE pair.project_id = 'p' AND pair.key = 'k' AND pair.value = 'v' AND pair.sequence < 9
    ORDER BY pair.sequence DESC LIMIT 21`.execute(database);
  expect(rows.map(({ detail }) => detail)).toEqual([
    expect.stringMatching(
      /^SEARCH pair USING PRIMARY KEY \(project_id=\? AND key=\? AND value=\? AND sequence<\?\)$/,
    ),
    expect.stringMatching(/^SEARCH completion USING INTEGER PRIMARY KEY/),
  ]);
  await database.destroy();
});

test("a completion is kept whose metadata has two keys that are one to the database", async () => {
  const server = await testServer();
  const id = await store(server, { metadata: { "\ud800": "a", "\ud801": "a" } });
  expect(idsOf(await read(server, "", { "metadata[\ufffd]": "a" }))).toEqual([id]);
});

// /v1/responses streamed: which events come in which order, and how a stream ends that goes wrong.
import { expect, test } from "vitest";
import type { ResponseStreamEvent } from "../../src/wire/response-events.ts";
import { responseStreamEvent } from "../../src/wire/response-events.ts";
import { BASE_MODEL, createKey, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

async function stream(server: TestServer, body: object = {}, headers = {}) {
  const payload = { model: BASE_MODEL, input: "Hi", stream: true, ...body };
  return server.app.inject({ method: "POST", url: "/v1/responses", payload, headers });
}

/** Each event has its type twice and its number; all are what the wire says. */
function eventsOf(body: string): ResponseStreamEvent[] {
  expect(body.endsWith("\n\n")).toBe(true);
  return body
    .slice(0, -2)
    .split("\n\n")
    .map((text, index) => {
      const [, name, data = ""] = /^event: (.*)\ndata: (.*)$/.exec(text) ?? [];
      const event = responseStreamEvent.parse(JSON.parse(data));
      expect([event.type, event.sequence_number]).toEqual([name, index]);
      return event;
    });
}

const typesOf = (events: readonly ResponseStreamEvent[]) => events.map(({ type }) => type);

const tools = [{ type: "function", name: "get_weather" }];

test("a text: created, in progress, the message with its part and pieces, completed", async () => {
  const server = await testServer();
  const answer = await stream(server);
  expect(answer.statusCode).toBe(200);
  expect(answer.headers).toMatchObject({
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
  });
  const events = eventsOf(answer.body);
  expect(typesOf(events)).toEqual([
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    ...["response.output_text.delta", "response.output_text.delta", "response.output_text.delta"],
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
  ]);
  const [created, , added, , delta] = events;
  expect(created).toMatchObject({ response: { status: "in_progress", output: [], usage: null } });
  const item_id = added?.type === "response.output_item.added" ? added.item.id : "";
  expect(added).toMatchObject({ output_index: 0, item: { status: "in_progress", content: [] } });
  expect(delta).toEqual({
    type: "response.output_text.delta",
    sequence_number: 4,
    item_id,
    output_index: 0,
    content_index: 0,
    delta: "Hello",
    logprobs: [],
  });
  expect(events[7]).toMatchObject({ item_id, text: "Hello there!" });
  expect(events[8]).toMatchObject({ item_id, part: { type: "output_text", text: "Hello there!" } });
  expect(events.at(-1)).toMatchObject({
    response: {
      status: "completed",
      output: [{ id: item_id, status: "completed", content: [{ text: "Hello there!" }] }],
      usage: { input_tokens: 7, output_tokens: 3, total_tokens: 10 },
    },
  });
});

test("the end that is told is the response that was kept, whole answer and stream alike", async () => {
  const server = await testServer();
  const last = eventsOf((await stream(server)).body).at(-1);
  if (last?.type !== "response.completed") throw new Error("not completed");
  const kept = await server.app.inject({ url: `/v1/responses/${last.response.id}` });
  expect(kept.json()).toEqual(last.response);
  const payload = { model: BASE_MODEL, input: "Hi" };
  const whole = (await server.app.inject({ method: "POST", url: "/v1/responses", payload })).json<
    (typeof last)["response"]
  >();
  const [{ id = "" } = {}] = whole.output;
  const times = { created_at: whole.created_at, completed_at: whole.completed_at };
  expect({ ...last.response, ...times, id: whole.id, output: [{ ...last.response.output[0], id }] }).toEqual(
    whole,
  );
});

test("a text and two calls: items one after another, arguments in their own events", async () => {
  const server = await testServer();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 5 };
    yield { type: "text-delta", index: 0, text: "\n" };
    yield { type: "text-delta", index: 0, text: "Let me see." };
    yield { type: "tool-call", index: 0, call: 0, name: "get_weather", arguments: '{"a":1}' };
    yield { type: "text-delta", index: 0, text: "\n" };
    yield { type: "tool-call", index: 0, call: 1, name: "get_weather", arguments: "{}" };
    yield { type: "finish", index: 0, reason: "tool_calls", completionTokens: 9 };
  };
  const events = eventsOf((await stream(server, { tools })).body);
  const ofCall = [
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
  ];
  expect(typesOf(events)).toEqual([
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    ...ofCall,
    ...ofCall,
    "response.completed",
  ]);
  expect(events[4]).toMatchObject({ delta: "\nLet me see." });
  expect(events[8]).toMatchObject({
    output_index: 1,
    item: { type: "function_call", status: "in_progress", name: "get_weather", arguments: "" },
  });
  expect(events[9]).toMatchObject({ output_index: 1, delta: '{"a":1}' });
  expect(events[10]).toMatchObject({ name: "get_weather", arguments: '{"a":1}' });
  expect(events[11]).toMatchObject({ item: { status: "completed", arguments: '{"a":1}' } });
  const done = events.flatMap((event) => (event.type === "response.output_item.done" ? [event.item] : []));
  expect(events.at(-1)).toMatchObject({ response: { output: done } });
  expect(done).toHaveLength(3);
});

test("an answer that is cut off ends incomplete", async () => {
  const server = await testServer();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    yield { type: "text-delta", index: 0, text: "Once" };
    yield { type: "finish", index: 0, reason: "length", completionTokens: 16 };
  };
  expect(eventsOf((await stream(server)).body).at(-1)).toMatchObject({
    type: "response.incomplete",
    response: { status: "incomplete", incomplete_details: { reason: "max_output_tokens" } },
  });
});

test("pieces carry log-probabilities where they are included", async () => {
  const server = await testServer();
  const token = { token: "Hi", bytes: [72, 105], logprob: -0.5 };
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    yield { type: "text-delta", index: 0, text: "Hi", logprobs: [{ ...token, top: [token] }] };
    yield { type: "finish", index: 0, reason: "stop", completionTokens: 1 };
  };
  const events = eventsOf((await stream(server, { include: ["message.output_text.logprobs"] })).body);
  const piece = { token: "Hi", logprob: -0.5 };
  expect(events[4]).toMatchObject({ delta: "Hi" });
  expect(events[4]).toHaveProperty("logprobs", [{ ...piece, top_logprobs: [piece] }]);
  expect(events[6]).toHaveProperty("part.logprobs", [{ ...token, top_logprobs: [token] }]);
});

test("what fails before the first event is an ordinary error", async () => {
  const server = await testServer();
  server.engine.answer = () => {
    throw new Error("a bug");
  };
  const answer = await stream(server);
  expect(answer.statusCode).toBe(500);
  expect(answer.json()).toMatchObject({ error: { type: "server_error" } });
});

test("what fails later is an error event and a failed response, of which nothing is kept", async () => {
  const server = await testServer();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    yield { type: "text-delta", index: 0, text: "He" };
    throw new Error("a secret bug");
  };
  const events = eventsOf((await stream(server)).body);
  expect(typesOf(events).slice(-3)).toEqual(["response.output_text.delta", "error", "response.failed"]);
  const [error, failed] = events.slice(-2);
  const message = expect.stringMatching(/^The server had an error/) as string;
  const inner = { message, type: "server_error", param: null, code: null };
  expect(error).toMatchObject({ message, code: null, param: null, error: inner });
  expect(failed).toMatchObject({ response: { status: "failed", error: { code: "server_error", message } } });
  const id = failed?.type === "response.failed" ? failed.response.id : "";
  expect((await server.app.inject({ url: `/v1/responses/${id}` })).statusCode).toBe(404);
});

test.each([true, false])("tokens count against the key's limit, streamed: %s", async (isStream) => {
  const server = await testServer({ apiKeys: ["sk-of-the-settings"] }, { now: () => 1_800_000_000_000 });
  const { key } = await createKey(server, { tokens_per_minute: 15 }, "sk-of-the-settings");
  const headers = { authorization: `Bearer ${key}` };
  expect((await stream(server, { stream: isStream }, headers)).statusCode).toBe(200);
  expect((await stream(server, { stream: isStream }, headers)).statusCode).toBe(200);
  expect((await stream(server, { stream: isStream }, headers)).statusCode).toBe(429);
});

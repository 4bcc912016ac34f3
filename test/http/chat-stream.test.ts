// Streamed chat completions over HTTP: the events and their order, failures early and late, and clients that leave.
import { expect, test, vi } from "vitest";
import type { CompletionEvent } from "../../src/serving/engine.ts";
import { Cancelled, InvalidRequest } from "../../src/errors.ts";
import { ask, BASE_MODEL, eventsOf, messages, testServer } from "./harness.ts";

test("a stream starts with the role, ends with [DONE], and carries no usage unless asked", async () => {
  const server = await testServer();
  server.engine.words = ["He", "llo"];
  const answer = await ask(server, { stream: true });
  expect(answer.headers["content-type"]).toBe("text/event-stream; charset=utf-8");
  const events = eventsOf(answer.body) as Record<string, unknown>[];
  const choice = (delta: object, finish_reason: string | null = null) => [
    { index: 0, delta, logprobs: null, finish_reason },
  ];
  expect(events.slice(0, -1).map((event) => event["choices"])).toEqual([
    choice({ role: "assistant", content: "", refusal: null }),
    choice({ content: "He" }),
    choice({ content: "llo" }),
    choice({}, "stop"),
  ]);
  expect(events.at(-1)).toBe("[DONE]");
  expect(events.slice(0, -1).some((event) => "usage" in event)).toBe(false);
  expect(
    new Set(events.slice(0, -1).map((event) => `${String(event["id"])} ${String(event["created"])}`)).size,
  ).toBe(1);
});

test("where an answer may be text or a call, its first chunk says which", async () => {
  const server = await testServer();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    yield { type: "tool-call", index: 1, call: 0, name: "f", arguments: "{}" };
    yield { type: "text-delta", index: 0, text: "" };
    yield { type: "text-delta", index: 0, text: "Hi" };
    yield { type: "finish", index: 2, reason: "stop", completionTokens: 0 };
    yield { type: "finish", index: 1, reason: "tool_calls", completionTokens: 1 };
    yield { type: "finish", index: 0, reason: "stop", completionTokens: 1 };
  };
  const tools = [{ type: "function", function: { name: "f" } }];
  const answer = await ask(server, { stream: true, n: 3, tools });
  const events = eventsOf(answer.body).slice(0, -1) as {
    choices: { index: number; delta: Record<string, unknown> }[];
  }[];
  const contents = [0, 1, 2].map((wanted) =>
    events
      .flatMap(({ choices }) => choices)
      .filter(({ index }) => index === wanted)
      .map(({ delta }) => delta["content"]),
  );
  expect(contents).toEqual([
    ["", "Hi", undefined],
    [null, undefined, undefined, undefined],
    ["", undefined],
  ]);
});

test("with include_usage the last chunk has it and the others have null", async () => {
  const server = await testServer();
  const answer = await ask(server, { stream: true, n: 2, stream_options: { include_usage: true } });
  const events = eventsOf(answer.body) as { choices: unknown[]; usage: unknown }[];
  expect(events.slice(0, -2).every((event) => event.usage === null)).toBe(true);
  expect(events.at(-2)).toMatchObject({
    choices: [],
    usage: { prompt_tokens: 7, completion_tokens: 6, total_tokens: 13 },
  });
});

test("what fails before the first event is an HTTP error; what fails later is an error event and no [DONE]", async () => {
  const server = await testServer();
  server.engine.answer = async function* () {
    throw new InvalidRequest("Too long.", { code: "context_length_exceeded", param: "messages" });
    yield { type: "prompt", promptTokens: 0 };
  };
  for (const stream of [true, false]) {
    const early = await ask(server, { stream });
    expect(early.statusCode).toBe(400);
    expect(early.json()).toMatchObject({ error: { code: "context_length_exceeded", param: "messages" } });
  }
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    yield { type: "text-delta", index: 0, text: "He" };
    throw new Error("a secret");
  };
  const late = await ask(server, { stream: true });
  expect(late.statusCode).toBe(200);
  const last = eventsOf(late.body).at(-1);
  expect(last).toMatchObject({ error: { type: "server_error", code: null, param: null } });
  expect(late.body).not.toContain("secret");
  expect(late.body).not.toContain("[DONE]");
});

test("an engine that falls silent before its end is an error, not a short answer", async () => {
  const server = await testServer();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
  };
  expect((await ask(server, {})).statusCode).toBe(503);
  expect(eventsOf((await ask(server, { stream: true })).body).at(-1)).toMatchObject({
    error: { type: "service_unavailable_error" },
  });
});

test.each([true, false])("a client that leaves aborts the engine (stream: %s)", async (stream) => {
  const server = await testServer();
  const aborted = new Promise<void>((resolve) => {
    server.engine.answer = async function* ({ signal }): AsyncGenerator<CompletionEvent> {
      yield { type: "prompt", promptTokens: 1 };
      yield { type: "text-delta", index: 0, text: "Once" };
      await new Promise<void>((stop) => signal.addEventListener("abort", () => stop()));
      resolve();
    };
  });
  const url = await server.listen();
  const client = new AbortController();
  const answer = fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: BASE_MODEL, messages, stream }),
    signal: client.signal,
  });
  if (stream) await (await answer).body?.getReader().read();
  else while (server.engine.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  client.abort();
  await answer.catch(() => {});
  await aborted;
});

test("a client that leaves while its base model is fetched stops the fetching", async () => {
  let fetching: AbortSignal | null = null;
  const server = await testServer(
    { shutdownGraceMs: 100 },
    {
      catalogue: {
        list: () => [],
        isKnown: () => true,
        resolve: (_id, signal) =>
          new Promise((_, reject) => {
            fetching = signal;
            signal.addEventListener("abort", () => reject(new Cancelled()));
          }),
      },
    },
  );
  const url = await server.listen();
  const client = new AbortController();
  const answer = fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: BASE_MODEL, messages }),
    signal: client.signal,
  });
  await vi.waitUntil(() => fetching !== null);
  client.abort();
  await answer.catch(() => {});
  await vi.waitUntil(() => fetching?.aborted);
  expect(server.engine.requests).toEqual([]);
});

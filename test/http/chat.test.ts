// Chat completions over HTTP: what reaches the engine, whole answers, streams, and all that is refused.
import { expect, test, vi } from "vitest";
import type { CompletionEvent } from "../../src/serving/engine.ts";
import { Cancelled, InvalidRequest } from "../../src/errors.ts";
import { BASE_MODEL, succeedJob, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const messages = [{ role: "user", content: "Hi" }];

async function ask(server: TestServer, body: object) {
  return server.app.inject({
    method: "POST",
    url: "/v1/chat/completions",
    payload: { model: BASE_MODEL, messages, ...body },
  });
}

/** The events of a stream, parsed; "[DONE]" stays a text. */
function eventsOf(body: string): unknown[] {
  expect(body.endsWith("\n\n")).toBe(true);
  return body
    .slice(0, -2)
    .split("\n\n")
    .map((event) => {
      const text = /^data: (.*)$/.exec(event)?.[1] ?? "";
      return text === "[DONE]" ? text : (JSON.parse(text) as unknown);
    });
}

test("a whole answer has OpenAI's members", async () => {
  const server = await testServer();
  const answer = await ask(server, { model: "gpt-4o-mini" });
  expect(answer.statusCode).toBe(200);
  expect(answer.json()).toEqual({
    id: expect.stringMatching(/^chatcmpl-[A-Za-z0-9]{29}$/) as string,
    object: "chat.completion",
    created: expect.any(Number) as number,
    model: "gpt-4o-mini-2024-07-18",
    choices: [
      {
        index: 0,
        message: { role: "assistant", content: "Hello there!", refusal: null, annotations: [] },
        logprobs: null,
        finish_reason: "stop",
      },
    ],
    usage: {
      prompt_tokens: 7,
      completion_tokens: 3,
      total_tokens: 10,
      prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
      completion_tokens_details: {
        reasoning_tokens: 0,
        audio_tokens: 0,
        accepted_prediction_tokens: 0,
        rejected_prediction_tokens: 0,
      },
    },
    service_tier: "default",
    system_fingerprint: expect.stringMatching(/^fp_[0-9a-f]{10}$/) as string,
  });
});

test("every parameter reaches the engine, and an earlier answer may be sent back as it came", async () => {
  const server = await testServer();
  const earlier = {
    role: "assistant",
    content: "A",
    refusal: null,
    annotations: [],
    audio: null,
    tool_calls: null,
  };
  const answer = await ask(server, {
    messages: [
      {
        role: "developer",
        content: [
          { type: "text", text: "Be " },
          { type: "text", text: "brief." },
        ],
      },
      { role: "user", content: "Q", name: "ann" },
      earlier,
      { role: "user", content: "Q2" },
    ],
    temperature: 0,
    top_p: 0.5,
    seed: 7,
    stop: "END",
    max_completion_tokens: 9,
    n: 2,
    user: "u",
    tools: [],
    response_format: { type: "text" },
    logprobs: false,
    presence_penalty: 0,
    logit_bias: {},
    store: false,
  });
  expect(answer.statusCode, answer.body).toBe(200);
  expect(answer.json<{ choices: unknown[] }>().choices).toHaveLength(2);
  const { signal, ...request } = server.engine.requests[0] ?? {};
  expect(signal).toBeInstanceOf(AbortSignal);
  expect(request).toEqual({
    model: {
      id: BASE_MODEL,
      baseModel: { id: BASE_MODEL, path: `/models/${BASE_MODEL}` },
      adapterPath: null,
    },
    messages: [
      { role: "developer", content: "Be brief." },
      { role: "user", content: "Q", name: "ann" },
      { role: "assistant", content: "A" },
      { role: "user", content: "Q2" },
    ],
    temperature: 0,
    topP: 0.5,
    seed: 7,
    stop: ["END"],
    maxTokens: 9,
    n: 2,
  });
});

test("left-out and null parameters take OpenAI's defaults", async () => {
  const server = await testServer();
  await ask(server, {
    temperature: null,
    top_p: null,
    n: null,
    stop: null,
    seed: null,
    max_tokens: null,
    stream: null,
  });
  expect(server.engine.requests[0]).toMatchObject({
    temperature: 1,
    topP: 1,
    n: 1,
    stop: [],
    seed: null,
    maxTokens: null,
  });
});

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

test("an unknown model is 404 and never the base model", async () => {
  const server = await testServer();
  const answer = await ask(server, { model: "ft:gpt-4o-mini-2024-07-18:personal::nobody00" });
  expect(answer.statusCode).toBe(404);
  expect(answer.json()).toMatchObject({
    error: {
      code: "model_not_found",
      message:
        "The model 'ft:gpt-4o-mini-2024-07-18:personal::nobody00' does not exist or you do not have access to it.",
    },
  });
  expect(server.engine.requests).toEqual([]);
});

test("a fine-tuned model and its checkpoint answer with their own adapters", async () => {
  const server = await testServer();
  const { id } = await upload(server);
  const job = await server.app.inject({
    method: "POST",
    url: "/v1/fine_tuning/jobs",
    payload: { model: "gpt-4o-mini", training_file: id },
  });
  const jobId = job.json<{ id: string }>().id;
  const { model, checkpoint } = await succeedJob(server, jobId);
  for (const name of [model, checkpoint]) {
    expect((await ask(server, { model: name })).json()).toMatchObject({ model: name });
  }
  expect(server.engine.requests.map((request) => request.model.adapterPath)).toEqual([
    `${server.home}/jobs/${jobId}/finalAAA`,
    `${server.home}/jobs/${jobId}/earlyBBB`,
  ]);
});

const unsupported = (param: string, harmless: string) =>
  `Unsupported parameter: '${param}' is not implemented by this server. Leave it out or send ${harmless}.`;

test.each([
  [{ model: undefined }, "model", "missing_required_parameter", "Missing required parameter: 'model'."],
  [
    { messages: undefined },
    "messages",
    "missing_required_parameter",
    "Missing required parameter: 'messages'.",
  ],
  [
    { messages: [] },
    "messages",
    "empty_array",
    "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
  ],
  [
    { messages: "Hi" },
    "messages",
    "invalid_type",
    "Invalid type for 'messages': expected an array, but got a string instead.",
  ],
  [
    { messages: [{ content: "Hi" }] },
    "messages[0].role",
    "missing_required_parameter",
    "Missing required parameter: 'messages[0].role'.",
  ],
  [
    { messages: [{ role: "tool", content: "Hi" }] },
    "messages[0].role",
    "invalid_value",
    "Invalid value for 'messages[0].role': 'tool'. Supported values are: 'system', 'developer', 'user', 'assistant'.",
  ],
  [
    { messages: [{ role: "user" }] },
    "messages[0].content",
    "missing_required_parameter",
    "Missing required parameter: 'messages[0].content'.",
  ],
  [
    { messages: [{ role: "user", content: null }] },
    "messages[0].content",
    "invalid_type",
    "Invalid type for 'messages[0].content': expected a string or an array, but got null instead.",
  ],
  [
    { messages: [{ role: "user", content: [{ type: "image_url", image_url: {} }] }] },
    "messages[0].content[0].type",
    "invalid_value",
    "Invalid value for 'messages[0].content[0].type': 'image_url'. Supported values are: 'text'.",
  ],
  [
    { messages: [{ role: "assistant", content: "A", tool_calls: [{}] }] },
    "messages[0].tool_calls",
    "unsupported_parameter",
    unsupported("messages[0].tool_calls", "null or []"),
  ],
  [
    { temperature: 2.1 },
    "temperature",
    "decimal_above_max_value",
    "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 2.1 instead.",
  ],
  [
    { temperature: "hot" },
    "temperature",
    "invalid_type",
    "Invalid type for 'temperature': expected a number, but got a string instead.",
  ],
  [
    { top_p: -1 },
    "top_p",
    "decimal_below_min_value",
    "Invalid 'top_p': decimal below minimum value. Expected a value >= 0, but got -1 instead.",
  ],
  [
    { n: 0 },
    "n",
    "integer_below_min_value",
    "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead.",
  ],
  [
    { n: 129 },
    "n",
    "integer_above_max_value",
    "Invalid 'n': integer above maximum value. Expected a value <= 128, but got 129 instead.",
  ],
  [
    { stop: ["a", "b", "c", "d", "e"] },
    "stop",
    "array_above_max_length",
    "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5 instead.",
  ],
  [
    { stop: 1 },
    "stop",
    "invalid_type",
    "Invalid type for 'stop': expected a string or an array, but got a number instead.",
  ],
  [
    { max_tokens: 0 },
    "max_tokens",
    "integer_below_min_value",
    "Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got 0 instead.",
  ],
  [
    { max_tokens: 1, max_completion_tokens: 1 },
    "max_tokens",
    "invalid_parameter_combination",
    "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported. Send only 'max_completion_tokens'.",
  ],
  [
    { stream_options: { include_usage: true } },
    "stream_options",
    "invalid_parameter_combination",
    "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
  ],
  [
    { stream: true, stream_options: { include_obfuscation: true } },
    "stream_options.include_obfuscation",
    "unsupported_parameter",
    unsupported("stream_options.include_obfuscation", "null or false"),
  ],
  [{ tools: [{}] }, "tools", "unsupported_parameter", unsupported("tools", "null or []")],
  [
    { tool_choice: "auto" },
    "tool_choice",
    "unsupported_parameter",
    unsupported("tool_choice", 'null or "none"'),
  ],
  [
    { response_format: { type: "json_object" } },
    "response_format",
    "unsupported_parameter",
    unsupported("response_format", 'null or {"type":"text"}'),
  ],
  [{ logprobs: true }, "logprobs", "unsupported_parameter", unsupported("logprobs", "null or false")],
  [
    { frequency_penalty: 0.5 },
    "frequency_penalty",
    "unsupported_parameter",
    unsupported("frequency_penalty", "null or 0"),
  ],
  [
    { presence_penalty: 0.5 },
    "presence_penalty",
    "unsupported_parameter",
    unsupported("presence_penalty", "null or 0"),
  ],
  [
    { logit_bias: { "1": 5 } },
    "logit_bias",
    "unsupported_parameter",
    unsupported("logit_bias", "null or {}"),
  ],
  [{ store: true }, "store", "unsupported_parameter", unsupported("store", "null or false")],
  [{ audio: {} }, "audio", "unsupported_parameter", unsupported("audio", "null")],
  [
    { service_tier: "flex" },
    "service_tier",
    "unsupported_parameter",
    unsupported("service_tier", 'null or "auto" or "default"'),
  ],
  [{ colour: "red" }, "colour", "unknown_parameter", "Unknown parameter: 'colour'."],
])("a request with %j is refused by name", async (change, param, code, message) => {
  const server = await testServer();
  const answer = await ask(server, change);
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toEqual({ error: { message, type: "invalid_request_error", param, code } });
  expect(server.engine.requests).toEqual([]);
});

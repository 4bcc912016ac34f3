// /v1/responses: whole answers, what of a request reaches the engine, and conversations that go on.
import { expect, test } from "vitest";
import { BASE_MODEL, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

interface Answer {
  id: string;
  status: string;
  output: { id: string; type: string; call_id?: string }[];
}

/** One response, in process. */
async function respond(server: TestServer, body: object) {
  const payload = { model: BASE_MODEL, input: "Hi", ...body };
  return server.app.inject({ method: "POST", url: "/v1/responses", payload });
}

const WEATHER = {
  type: "function",
  name: "get_weather",
  parameters: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  },
};

test("no effort of reasoning is what there is, and is shown as it was asked for", async () => {
  const server = await testServer();
  const answer = await respond(server, { reasoning: { effort: "none" } });
  expect(answer.statusCode).toBe(200);
  expect(answer.json()).toMatchObject({ reasoning: { effort: "none", summary: null } });
});

test("a whole answer has OpenAI's members", async () => {
  const server = await testServer({}, { now: () => 1_800_000_000_500 });
  const answer = await respond(server, { metadata: { a: "b" }, user: "u" });
  expect(answer.statusCode).toBe(200);
  const id = expect.stringMatching(/^resp_[0-9a-f]{48}$/) as string;
  expect(answer.json()).toEqual({
    id,
    object: "response",
    created_at: 1_800_000_000,
    status: "completed",
    background: false,
    completed_at: 1_800_000_000,
    error: null,
    incomplete_details: null,
    instructions: null,
    max_output_tokens: null,
    model: BASE_MODEL,
    output: [
      {
        id: expect.stringMatching(/^msg_[0-9a-f]{48}$/) as string,
        type: "message",
        status: "completed",
        content: [{ type: "output_text", text: "Hello there!", annotations: [], logprobs: [] }],
        role: "assistant",
      },
    ],
    parallel_tool_calls: true,
    previous_response_id: null,
    prompt_cache_key: null,
    reasoning: { effort: null, summary: null },
    safety_identifier: null,
    service_tier: "default",
    store: true,
    temperature: 1,
    text: { format: { type: "text" }, verbosity: "medium" },
    tool_choice: "auto",
    tools: [],
    top_logprobs: 0,
    top_p: 1,
    truncation: "disabled",
    usage: {
      input_tokens: 7,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: 3,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: 10,
    },
    user: "u",
    metadata: { a: "b" },
  });
});

test("parameters reach the engine, and are told in the answer", async () => {
  const server = await testServer();
  const schema = { type: "object", properties: {}, required: [], additionalProperties: false };
  const format = { type: "json_schema", name: "empty", schema, strict: true };
  const answer = await respond(server, {
    instructions: "Be brief.",
    input: [
      { role: "developer", content: "In JSON." },
      { type: "message", role: "user", content: [{ type: "input_text", text: "a" }] },
      { role: "assistant", content: [{ type: "output_text", text: "b", annotations: [], logprobs: [] }] },
      { role: "user", content: "c" },
    ],
    max_output_tokens: 16,
    temperature: 0.5,
    top_p: 0.25,
    text: { format, verbosity: "medium" },
    truncation: "disabled",
    service_tier: "auto",
    reasoning: { effort: null, summary: null },
    include: ["file_search_call.results"],
    safety_identifier: "s",
    prompt_cache_key: "k",
  });
  expect(answer.statusCode).toBe(200);
  expect(answer.json()).toMatchObject({ safety_identifier: "s", prompt_cache_key: "k" });
  expect(server.engine.requests[0]).toMatchObject({
    messages: [
      { role: "system", content: "Be brief." },
      { role: "developer", content: "In JSON." },
      { role: "user", content: "a" },
      { role: "assistant", content: "b" },
      { role: "user", content: "c" },
    ],
    promptParam: "input",
    maxTokens: 16,
    temperature: 0.5,
    topP: 0.25,
    n: 1,
    form: { type: "json_schema", schema },
  });
  expect(server.engine.requests[0]).not.toHaveProperty("topLogprobs");
  expect(answer.json()).toMatchObject({
    instructions: "Be brief.",
    max_output_tokens: 16,
    temperature: 0.5,
    top_p: 0.25,
    text: { format: { ...format, description: null }, verbosity: "medium" },
  });
});

test("functions are strict where their schema is fit for it, unless the request says otherwise", async () => {
  const server = await testServer();
  const open = { ...WEATHER, name: "open", parameters: { type: "object", properties: {} } };
  const answer = await respond(server, {
    tools: [WEATHER, { ...WEATHER, name: "loose", strict: false }, open, { type: "function", name: "bare" }],
    parallel_tool_calls: false,
  });
  expect(answer.json()).toMatchObject({
    parallel_tool_calls: false,
    tools: [
      { ...WEATHER, description: null, strict: true },
      { name: "loose", strict: false },
      { name: "open", strict: false },
      { name: "bare", parameters: null, strict: false },
    ],
  });
  const [asked] = server.engine.requests;
  expect(asked?.tools?.map((tool) => tool.function.name)).toEqual(["get_weather", "loose", "open", "bare"]);
  expect(asked?.constrainedTools).toEqual(new Set(["get_weather"]));
  expect(asked?.parallelToolCalls).toBe(false);
  await respond(server, { tools: [WEATHER], tool_choice: { type: "function", name: "get_weather" } });
  expect(server.engine.requests[1]?.toolChoice).toEqual({ name: "get_weather" });
  await respond(server, { tools: [WEATHER], tool_choice: "none" });
  expect(server.engine.requests[2]).not.toHaveProperty("tools");
});

test("calls are answered, and the next response knows them without being told again", async () => {
  const server = await testServer();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 5 };
    yield { type: "text-delta", index: 0, text: "\n" };
    yield { type: "tool-call", index: 0, call: 0, name: "get_weather", arguments: '{"city":"Ulm"}' };
    yield { type: "tool-call", index: 0, call: 1, name: "get_weather", arguments: '{"city":"Bonn"}' };
    yield { type: "finish", index: 0, reason: "tool_calls", completionTokens: 9 };
  };
  const tools = [WEATHER];
  const first = (await respond(server, { tools, instructions: "Answer in rhymes." })).json<Answer>();
  expect(first.output).toEqual(
    ["Ulm", "Bonn"].map((city) => ({
      id: expect.stringMatching(/^fc_[0-9a-f]{48}$/) as string,
      type: "function_call",
      status: "completed",
      arguments: JSON.stringify({ city }),
      call_id: expect.stringMatching(/^call_\w{24}$/) as string,
      name: "get_weather",
    })),
  );
  server.engine.answer = null;
  const [ulm, bonn] = first.output.map(({ call_id }) => call_id);
  const second = await respond(server, {
    tools,
    previous_response_id: first.id,
    input: [
      { type: "function_call_output", call_id: bonn, output: [{ type: "input_text", text: "rain" }] },
      { type: "function_call_output", call_id: ulm, output: "sun" },
    ],
  });
  expect(second.json()).toMatchObject({ status: "completed", previous_response_id: first.id });
  const call = (id: string | undefined, city: string) => ({
    id,
    type: "function",
    function: { name: "get_weather", arguments: JSON.stringify({ city }) },
  });
  // The instructions of the first were its own.
  expect(server.engine.requests[1]?.messages).toEqual([
    { role: "user", content: "Hi" },
    { role: "assistant", content: null, tool_calls: [call(ulm, "Ulm"), call(bonn, "Bonn")] },
    { role: "tool", content: "sun", tool_call_id: ulm },
    { role: "tool", content: "rain", tool_call_id: bonn },
  ]);
  const third = await respond(server, { previous_response_id: second.json<Answer>().id, input: "And you?" });
  expect(third.statusCode).toBe(200);
  expect(server.engine.requests[2]?.messages.slice(4)).toEqual([
    { role: "assistant", content: "Hello there!" },
    { role: "user", content: "And you?" },
  ]);
});

test("log-probabilities come with their include", async () => {
  const server = await testServer();
  const token = { token: "Hi", bytes: [72, 105], logprob: -0.5 };
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    yield { type: "text-delta", index: 0, text: "Hi", logprobs: [{ ...token, top: [token] }] };
    yield { type: "finish", index: 0, reason: "stop", completionTokens: 1 };
  };
  const include = ["message.output_text.logprobs"];
  const answer = await respond(server, { include, top_logprobs: 1 });
  expect(answer.json()).toMatchObject({ top_logprobs: 1 });
  expect(server.engine.requests[0]?.topLogprobs).toBe(1);
  expect(answer.json()).toMatchObject({
    output: [{ content: [{ text: "Hi", logprobs: [{ ...token, top_logprobs: [token] }] }] }],
  });
  await respond(server, { include });
  expect(server.engine.requests[1]?.topLogprobs).toBe(0);
});

test("an answer that the limit cuts off is incomplete, and can be gone on from", async () => {
  const server = await testServer();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    yield { type: "text-delta", index: 0, text: "Once" };
    yield { type: "finish", index: 0, reason: "length", completionTokens: 16 };
  };
  const answer = await respond(server, { max_output_tokens: 16 });
  expect(answer.json()).toMatchObject({
    status: "incomplete",
    incomplete_details: { reason: "max_output_tokens" },
    completed_at: null,
    output: [{ status: "incomplete", content: [{ text: "Once" }] }],
    usage: { output_tokens: 16 },
  });
  const next = await respond(server, { previous_response_id: answer.json<Answer>().id });
  expect(next.statusCode).toBe(200);
});

test("an empty answer is an empty message", async () => {
  const server = await testServer();
  server.engine.words = [];
  expect((await respond(server, { tools: [WEATHER] })).json()).toMatchObject({
    output: [{ type: "message", status: "completed", content: [{ text: "" }] }],
  });
});

test("the tokens of a prompt are counted without an answer", async () => {
  const server = await testServer();
  const first = (await respond(server, { input: "four" })).json<Answer>();
  const answer = await server.app.inject({
    method: "POST",
    url: "/v1/responses/input_tokens",
    payload: { model: BASE_MODEL, previous_response_id: first.id, input: "12345", instructions: "123" },
  });
  // A token a character: "four", "Hello there!", "12345", "123".
  expect(answer.json()).toEqual({ object: "response.input_tokens", input_tokens: 4 + 12 + 5 + 3 });
  expect(server.engine.requests).toHaveLength(1);
});

// The deprecated functions: carried out as tools, answered in their own form.
import OpenAI from "openai";
import { expect, test } from "vitest";
import { ask, BASE_MODEL, eventsOf, messages, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const parameters = { type: "object", properties: { city: { type: "string" } } };
const functions = [{ name: "get_weather", description: "Weather", parameters }];
const called = { name: "get_weather", arguments: '{"city":"Paris"}' };

/** A server whose model calls. */
async function calling(reason: "tool_calls" | "stop" = "tool_calls"): Promise<TestServer> {
  const server = await testServer();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 2 };
    yield { type: "tool-call", index: 0, call: 0, ...called };
    yield { type: "finish", index: 0, reason, completionTokens: 3 };
  };
  return server;
}

test("functions are tools to the model, called one at a time", async () => {
  const server = await calling();
  const answer = (await ask(server, { functions })).json<OpenAI.ChatCompletion>();
  expect(server.engine.requests[0]).toMatchObject({
    tools: [{ type: "function", function: functions[0] }],
    constrainedTools: new Set(),
    parallelToolCalls: false,
  });
  expect(server.engine.requests[0]).not.toHaveProperty("toolChoice");
  expect(answer.choices[0]).toMatchObject({ finish_reason: "function_call", message: { content: null } });
  expect(answer.choices[0]?.message.function_call).toEqual(called);
  expect(answer.choices[0]?.message).not.toHaveProperty("tool_calls");
});

test("a function that is named must be called; the end is an ordinary one", async () => {
  const server = await calling("stop");
  const answer = await ask(server, { functions, function_call: { name: "get_weather" } });
  expect(server.engine.requests[0]).toMatchObject({
    toolChoice: { name: "get_weather" },
    constrainedTools: new Set(["get_weather"]),
  });
  expect(answer.json<OpenAI.ChatCompletion>().choices[0]).toMatchObject({
    finish_reason: "stop",
    message: { function_call: called },
  });
});

test("with function_call none the model is told of no functions", async () => {
  const server = await testServer();
  await ask(server, { functions, function_call: "none" });
  expect(server.engine.requests[0]).not.toHaveProperty("tools");
});

test("a stream has the call in deltas of its own, which the official client puts together", async () => {
  const server = await calling();
  const events = eventsOf((await ask(server, { functions, stream: true, store: true })).body);
  const chunks = events.slice(0, -1) as OpenAI.ChatCompletionChunk[];
  expect(chunks.map(({ choices }) => choices[0])).toMatchObject([
    { delta: { role: "assistant" }, finish_reason: null },
    { delta: { function_call: { name: "get_weather", arguments: "" } }, finish_reason: null },
    { delta: { function_call: { arguments: called.arguments } }, finish_reason: null },
    { delta: {}, finish_reason: "function_call" },
  ]);
  expect(JSON.stringify(chunks)).not.toContain("tool_calls");
  const stored = await server.app.inject({ url: `/v1/chat/completions/${String(chunks[0]?.id)}` });
  expect(stored.json<OpenAI.ChatCompletion>().choices[0]).toMatchObject({
    finish_reason: "function_call",
    message: { content: null, tool_calls: null, function_call: called },
  });
  const client = new OpenAI({ baseURL: `${await server.listen()}/v1`, apiKey: "none", maxRetries: 0 });
  const body: OpenAI.ChatCompletionCreateParamsStreaming = {
    model: BASE_MODEL,
    messages: [{ role: "user", content: "Hi" }],
    functions,
    stream: true,
  };
  const final = await client.chat.completions.stream(body).finalChatCompletion();
  expect(final.choices[0]).toMatchObject({
    finish_reason: "function_call",
    message: { function_call: called },
  });
});

test("earlier calls and their results reach the model as those of tools", async () => {
  const server = await testServer();
  const conversation = [
    ...messages,
    { role: "assistant", content: null, function_call: called },
    { role: "function", name: "get_weather", content: "12 degrees" },
  ];
  const answer = await ask(server, { messages: conversation, functions, store: true });
  const id = "call_get_weather";
  expect(server.engine.requests[0]?.messages.slice(1)).toEqual([
    { role: "assistant", content: null, tool_calls: [{ id, type: "function", function: called }] },
    { role: "tool", content: "12 degrees", tool_call_id: id },
  ]);
  const { id: completion } = answer.json<{ id: string }>();
  const said = await server.app.inject({ url: `/v1/chat/completions/${completion}/messages` });
  expect(said.json<{ data: object[] }>().data.slice(1)).toMatchObject([
    { role: "assistant", content: null, function_call: called },
    { role: "function", name: "get_weather", content: "12 degrees" },
  ]);
});

test.each([
  [
    { functions, tools: [{ type: "function", function: { name: "f" } }] },
    "functions",
    "invalid_parameter_combination",
    "'functions' and 'tools' cannot be sent together. Send only 'tools'.",
  ],
  [
    { function_call: "auto" },
    "function_call",
    "invalid_value",
    "The 'function_call' parameter is only allowed when 'functions' are specified.",
  ],
  [
    { functions, function_call: { name: "other" } },
    "function_call",
    "invalid_value",
    "Invalid 'function_call': there is no function named 'other' in 'functions'.",
  ],
  [
    { functions: [...functions, ...functions] },
    "functions[1].name",
    "invalid_value",
    "Invalid 'functions[1].name': there is another function named 'get_weather'. Give each its own name.",
  ],
  [
    { messages: [...messages, { role: "assistant", function_call: { name: "f", arguments: "x" } }] },
    "messages[1].function_call.arguments",
    "invalid_value",
    "Invalid 'messages[1].function_call.arguments': expected the JSON text of an object.",
  ],
])("a request with %j is refused by name", async (change, param, code, message) => {
  const server = await testServer();
  const answer = await ask(server, change);
  expect(answer.json()).toEqual({ error: { message, type: "invalid_request_error", param, code } });
  expect(server.engine.requests).toEqual([]);
});

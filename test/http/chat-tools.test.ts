// Tools, answer formats and log-probabilities of chat completions: through the official client, and all that is refused.
import OpenAI from "openai";
import { expect, test } from "vitest";
import { BASE_MODEL, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

type Create = OpenAI.ChatCompletionCreateParamsNonStreaming;

async function connected(): Promise<{ server: TestServer; client: OpenAI }> {
  const server = await testServer();
  const url = await server.listen();
  return { server, client: new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 }) };
}

const user = { role: "user" as const, content: "Weather in Paris, as JSON?" };
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const tool = (strict?: boolean, name = "get_weather"): OpenAI.ChatCompletionTool => ({
  type: "function",
  function: { name, description: "Weather", parameters, ...(strict === undefined ? {} : { strict }) },
});

test("tools reach the engine; calls come back with ids, whole and streamed alike", async () => {
  const { server, client } = await connected();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 9 };
    yield { type: "tool-call", index: 0, call: 0, name: "get_weather", arguments: '{"city":"Paris"}' };
    yield { type: "tool-call", index: 0, call: 1, name: "get_time", arguments: "{}" };
    yield { type: "finish", index: 0, reason: "tool_calls", completionTokens: 12 };
  };
  const body = {
    model: BASE_MODEL,
    messages: [user],
    tools: [tool(true), tool(false, "get_time")],
  } satisfies Create;
  const completion = await client.chat.completions.create(body);
  const [choice] = completion.choices;
  expect(choice).toMatchObject({ finish_reason: "tool_calls", message: { content: null } });
  const expected = [
    { type: "function", function: { name: "get_weather", arguments: '{"city":"Paris"}' } },
    { type: "function", function: { name: "get_time", arguments: "{}" } },
  ];
  expect(choice?.message.tool_calls).toMatchObject(expected);
  for (const { id } of choice?.message.tool_calls ?? []) expect(id).toMatch(/^call_[A-Za-z0-9]{24}$/);
  const definition = { name: "get_weather", description: "Weather", parameters };
  expect(server.engine.requests[0]).toMatchObject({
    tools: [
      { type: "function", function: definition },
      { type: "function", function: { ...definition, name: "get_time" } },
    ],
    constrainedTools: new Set(["get_weather"]),
  });
  // The client's own accumulator puts the deltas together.
  const streamed = await client.chat.completions.stream(body).finalChatCompletion();
  expect(streamed.choices[0]).toMatchObject({ finish_reason: "tool_calls" });
  expect(streamed.choices[0]?.message.tool_calls).toMatchObject(expected);

  server.engine.answer = null;
  const calls = choice?.message as OpenAI.ChatCompletionAssistantMessageParam;
  const ids = (choice?.message.tool_calls ?? []).map(({ id }) => id);
  await client.chat.completions.create({
    ...body,
    messages: [
      user,
      calls,
      ...ids.map((id) => ({ role: "tool" as const, tool_call_id: id, content: "12 degrees" })),
    ],
  });
  expect(server.engine.requests.at(-1)?.messages.slice(1)).toMatchObject([
    { role: "assistant", content: null, tool_calls: expected },
    { role: "tool", tool_call_id: ids[0], content: "12 degrees" },
    { role: "tool", tool_call_id: ids[1], content: "12 degrees" },
  ]);
});

const allowing = (mode: "auto" | "required", ...names: string[]) => ({
  type: "allowed_tools" as const,
  allowed_tools: { mode, tools: names.map((name) => ({ type: "function", function: { name } })) },
});

test("of tools that are not allowed the model is not told", async () => {
  const { server, client } = await connected();
  await client.chat.completions.create({
    model: BASE_MODEL,
    messages: [user],
    tools: [tool(), tool(true, "get_time"), tool(false, "get_date")],
    tool_choice: allowing("required", "get_date", "get_time"),
  });
  expect(server.engine.requests[0]).toMatchObject({
    tools: [{ function: { name: "get_time" } }, { function: { name: "get_date" } }],
    toolChoice: "required",
    constrainedTools: new Set(["get_time", "get_date"]),
  });
});

test.each<[string, Partial<Create>, object]>([
  ["auto", { tools: [tool()] }, { constrainedTools: new Set() }],
  [
    "required",
    { tools: [tool()], tool_choice: "required" },
    { toolChoice: "required", constrainedTools: new Set(["get_weather"]) },
  ],
  [
    "named",
    { tools: [tool()], tool_choice: { type: "function", function: { name: "get_weather" } } },
    { toolChoice: { name: "get_weather" } },
  ],
  ["one call", { tools: [tool()], parallel_tool_calls: false }, { parallelToolCalls: false }],
  [
    "a format beside tools",
    { tools: [tool()], response_format: { type: "json_object" } },
    { tools: [{}], form: { type: "json_object" } },
  ],
  ["json_object", { response_format: { type: "json_object" } }, { form: { type: "json_object" } }],
  [
    "json_schema",
    {
      response_format: {
        type: "json_schema",
        json_schema: { name: "w", strict: true, schema: parameters },
      },
    },
    { form: { type: "json_schema", schema: parameters } },
  ],
  [
    "tools beside json_object",
    { tools: [tool()], response_format: { type: "json_object" } },
    { form: { type: "json_object" }, tools: [{ function: { name: "get_weather" } }] },
  ],
])("%s reaches the engine", async (_name, change, expected) => {
  const { server, client } = await connected();
  await client.chat.completions.create({ model: BASE_MODEL, messages: [user], ...change });
  expect(server.engine.requests[0]).toMatchObject(expected);
});

test.each<[string, Partial<Create>]>([
  ["auto", {}],
  ["required", { tool_choice: "required" }],
  ["named", { tool_choice: { type: "function", function: { name: "get_weather" } } }],
])("a schema that no grammar can keep, %s: taken unless it is to be kept strictly", async (_name, choice) => {
  const { server, client } = await connected();
  const loose = { ...parameters, oneOf: [{ required: ["city"] }] };
  const asking = (strict: boolean | null): Create => ({
    model: BASE_MODEL,
    messages: [user],
    tools: [{ type: "function", function: { name: "get_weather", strict, parameters: loose } }],
    ...choice,
  });
  for (const strict of [null, false]) {
    await client.chat.completions.create(asking(strict));
    // The model is shown the whole schema; its arguments are any JSON object.
    expect(server.engine.requests.at(-1)).toMatchObject({
      tools: [{ function: { parameters: loose } }],
      constrainedTools: new Set(),
    });
  }
  await expect(client.chat.completions.create(asking(true))).rejects.toMatchObject({
    status: 400,
    param: "tools[0].function.parameters",
    code: "invalid_function_parameters",
    message: expect.stringContaining("has 'oneOf', which is not supported") as string,
  });
});

test("with tool_choice none the model is told of no tools", async () => {
  const { server, client } = await connected();
  await client.chat.completions.create({
    model: BASE_MODEL,
    messages: [user],
    tools: [tool()],
    tool_choice: "none",
  });
  expect(server.engine.requests[0]).not.toHaveProperty("tools");
});

test("log-probabilities come with their bytes, whole and streamed", async () => {
  const { server, client } = await connected();
  const euro = { token: "€", bytes: [0xe2, 0x82, 0xac], logprob: -0.25 };
  const never = { token: "x", bytes: [0x78], logprob: -Infinity };
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    yield { type: "text-delta", index: 0, text: "€", logprobs: [{ ...euro, top: [euro, never] }] };
    yield { type: "finish", index: 0, reason: "stop", completionTokens: 1 };
  };
  const body: Create = { model: BASE_MODEL, messages: [user], logprobs: true, top_logprobs: 2 };
  const content = [{ ...euro, top_logprobs: [euro, { ...never, logprob: -9999 }] }];
  const whole = await client.chat.completions.create(body);
  expect(whole.choices[0]?.logprobs).toEqual({ content, refusal: null });
  const seen: unknown[] = [];
  for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) {
    seen.push(chunk.choices[0]?.logprobs);
  }
  expect(seen).toEqual([{ content: [], refusal: null }, { content, refusal: null }, null]);
});

const calling = (id = "c1", args = "{}") => ({
  role: "assistant",
  tool_calls: [{ id, type: "function", function: { name: "f", arguments: args } }],
});
const named = (schema: object, strict = true) => ({
  response_format: { type: "json_schema", json_schema: { name: "answer", strict, schema } },
});

test.each<[object, string, string, string]>([
  [
    { messages: [user, { role: "tool", tool_call_id: "c9", content: "x" }] },
    "messages[1].tool_call_id",
    "invalid_value",
    "Invalid 'messages[1].tool_call_id': messages with role 'tool' must answer a tool call of the preceding assistant message that has not been answered yet.",
  ],
  [
    { messages: [user, calling(), user] },
    "messages[1].tool_calls",
    "invalid_value",
    "Invalid 'messages[1].tool_calls': an assistant message with 'tool_calls' must be followed by a message with role 'tool' for each 'tool_call_id'. Unanswered: c1.",
  ],
  [
    { messages: [user, calling("c1", "[1]"), { role: "tool", tool_call_id: "c1", content: "x" }] },
    "messages[1].tool_calls[0].function.arguments",
    "invalid_value",
    "Invalid 'messages[1].tool_calls[0].function.arguments': expected the JSON text of an object.",
  ],
  [
    { messages: [user, { role: "assistant", content: null }] },
    "messages[1].content",
    "invalid_type",
    "Invalid type for 'messages[1].content': expected a string or an array, but got null instead. Only an assistant message with 'tool_calls' may be without content.",
  ],
  [
    { tools: [{ ...tool(), function: { name: "a b" } }] },
    "tools[0].function.name",
    "invalid_value",
    "Invalid 'tools[0].function.name': expected only letters, digits, '_' and '-'.",
  ],
  [
    { tools: [tool(), tool()] },
    "tools[1].function.name",
    "invalid_value",
    "Invalid 'tools[1].function.name': there is another function named 'get_weather'. Give each its own name.",
  ],
  [
    { tools: [{ type: "function", function: { name: "f", strict: true, parameters: { type: "object" } } }] },
    "tools[0].function.parameters",
    "invalid_function_parameters",
    "Invalid schema for function 'f': in context=(), the schema must have 'additionalProperties' and it must be false.",
  ],
  [
    {
      tools: [
        {
          type: "function",
          function: { name: "f", strict: true, parameters: { ...parameters, patternProperties: {} } },
        },
      ],
    },
    "tools[0].function.parameters",
    "invalid_function_parameters",
    "Invalid schema for function 'f': in context=(), the schema has 'patternProperties', which is not supported.",
  ],
  [
    { tool_choice: "auto" },
    "tool_choice",
    "invalid_value",
    "The 'tool_choice' parameter is only allowed when 'tools' are specified.",
  ],
  [
    { tools: [tool()], tool_choice: { type: "function", function: { name: "other" } } },
    "tool_choice",
    "invalid_value",
    "Invalid 'tool_choice': there is no function named 'other' in 'tools'.",
  ],
  [
    { tools: [{ type: "custom", custom: { name: "f" } }] },
    "tools[0].type",
    "invalid_value",
    "Invalid value for 'tools[0].type': 'custom'. Supported values are: 'function'.",
  ],
  [
    { tools: [tool()], tool_choice: { type: "custom", custom: { name: "f" } } },
    "tool_choice.type",
    "invalid_value",
    "Invalid value for 'tool_choice.type': 'custom'. Supported values are: 'function', 'allowed_tools'.",
  ],
  [
    { tools: [tool()], tool_choice: allowing("auto", "get_weather", "other") },
    "tool_choice.allowed_tools.tools[1].function.name",
    "invalid_value",
    "Invalid 'tool_choice.allowed_tools.tools[1].function.name': there is no function named 'other' in 'tools'.",
  ],
  [
    { messages: [{ role: "user", content: "Hi" }], response_format: { type: "json_object" } },
    "messages",
    "invalid_value",
    "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
  ],
  [
    named({ ...parameters, required: [] }),
    "response_format",
    "invalid_json_schema",
    "Invalid schema for response_format 'answer': in context=(), the schema must have 'required' with every key of 'properties'; missing \"city\".",
  ],
  [
    named({ type: "object", properties: { a: { type: "array", uniqueItems: true } } }, false),
    "response_format",
    "invalid_json_schema",
    "Invalid schema for response_format 'answer': in context=('properties', 'a'), the schema has 'uniqueItems', which is not supported.",
  ],
])("a request with %j is refused by name", async (change, param, code, message) => {
  const server = await testServer();
  const answer = await server.app.inject({
    method: "POST",
    url: "/v1/chat/completions",
    payload: { model: BASE_MODEL, messages: [user], ...change },
  });
  expect(answer.json()).toEqual({ error: { message, type: "invalid_request_error", param, code } });
  expect(answer.statusCode).toBe(400);
  expect(server.engine.requests).toEqual([]);
});

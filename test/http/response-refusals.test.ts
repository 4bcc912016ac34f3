// Requests for responses that are refused: each names the parameter, says what was expected, and never reaches the engine.
import { expect, test } from "vitest";
import { BASE_MODEL, testServer } from "./harness.ts";

const call = { type: "function_call", call_id: "c1", name: "f", arguments: "{}" };
const output = { type: "function_call_output", call_id: "c1", output: "x" };
const tool = { type: "function", name: "f", parameters: { type: "object" } };
const NOT_IMPLEMENTED = /^Unsupported parameter: '.*' is not implemented by this server\./;

test.each<[object, string, string | null, RegExp | string]>([
  [{ model: undefined }, "model", "missing_required_parameter", "Missing required parameter: 'model'."],
  [{ input: undefined }, "input", "missing_required_parameter", "Missing required parameter: 'input'."],
  [{ input: [] }, "input", "empty_array", /^Invalid 'input': empty array/],
  [{ input: 7 }, "input", "invalid_type", /^Invalid type for 'input': expected a string or an array/],
  [{ input: [{ content: "Hi" }] }, "input[0].role", "missing_required_parameter", /input\[0\]\.role/],
  [
    { input: [{ role: "tool", content: "Hi" }] },
    "input[0].role",
    "invalid_value",
    "Invalid value for 'input[0].role': 'tool'. Supported values are: 'user', 'system', 'developer', 'assistant'.",
  ],
  [
    { input: [{ role: "user", content: [{ type: "input_image", image_url: "x" }] }] },
    "input[0].content[0].type",
    "invalid_value",
    "Invalid value for 'input[0].content[0].type': 'input_image'. Supported values are: 'input_text'.",
  ],
  [
    { input: [{ role: "assistant", content: [{ type: "input_text", text: "x" }] }] },
    "input[0].content[0].type",
    "invalid_value",
    "Invalid value for 'input[0].content[0].type': 'input_text'. Supported values are: 'output_text', 'refusal'.",
  ],
  [
    { input: [{ type: "reasoning", summary: [] }] },
    "input[0].type",
    "invalid_value",
    "Invalid value for 'input[0].type': 'reasoning'. Supported values are: 'message', 'function_call', 'function_call_output', 'item_reference'.",
  ],
  [
    { input: [{ role: "user", content: "a", parsed: null }] },
    "input[0].parsed",
    "unknown_parameter",
    "Unknown parameter: 'input[0].parsed'.",
  ],
  [{ input: [call] }, "input", null, "No tool output found for function call c1."],
  [{ input: [output] }, "input", null, "No tool call found for function call output with call_id c1."],
  [{ input: [call, call, output] }, "input", null, /two function calls with the call_id c1/],
  [{ input: [{ ...call, arguments: "[]" }, output] }, "input", "invalid_value", /JSON text of an object/],
  [
    { previous_response_id: "resp_nobody" },
    "previous_response_id",
    "previous_response_not_found",
    "Previous response with id 'resp_nobody' not found.",
  ],
  [
    { max_output_tokens: 15 },
    "max_output_tokens",
    "integer_below_min_value",
    "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 15 instead.",
  ],
  [{ temperature: 2.1 }, "temperature", "decimal_above_max_value", /<= 2/],
  [{ top_p: -1 }, "top_p", "decimal_below_min_value", />= 0/],
  [
    { tools: [{ type: "web_search" }] },
    "tools[0].type",
    "invalid_value",
    "Invalid value for 'tools[0].type': 'web_search'. Supported values are: 'function'.",
  ],
  [{ tools: [tool, tool] }, "tools[1].name", "invalid_value", /another function named 'f'/],
  [
    { tools: [{ ...tool, strict: true }] },
    "tools[0].parameters",
    "invalid_function_parameters",
    /^Invalid schema for function 'f'/,
  ],
  [{ tool_choice: "required" }, "tool_choice", "invalid_value", /must be specified with 'tools'/],
  [
    { tools: [tool], tool_choice: { type: "function", name: "g" } },
    "tool_choice",
    "invalid_value",
    "Invalid 'tool_choice': there is no function named 'g' in 'tools'.",
  ],
  [
    { tools: [tool], tool_choice: { type: "allowed_tools", mode: "auto", tools: [] } },
    "tool_choice.type",
    "invalid_value",
    /'allowed_tools'\. Supported values are: 'function'/,
  ],
  [
    { text: { format: { type: "json_schema", name: "x", schema: { type: "object" }, strict: true } } },
    "text.format.schema",
    "invalid_json_schema",
    /^Invalid schema for response_format 'x'/,
  ],
  [
    { text: { format: { type: "json_schema", name: "x" } } },
    "text.format.schema",
    "missing_required_parameter",
    "Missing required parameter: 'text.format.schema'.",
  ],
  [
    { text: { format: { type: "json_object" } } },
    "input",
    "invalid_value",
    /must contain the word 'json' in some form to use 'text\.format'/,
  ],
  [{ text: { verbosity: "low" } }, "text.verbosity", "unsupported_parameter", NOT_IMPLEMENTED],
  [{ reasoning: { effort: "low" } }, "reasoning.effort", "unsupported_parameter", NOT_IMPLEMENTED],
  [{ truncation: "auto" }, "truncation", "unsupported_parameter", NOT_IMPLEMENTED],
  [{ conversation: "conv_1" }, "conversation", "unsupported_parameter", NOT_IMPLEMENTED],
  [{ service_tier: "flex" }, "service_tier", "unsupported_parameter", NOT_IMPLEMENTED],
  [{ max_tool_calls: 1 }, "max_tool_calls", "unsupported_parameter", NOT_IMPLEMENTED],
  [{ prompt: { id: "p" } }, "prompt", "unsupported_parameter", NOT_IMPLEMENTED],
  [{ include: ["reasoning.encrypted_content"] }, "include[0]", "invalid_value", /'include\[0\]'/],
  [{ top_logprobs: 2 }, "top_logprobs", "invalid_parameter_combination", /message\.output_text\.logprobs/],
  [{ top_logprobs: 21 }, "top_logprobs", "integer_above_max_value", /<= 20/],
  [{ stream_options: {} }, "stream_options", "invalid_parameter_combination", /when 'stream' is enabled/],
  [{ background: true, store: false }, "background", "invalid_parameter_combination", /'store'/],
  [{ background: true, stream: true }, "background", "unsupported_parameter", /beside 'stream'/],
  [{ messages: [] }, "messages", "unknown_parameter", "Unknown parameter: 'messages'."],
])("%j", async (body, param, code, message) => {
  const server = await testServer();
  const answer = await server.app.inject({
    method: "POST",
    url: "/v1/responses",
    payload: { model: BASE_MODEL, input: "Hi", ...body },
  });
  expect(answer.json()).toEqual({
    error: {
      message: typeof message === "string" ? message : (expect.stringMatching(message) as string),
      type: "invalid_request_error",
      param,
      code,
    },
  });
  expect(answer.statusCode).toBe(400);
  expect(server.engine.requests).toEqual([]);
});

test.each([
  ["GET", "resp_x?stream=true", "stream"],
  ["GET", "resp_x?starting_after=1", "starting_after"],
  ["GET", "resp_x?include[]=message.output_text.logprobs", "include[]"],
  ["GET", "resp_x?include=file_search_call.results&include=reasoning.encrypted_content", "include[1]"],
  ["GET", "resp_x/input_items?include[]=reasoning.encrypted_content", "include[]"],
  ["GET", "resp_x/input_items?before=msg_1", "before"],
  ["GET", "resp_x/input_items?limit=101", "limit"],
  ["GET", "resp_x/input_items?order=up", "order"],
] as const)("%s %s is refused by name", async (method, path, param) => {
  const server = await testServer();
  const answer = await server.app.inject({ method, url: `/v1/responses/${path}` });
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toMatchObject({ error: { param } });
});

test("a conversation that no context could hold is refused before it is kept", async () => {
  const server = await testServer();
  const payload = { model: BASE_MODEL, input: "é".repeat(2_100_000), background: true };
  const answer = await server.app.inject({ method: "POST", url: "/v1/responses", payload });
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toMatchObject({
    error: {
      message: expect.stringMatching(/it has 4200\d{3} bytes as JSON, expected at most 4194304\./) as string,
      param: "input",
      code: "context_length_exceeded",
    },
  });
});

test("an unknown model is 404", async () => {
  const server = await testServer();
  const answer = await server.app.inject({
    method: "POST",
    url: "/v1/responses",
    payload: { model: "nobody", input: "Hi" },
  });
  expect(answer.statusCode).toBe(404);
  expect(answer.json()).toMatchObject({ error: { code: "model_not_found" } });
});

// Chat requests that are refused: each names the parameter, says what was expected, and never reaches the engine.
import { expect, test } from "vitest";
import { ask, testServer } from "./harness.ts";

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
    { messages: [{ role: "robot", content: "Hi" }] },
    "messages[0].role",
    "invalid_value",
    "Invalid value for 'messages[0].role': 'robot'. Supported values are: 'system', 'developer', 'user', 'assistant', 'tool', 'function'.",
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
    { messages: [{ role: "assistant", content: "A", audio: { id: "a" } }] },
    "messages[0].audio",
    "unsupported_parameter",
    unsupported("messages[0].audio", "null"),
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
  [
    { top_logprobs: 2 },
    "top_logprobs",
    "invalid_parameter_combination",
    "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
  ],
  [
    { logprobs: true, top_logprobs: 21 },
    "top_logprobs",
    "integer_above_max_value",
    "Invalid 'top_logprobs': integer above maximum value. Expected a value <= 20, but got 21 instead.",
  ],
  [
    { frequency_penalty: 2.5 },
    "frequency_penalty",
    "decimal_above_max_value",
    "Invalid 'frequency_penalty': decimal above maximum value. Expected a value <= 2, but got 2.5 instead.",
  ],
  [
    { logit_bias: { hello: 5 } },
    "logit_bias",
    "invalid_value",
    "Invalid 'logit_bias': expected token ids (whole numbers) as keys, but got 'hello' instead.",
  ],
  [
    { logit_bias: { 5: 101 } },
    "logit_bias.5",
    "decimal_above_max_value",
    "Invalid 'logit_bias.5': decimal above maximum value. Expected a value <= 100, but got 101 instead.",
  ],
  [{ audio: {} }, "audio", "unsupported_parameter", unsupported("audio", "null")],
  [
    { service_tier: "slow" },
    "service_tier",
    "invalid_value",
    "Invalid value for 'service_tier': 'slow'. Supported values are: 'auto', 'default', 'flex', 'scale', 'priority', 'fast'.",
  ],
  [
    { reasoning_effort: "high" },
    "reasoning_effort",
    "unsupported_parameter",
    unsupported("reasoning_effort", 'null or "none"'),
  ],
  [
    { modalities: ["text", "audio"] },
    "modalities",
    "unsupported_parameter",
    unsupported("modalities", 'null or ["text"]'),
  ],
  [{ colour: "red" }, "colour", "unknown_parameter", "Unknown parameter: 'colour'."],
])("a request with %j is refused by name", async (change, param, code, message) => {
  const server = await testServer();
  const answer = await ask(server, change);
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toEqual({ error: { message, type: "invalid_request_error", param, code } });
  expect(server.engine.requests).toEqual([]);
});

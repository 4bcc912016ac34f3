// Requests for legacy completions that are refused: each names the parameter, and never reaches the engine.
import { expect, test } from "vitest";
import { BASE_MODEL, testServer } from "./harness.ts";

test.each([
  [
    { suffix: "." },
    "suffix",
    "unsupported_parameter",
    "Unsupported parameter: 'suffix' is not implemented by this server. Leave it out or send null or \"\".",
  ],
  [
    { max_tokens: -1 },
    "max_tokens",
    "integer_below_min_value",
    "Invalid 'max_tokens': integer below minimum value. Expected a value >= 0, but got -1 instead.",
  ],
  [
    { logprobs: 6 },
    "logprobs",
    "integer_above_max_value",
    "Invalid 'logprobs': integer above maximum value. Expected a value <= 5, but got 6 instead.",
  ],
  [
    { logprobs: true },
    "logprobs",
    "invalid_type",
    "Invalid type for 'logprobs': expected a number, but got a boolean instead.",
  ],
  [
    { best_of: 21 },
    "best_of",
    "integer_above_max_value",
    "Invalid 'best_of': integer above maximum value. Expected a value <= 20, but got 21 instead.",
  ],
  [
    { best_of: 1, n: 2 },
    "best_of",
    "invalid_value",
    "Invalid 'best_of': 1 answers are fewer than the 2 that 'n' asks for. Send at least 'n', or leave one of them out.",
  ],
  [
    { best_of: 2, stream: true },
    "best_of",
    "invalid_parameter_combination",
    "The 'best_of' parameter cannot choose among answers that are streamed. Leave out 'stream', or send no more than 'n'.",
  ],
  [
    { stream_options: { include_usage: true } },
    "stream_options",
    "invalid_parameter_combination",
    "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
  ],
  [{ prompt: [] }, "prompt", "empty_array", "Invalid 'prompt': empty array. Expected at least one prompt."],
  [
    { prompt: 5 },
    "prompt",
    "invalid_type",
    "Invalid type for 'prompt': expected a string, an array of strings, an array of token ids, or an array of arrays of token ids.",
  ],
  [
    { prompt: ["a", [1]] },
    "prompt",
    "invalid_type",
    "Invalid type for 'prompt[1]': expected a string, an array of strings, an array of token ids, or an array of arrays of token ids, the same for all; token ids are whole numbers from 0.",
  ],
  [
    { prompt: [1, 2.5] },
    "prompt",
    "invalid_type",
    "Invalid type for 'prompt': expected a string, an array of strings, an array of token ids, or an array of arrays of token ids, the same for all; token ids are whole numbers from 0.",
  ],
  [
    { prompt: Array.from({ length: 20 }, () => "a"), n: 128 },
    "prompt",
    "array_above_max_length",
    "Invalid 'prompt': 20 prompts with 128 answers each are 2560 answers, the most is 2048. Send fewer at once.",
  ],
  [
    { model: "gpt-4o-mini", prompt: [1, 2] },
    "prompt",
    "invalid_value",
    `Invalid 'prompt': the token ids of 'gpt-4o-mini' are OpenAI's, and ${BASE_MODEL}, which answers here, has another vocabulary. Send texts, or name '${BASE_MODEL}' and send its own token ids.`,
  ],
  [{ messages: [] }, "messages", "unknown_parameter", "Unknown parameter: 'messages'."],
])("a request with %j is refused by name", async (change, param, code, message) => {
  const server = await testServer();
  const answer = await server.app.inject({
    method: "POST",
    url: "/v1/completions",
    payload: { model: BASE_MODEL, prompt: "Say", ...change },
  });
  expect(answer.json()).toEqual({ error: { message, type: "invalid_request_error", param, code } });
  expect(answer.statusCode).toBe(400);
  expect(server.engine.textRequests).toEqual([]);
});

test("an unknown model is named as in chat", async () => {
  const server = await testServer();
  const answer = await server.app.inject({
    method: "POST",
    url: "/v1/completions",
    payload: { model: "gpt-9", prompt: "Say" },
  });
  expect([answer.statusCode, answer.json()]).toMatchObject([404, { error: { code: "model_not_found" } }]);
});

// Graders that are refused before they run, through both routes: status, parameter, code and words.
import { expect, it } from "vitest";
import { BASE_MODEL, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const stringCheck = {
  type: "string_check",
  name: "check",
  input: "{{sample.output_text}}",
  reference: "{{item.label}}",
  operation: "eq",
};
const scoreModel = {
  type: "score_model",
  name: "score",
  model: BASE_MODEL,
  input: [{ role: "user", content: "Score {{sample.output_text}}." }],
};

/** A server without an embedding model. */
const withoutEmbeddings = () =>
  testServer(
    {},
    {
      embeddingCatalogue: {
        list: () => [],
        isKnown: () => false,
        resolve: async () => Promise.reject(new Error("there is none")),
      },
    },
  );

it("an embedding model is no judge", async () => {
  const grader = { ...scoreModel, model: "text-embedding-3-small" };
  const wanted = [
    "grader.model",
    "model_not_found",
    /^The model 'text-embedding-3-small' does not exist/,
  ] as const;
  await expectRefusal(await testServer(), "validate", grader, [...wanted]);
});

const label = {
  type: "label_model",
  name: "l",
  model: BASE_MODEL,
  input: [{ role: "user", content: "?" }],
  labels: ["a", "b"],
  passing_labels: ["a"],
};
const multi = { type: "multi", name: "m", graders: { a: stringCheck }, calculate_output: "a" };
const without = (member: string) => ({ ...stringCheck, [member]: undefined });

type Refusal = [grader: unknown, param: string | null, code: string, message: string | RegExp];

it.each<Refusal>([
  [undefined, "grader", "missing_required_parameter", "Missing required parameter: 'grader'."],
  [
    without("type"),
    "grader.type",
    "missing_required_parameter",
    "Missing required parameter: 'grader.type'.",
  ],
  [
    { ...stringCheck, type: "regex" },
    "grader.type",
    "invalid_value",
    /^Invalid value for 'grader.type': 'regex'. Supported values are: 'string_check', 'text_similarity'/,
  ],
  [
    without("input"),
    "grader.input",
    "missing_required_parameter",
    "Missing required parameter: 'grader.input'.",
  ],
  [
    { ...stringCheck, operation: "lt" },
    "grader.operation",
    "invalid_value",
    /Supported values are: 'eq', 'ne', 'neq', 'like', 'ilike'\.$/,
  ],
  [{ ...stringCheck, extra: 1 }, "grader.extra", "unknown_parameter", "Unknown parameter: 'grader.extra'."],
  [
    { ...label, passing_labels: ["c"] },
    "grader.passing_labels[0]",
    "invalid_value",
    "Invalid 'grader.passing_labels[0]': 'c' is none of the grader's 'labels'.",
  ],
  [{ ...label, model: "o9" }, "grader.model", "model_not_found", /^The model 'o9' does not exist/],
  [
    { ...scoreModel, range: [1, 0] },
    "grader.range",
    "invalid_value",
    "Invalid 'grader.range': expected two numbers, the lowest and the highest score, but got [1,0] instead.",
  ],
  [
    { ...scoreModel, sampling_params: { reasoning_effort: "low" } },
    "grader.sampling_params.reasoning_effort",
    "unsupported_parameter",
    /is not implemented by this server/,
  ],
  [
    { ...scoreModel, input: [{ role: "user", content: [{ type: "input_image", image_url: "x" }] }] },
    "grader.input[0].content[0].type",
    "invalid_value",
    /'input_image'. Supported values are: 'input_text', 'output_text'/,
  ],
  [
    { ...multi, graders: {} },
    "grader.graders",
    "empty_array",
    "Invalid 'grader.graders': expected 1 to 32 graders, but got 0 instead.",
  ],
  [
    { ...multi, graders: { "a b": stringCheck } },
    "grader.graders",
    "invalid_value",
    /^Invalid 'grader.graders': 'a b' names a grader and cannot be a variable of 'calculate_output'/,
  ],
  [
    { ...multi, graders: { a: multi } },
    "grader.graders.a.type",
    "invalid_value",
    /^Invalid value for 'grader.graders.a.type': 'multi'/,
  ],
  [
    { ...multi, graders: [stringCheck, stringCheck] },
    "grader.graders",
    "invalid_type",
    /expected an object, but got an array/,
  ],
  [
    { type: "python", source: "def grade(sample, item): return 1" },
    "grader.type",
    "unsupported_value",
    /^Python graders run code from requests, and are switched off/,
  ],
  [
    { type: "python", source: "é".repeat(131_073) },
    "grader.source",
    "string_above_max_length",
    "Invalid 'grader.source': expected at most 262144 bytes of Python, but got 262146 instead.",
  ],
  [
    { type: "text_similarity", name: "c", input: "", reference: "", evaluation_metric: "cosine" },
    "grader.evaluation_metric",
    "unsupported_value",
    /has no embedding model/,
  ],
  [
    { ...stringCheck, input: "x".repeat(1024 * 1024) },
    "grader",
    "string_above_max_length",
    /^Invalid 'grader': expected a grader of at most 1048576 characters as JSON, but got 10486\d\d instead\.$/,
  ],
])("validate and run refuse %#", async (grader, ...wanted) => {
  const server = await withoutEmbeddings();
  await expectRefusal(server, "validate", grader, wanted);
  await expectRefusal(server, "run", grader, wanted);
});

// Running such a grader answers 200 with a flag.
it.each<Refusal>([
  [
    { ...multi, calculate_output: "b" },
    "grader.calculate_output",
    "invalid_value",
    /which is none of the graders: a\.$/,
  ],
  [
    { ...stringCheck, input: "{{ nothing }}" },
    "grader.input",
    "invalid_value",
    /^Invalid 'grader.input': Expected a variable such as/,
  ],
  [
    { ...multi, calculate_output: "a +" },
    "grader.calculate_output",
    "invalid_value",
    /^Invalid 'grader.calculate_output': 'calculate_output' is no formula: expected a number/,
  ],
])("validate refuses %#", async (grader, ...wanted) => {
  await expectRefusal(await withoutEmbeddings(), "validate", grader, wanted);
});

async function expectRefusal(
  server: TestServer,
  url: string,
  grader: unknown,
  [param, code, message]: [string | null, string, string | RegExp],
): Promise<void> {
  const error = await refusal(server, url, grader);
  expect(error).toMatchObject({ type: "invalid_request_error", param, code });
  if (typeof message === "string") expect(error.message).toBe(message);
  else expect(error.message).toMatch(message);
}

async function refusal(server: TestServer, url: string, grader: unknown): Promise<{ message: string }> {
  const payload = { grader, ...(url === "run" ? { model_sample: "" } : {}) };
  const answer = await server.app.inject({
    method: "POST",
    url: `/v1/fine_tuning/alpha/graders/${url}`,
    payload,
  });
  expect(answer.statusCode).toBe(400);
  return answer.json<{ error: { message: string } }>().error;
}

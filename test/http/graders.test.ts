// Graders through the official client: validate and run, the answer's members, and how graders fail. What is refused before one runs: grader-refusals.test.ts.
import OpenAI from "openai";
import { describe, expect, it, test } from "vitest";
import type { EmbeddingEngine, EmbeddingRequest } from "../../src/serving/embedding-engine.ts";
import type { CompletionRequest } from "../../src/serving/engine.ts";
import type { ServerOverrides } from "../../src/main.ts";
import type { Config } from "../../src/config.ts";
import { BASE_MODEL, testServer } from "./harness.ts";

async function connected(settings: Partial<Config> = {}, overrides: ServerOverrides = {}) {
  const server = await testServer(settings, overrides);
  const client = new OpenAI({ baseURL: `${await server.listen()}/v1`, apiKey: "any", maxRetries: 0 });
  return { server, client, graders: client.fineTuning.alpha.graders };
}

const NO_ERRORS = {
  formula_parse_error: false,
  sample_parse_error: false,
  truncated_observation_error: false,
  unresponsive_reward_error: false,
  invalid_variable_error: false,
  other_error: false,
  python_grader_server_error: false,
  python_grader_server_error_type: null,
  python_grader_runtime_error: false,
  python_grader_runtime_error_details: null,
  model_grader_server_error: false,
  model_grader_refusal_error: false,
  model_grader_parse_error: false,
  model_grader_server_error_details: null,
};

const stringCheck = {
  type: "string_check",
  name: "Example string check grader",
  input: "{{sample.output_text}}",
  reference: "{{item.label}}",
  operation: "eq",
} as const;

const scoreModel: OpenAI.Graders.ScoreModelGrader = {
  type: "score_model",
  name: "Example score model grader",
  model: "gpt-4o-mini",
  input: [{ role: "user", content: [{ type: "input_text", text: "Score {{sample.output_text}}." }] }],
  sampling_params: { temperature: 0, seed: 42 },
};

test("string_check: the whole answer", async () => {
  const { graders } = await connected();
  const answer = await graders.run({ grader: stringCheck, model_sample: "fox", item: { label: "fox" } });
  expect(answer).toEqual({
    reward: 1,
    metadata: {
      name: "Example string check grader",
      type: "string_check",
      errors: NO_ERRORS,
      execution_time: expect.any(Number) as number,
      scores: {},
      token_usage: null,
      sampled_model_name: null,
    },
    sub_rewards: {},
    model_grader_token_usage_per_model: {},
  });
  expect(Object.keys(answer.metadata.errors)).toHaveLength(14);
  expect(answer.metadata.execution_time).toBeLessThan(5);
});

test("score_model: this server's chat model judges, and its tokens are counted", async () => {
  const { server, graders } = await connected();
  server.engine.words = ['{"result": ', "0.5", ', "steps": []}'];
  const answer = await graders.run({ grader: scoreModel, model_sample: "a bear" });
  const usage = { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10, cached_tokens: 0 };
  expect(answer).toMatchObject({
    reward: 0.5,
    metadata: {
      type: "score_model",
      errors: NO_ERRORS,
      token_usage: usage,
      sampled_model_name: "gpt-4o-mini-2024-07-18",
    },
    model_grader_token_usage_per_model: { "gpt-4o-mini-2024-07-18": usage },
  });
  expect(server.engine.requests).toMatchObject([
    {
      model: { baseModel: { id: BASE_MODEL } },
      messages: [{ role: "system" }, { role: "user", content: "Score a bear." }],
      temperature: 0,
      seed: 42,
      maxTokens: 2048,
      n: 1,
      form: { type: "json_schema", schema: { properties: { result: { type: "number" } } } },
    } satisfies Partial<Record<keyof CompletionRequest, unknown>>,
  ]);
});

test("multi: sub-rewards, two judges, and the flags of all parts together", async () => {
  const { server, graders } = await connected();
  server.engine.words = ["nothing to read"];
  const grader = {
    type: "multi" as const,
    name: "all",
    calculate_output: "(a + b) / 2",
    graders: { a: stringCheck, b: scoreModel, c: { ...scoreModel, model: BASE_MODEL } },
  };
  // The client's types know one grader only; maps are what OpenAI takes in practice.
  const answer = await graders.run({ grader: grader as never, model_sample: "x", item: { label: "x" } });
  expect(answer).toMatchObject({
    reward: 0.5,
    metadata: {
      errors: { ...NO_ERRORS, model_grader_parse_error: true },
      scores: { a: 1, b: 0, c: 0 },
      token_usage: { total_tokens: 16 },
      sampled_model_name: null,
    },
    sub_rewards: { a: 1, b: 0, c: 0 },
    model_grader_token_usage_per_model: {
      "gpt-4o-mini-2024-07-18": { total_tokens: 8 },
      [BASE_MODEL]: { total_tokens: 8 },
    },
  });
});

test("what goes wrong while grading is 200 with a flag", async () => {
  const { server, graders } = await connected();
  const run = async (grader: unknown, sample = "no JSON") =>
    graders.run({ grader: grader as never, model_sample: sample, item: {} });
  const multi = (calculate_output: string) => ({
    type: "multi",
    calculate_output,
    graders: { a: { ...stringCheck, reference: "" } },
  });
  const cases: [unknown, object][] = [
    [stringCheck, { invalid_variable_error: true }],
    [{ ...stringCheck, input: "{{ nothing }}" }, { invalid_variable_error: true }],
    [{ ...stringCheck, input: "{{ sample.output_json.a }}" }, { sample_parse_error: true }],
    [multi("a +"), { formula_parse_error: true }],
    [multi("b"), { invalid_variable_error: true }],
    [multi("1 / a"), { unresponsive_reward_error: true }],
  ];
  for (const [grader, flags] of cases) {
    const answer = await run(grader);
    expect([answer.reward, answer.metadata.errors]).toEqual([0, { ...NO_ERRORS, ...flags }]);
  }
  server.engine.answer = () => {
    throw new (class extends Error {})("a bug");
  };
  await expect(run(scoreModel)).rejects.toThrow(OpenAI.InternalServerError);
});

test("a judge that cannot answer is a flag with details", async () => {
  const { server, graders } = await connected();
  const { InvalidRequest } = await import("../../src/errors.ts");
  server.engine.answer = () => {
    throw new InvalidRequest("The prompt is too long.", { code: "context_length_exceeded" });
  };
  const { reward, metadata } = await graders.run({ grader: scoreModel, model_sample: "x" });
  expect([reward, metadata.errors, metadata.token_usage, metadata.sampled_model_name]).toEqual([
    0,
    {
      ...NO_ERRORS,
      model_grader_server_error: true,
      model_grader_server_error_details: "The prompt is too long.",
    },
    null,
    null,
  ]);
});

test("text_similarity with cosine over the server's embeddings", async () => {
  const asked: EmbeddingRequest[] = [];
  const embeddingEngine: EmbeddingEngine = {
    embed: async (request) => {
      asked.push(request);
      const vectors = request.inputs.map((text) => Float32Array.from(text === "a" ? [1, 0] : [0.6, 0.8]));
      return { vectors, tokenCount: 2 };
    },
    close: async () => undefined,
  };
  const embeddingCatalogue = {
    list: () => [{ id: "all-minilm-l6-v2", created: 0 }],
    isKnown: (id: string) => id === "all-minilm-l6-v2",
    resolve: async (id: string) => ({ id, path: `/models/${id}` }),
  };
  const { graders } = await connected({}, { embeddingEngine, embeddingCatalogue });
  const grader = {
    type: "text_similarity" as const,
    name: "c",
    input: "{{sample.output_text}}",
    reference: "b",
    evaluation_metric: "cosine" as const,
  };
  expect((await graders.run({ grader, model_sample: "a" })).reward).toBeCloseTo(0.6, 6);
  expect(asked).toMatchObject([{ model: { id: "all-minilm-l6-v2" }, inputs: ["a", "b"], dimensions: null }]);
});

describe("validate", () => {
  it("answers the grader in its canonical form", async () => {
    const { graders } = await connected();
    expect(await graders.validate({ grader: stringCheck })).toEqual({ grader: stringCheck });
    const given = {
      type: "multi",
      calculate_output: "a + b",
      graders: [
        { ...stringCheck, name: "a", operation: "neq" },
        { ...scoreModel, name: "b" },
      ],
    };
    expect(await graders.validate({ grader: given as never })).toEqual({
      grader: {
        ...given,
        name: "multi",
        graders: { a: { ...stringCheck, name: "a", operation: "ne" }, b: { ...scoreModel, name: "b" } },
      },
    });
  });
});

test("run refuses an item that is no object, and a sample that is no text", async () => {
  const { graders } = await connected();
  const run = async (more: object) =>
    graders.run({ grader: stringCheck, model_sample: "", ...more }).catch((error: unknown) => error);
  expect(await run({ item: [1] })).toMatchObject({ status: 400, param: "item", code: "invalid_type" });
  expect(await run({ model_sample: {} })).toMatchObject({ status: 400, param: "model_sample" });
  expect(await run({ sample: "" })).toMatchObject({
    status: 400,
    param: "sample",
    code: "unknown_parameter",
  });
  expect(await run({ item: null })).toMatchObject({ reward: 0 });
});

test("data that nests too deep is refused, or no JSON", async () => {
  const { graders } = await connected();
  const nested = (depth: number): unknown => JSON.parse("[".repeat(depth) + "]".repeat(depth));
  const run = async (variable: string, depth: number) =>
    graders
      .run({
        grader: { ...stringCheck, input: `{{ ${variable} }}`, operation: "ne" },
        model_sample: JSON.stringify(nested(depth + 1)),
        item: { a: nested(depth), label: "x" },
      })
      .catch((error: unknown) => error);
  expect(await run("item.a", 127)).toMatchObject({ reward: 1 });
  expect(await run("sample.output_json", 127)).toMatchObject({ reward: 1 });
  const error = await run("item.a", 128);
  expect(error).toMatchObject({ status: 400, param: "item", code: "invalid_value" });
  expect((error as Error).message).toContain(
    "Invalid 'item': it nests deeper than 128 levels. Send flatter data.",
  );
  const deepSample = await graders.run({
    grader: { ...stringCheck, input: "{{ sample.output_json }}" },
    model_sample: "[".repeat(100_000) + "]".repeat(100_000),
    item: { label: "x" },
  });
  expect(deepSample.metadata.errors.sample_parse_error).toBe(true);
});

test("python: a broken interpreter is a flag when it runs, and 503 when it is to check a source", async () => {
  const { graders } = await connected({ pythonGraders: "isolated", pythonInterpreter: "/nowhere/python" });
  const grader = { type: "python" as const, name: "p", source: "def grade(sample, item): return 1" };
  const { reward, metadata } = await graders.run({ grader, model_sample: "" });
  expect([reward, metadata.errors]).toEqual([
    0,
    {
      ...NO_ERRORS,
      python_grader_server_error: true,
      python_grader_server_error_type: "interpreter_unavailable",
    },
  ]);
  const error: unknown = await graders.validate({ grader }).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ status: 503 });
  expect((error as Error).message).toMatch(
    /This server could not look at the Python of 'grader\.source': \/nowhere\/python: spawn/,
  );
});

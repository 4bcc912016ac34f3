// Graders over fakes: every kind, multi graders, what each fault is, and what a judge is asked and how its answer is read.
import { describe, expect, it } from "vitest";
import { Cancelled, InvalidRequest, Unavailable } from "../errors.ts";
import { validateGraderRequest } from "../wire/graders.ts";
import type { Grader } from "../wire/graders.ts";
import { Grading } from "./grading.ts";
import type { GradingParts } from "./grading.ts";
import type { CompleteRequest, Completion } from "./model-graders.ts";
import { sampleOfText } from "./sample.ts";
import { MAX_COMPARED_CHARACTERS } from "./text-similarity.ts";

const { signal } = new AbortController();

function judging(
  answer: string | Partial<Completion> | Error,
  asked: CompleteRequest[] = [],
): Partial<GradingParts> {
  return {
    complete: async (request) => {
      asked.push(request);
      if (answer instanceof Error) throw answer;
      const given = typeof answer === "string" ? { text: answer } : answer;
      const counts = { promptTokens: 10, completionTokens: 5, cachedTokens: 0 };
      return { text: "", refusal: null, model: request.model, ...counts, ...given };
    },
  };
}

function gradingWith(parts: Partial<GradingParts> = {}): Grading {
  return new Grading({
    complete: async () => Promise.reject(new Error("no judge")),
    isModel: async (name) => name === "judge",
    embed: null,
    synonyms: null,
    python: null,
    ...parts,
  });
}

const graderOf = (grader: unknown): Grader => validateGraderRequest.parse({ grader }).grader;

async function grade(grader: unknown, parts: Partial<GradingParts> = {}, sample = "Paris", item = {}) {
  const context = { item: { answer: "paris", ...item }, sample: sampleOfText(sample) };
  return gradingWith(parts).grade(graderOf(grader), context, signal);
}

const check = (operation: string, input: string, reference: string) => ({
  type: "string_check",
  name: "check",
  operation,
  input,
  reference,
});

describe("string_check", () => {
  it.each([
    ["eq", "Paris", "Paris", 1],
    ["eq", "Paris", "paris", 0],
    ["ne", "Paris", "paris", 1],
    ["neq", "Paris", "Paris", 0],
    ["like", "in Paris now", "Paris", 1],
    ["like", "in Paris now", "paris", 0],
    ["ilike", "in PARIS now", "Paris", 1],
    ["ilike", "Paris", "in Paris", 0],
    ["eq", "{{ sample.output_text }}", "Paris", 1],
    ["ilike", "{{sample.output_text}}", "{{item.answer}}", 1],
  ])("%s of %s and %s", async (operation, input, reference, score) => {
    expect(await grade(check(operation, input, reference))).toEqual({
      score,
      faults: [],
      completions: [],
      subScores: {},
    });
  });

  it("a variable that leads nowhere is a fault with score 0", async () => {
    const { score, faults } = await grade(check("ne", "{{item.other}}", "x"));
    expect(score).toBe(0);
    expect(faults.map(({ flag }) => flag)).toEqual(["invalid_variable_error"]);
  });
});

describe("text_similarity", () => {
  const similar = (evaluation_metric: string, input = "{{sample.output_text}}") => ({
    type: "text_similarity",
    name: "similar",
    input,
    reference: "Paris",
    evaluation_metric,
  });

  it.each([
    [[1, 0], [1, 0], 1],
    [[3, 4], [4, 3], 0.96],
    [[1, 0], [0, 1], 0],
    [[1, 0], [-1, 0], 0],
    [[0, 0], [1, 0], 0],
  ])("cosine of %j and %j", async (first, second, score) => {
    const seen: (readonly string[])[] = [];
    const embed = async (texts: readonly string[]) => {
      seen.push(texts);
      return [Float32Array.from(first), Float32Array.from(second)];
    };
    expect((await grade(similar("cosine", "the {{item.answer}}"), { embed })).score).toBeCloseTo(score, 6);
    expect(seen).toEqual([["the paris", "Paris"]]);
  });

  it("a text past the limit is refused", async () => {
    const long = "x".repeat(MAX_COMPARED_CHARACTERS + 1);
    await expect(grade(similar("bleu"), {}, long)).rejects.toThrow(
      `The grader's 'input' is too long to be compared: expected at most ${MAX_COMPARED_CHARACTERS} characters once its templates are filled in, but got ${long.length}.`,
    );
  });
});

describe("score_model", () => {
  const model = { type: "score_model", name: "judge", model: "judge" };
  const scored = { ...model, input: [{ role: "user", content: "Rate {{sample.output_text}}." }] };

  it.each([
    ['{"result": 0.25, "steps": []}', 0.25],
    ['Sure!\n```json\n{"result": 0.5, "steps": []}\n```', 0.5],
    ['{"result": "0.5"}', 0.5],
    ["0.75", 0.75],
    ['{"result": 7, "steps": []}', 1],
    ['{"result": -1e9, "steps": []}', 0],
    // More than JavaScript's numbers hold.
    ['{"result":7e945,"steps":[]}', 1],
    ['{"result":-7e945,"steps":[]}', 0],
    ['{"result":"7e945"}', 1],
    ['{"result":7e945,"steps":[{"description":"First', 1],
    [`{"result":1${"0".repeat(400)}`, 1],
    // Cut off behind the result.
    ['{"result": 0.125, "steps": [{"description": "First', 0.125],
  ])("%s", async (text, score) => {
    const { score: got, faults, completions } = await grade(scored, judging(text));
    expect([got, faults]).toEqual([score, []]);
    expect(completions).toHaveLength(1);
  });

  it.each([
    "",
    "very good",
    '{"result": null}',
    '{"result": ""}',
    '{"result": "good"}',
    '{"result": "Infinity"}',
    "{}",
    "[]",
    "null",
    "{",
  ])("%j holds no score", async (text) => {
    const { score, faults, completions } = await grade({ ...scored, range: [1, 5] }, judging(text));
    expect([score, faults.map(({ flag }) => flag)]).toEqual([0, ["model_grader_parse_error"]]);
    // The tokens were spent all the same.
    expect(completions).toHaveLength(1);
  });

  it("null is as a range or threshold that was left out", async () => {
    const given = { ...scored, range: null, pass_threshold: null };
    const nulls = { ...given, input: [{ role: "user", content: "Rate it.", type: null }] };
    expect((await grade(nulls, judging("9"))).score).toBe(1);
  });

  it("clamps to the grader's range", async () => {
    expect((await grade({ ...scored, range: [-1, 5] }, judging("9"))).score).toBe(5);
    expect((await grade({ ...scored, range: [-1, 5] }, judging("-9"))).score).toBe(-1);
  });

  it("asks with the filled-in messages, the shape of the answer and the grader's sampling", async () => {
    const asked: CompleteRequest[] = [];
    await grade(
      {
        ...model,
        range: [0, 10],
        input: [
          { role: "developer", content: "Be strict.", type: "message" },
          { role: "user", content: ["Rate ", { type: "input_text", text: "{{sample.output_text}}" }] },
          { role: "assistant", content: { type: "output_text", text: "of {{item.answer}}" } },
        ],
        sampling_params: {
          seed: 4,
          top_p: 0.5,
          temperature: 0,
          max_completions_tokens: 9,
          reasoning_effort: "none",
        },
      },
      judging("1", asked),
    );
    const shape =
      'Answer with one JSON object and nothing else. The number is the score, from 0 to 10: {"result": number, "steps": [{"description": text, "conclusion": text}]}';
    expect(asked).toMatchObject([
      {
        model: "judge",
        messages: [
          { role: "developer", content: `Be strict.\n\n${shape}` },
          { role: "user", content: "Rate Paris" },
          { role: "assistant", content: "of paris" },
        ],
        maxTokens: 9,
        temperature: 0,
        topP: 0.5,
        seed: 4,
        schema: { name: "score", schema: { required: ["result", "steps"], additionalProperties: false } },
      },
    ]);
    await grade(scored, judging("1", asked));
    expect(asked[1]?.messages.map(({ role }) => role)).toEqual(["system", "user"]);
    expect(asked[1]).toMatchObject({ maxTokens: 2048, temperature: null, topP: null, seed: null });
  });

  it("a judge that fails or refuses is a fault; one that was cancelled is not", async () => {
    const failing = await grade(scored, judging(new Unavailable("Too many requests wait.")));
    expect(failing).toMatchObject({ score: 0, completions: [] });
    expect(failing.faults).toMatchObject([
      { flag: "model_grader_server_error", message: "Too many requests wait." },
    ]);
    const refusing = await grade(scored, judging({ refusal: "No." }));
    expect(refusing.faults.map(({ flag }) => flag)).toEqual(["model_grader_refusal_error"]);
    await expect(grade(scored, judging(new Cancelled()))).rejects.toThrow(Cancelled);
    await expect(grade(scored, judging(new TypeError("a bug")))).rejects.toThrow("a bug");
  });
});

describe("label_model", () => {
  const labelled = {
    type: "label_model",
    name: "label",
    model: "judge",
    input: [{ role: "user", content: "Is {{sample.output_text}} a town?" }],
    labels: ["yes", "no", 'may "be"'],
    passing_labels: ["yes", 'may "be"'],
  };

  it.each([
    ['{"result": "yes", "steps": []}', 1],
    ['{"result": "no", "steps": []}', 0],
    ['{"result": "may \\"be\\"", "steps": [', 1],
    ["yes", 1],
    ['"no"', 0],
  ])("%s", async (text, score) => {
    expect(await grade(labelled, judging(text))).toMatchObject({ score, faults: [] });
  });

  it.each(['{"result": "YES"}', "yes and no", '{"result": 1}', ""])(
    "%j is none of the labels",
    async (text) => {
      const { score, faults } = await grade(labelled, judging(text));
      expect([score, faults.map(({ flag }) => flag)]).toEqual([0, ["model_grader_parse_error"]]);
    },
  );

  it("offers the labels in the prompt and the schema", async () => {
    const asked: CompleteRequest[] = [];
    await grade(labelled, judging("yes", asked));
    expect(asked[0]?.messages[0]?.content).toContain('one of "yes", "no", "may \\"be\\"":');
    expect(asked[0]?.schema.schema).toMatchObject({
      properties: { result: { type: "string", enum: labelled.labels } },
    });
  });
});

describe("multi", () => {
  const multi = (
    calculate_output: string,
    graders: unknown = { a: check("eq", "x", "x"), b: check("eq", "x", "y") },
  ) => ({
    type: "multi",
    name: "both",
    graders,
    calculate_output,
  });

  it("computes over the scores by their keys", async () => {
    expect(await grade(multi("(3 * a + b) / 4"))).toEqual({
      score: 0.75,
      faults: [],
      completions: [],
      subScores: { a: 1, b: 0 },
    });
  });

  it("takes a list, and a single grader, by their names", async () => {
    const named = (name: string) => ({ ...check("eq", "x", "x"), name });
    expect((await grade(multi("one + two", [named("one"), named("two")]))).subScores).toEqual({
      one: 1,
      two: 1,
    });
    expect((await grade(multi("one", named("one")))).score).toBe(1);
  });

  it("a grader's fault is the whole's, and counts as 0", async () => {
    const { score, faults } = await grade(
      multi("a + b", { a: check("eq", "x", "x"), b: check("eq", "{{item.none}}", "y") }),
    );
    expect([score, faults.map(({ flag }) => flag)]).toEqual([1, ["invalid_variable_error"]]);
  });

  it.each([
    ["a +", "formula_parse_error"],
    ["a + c", "invalid_variable_error"],
    ["a / b", "unresponsive_reward_error"],
    ["log(0 - a)", "unresponsive_reward_error"],
  ])("%s", async (formula, flag) => {
    const { score, faults, subScores } = await grade(multi(formula));
    expect([score, faults.map((fault) => fault.flag), subScores]).toEqual([0, [flag], { a: 1, b: 0 }]);
  });

  it("gathers what every judge spent", async () => {
    const judge = {
      type: "score_model",
      name: "judge",
      model: "judge",
      input: [{ role: "user", content: "?" }],
    };
    const { completions } = await grade(multi("a + b", { a: judge, b: judge }), judging("1"));
    expect(completions).toHaveLength(2);
  });
});

describe("what a grader needs", () => {
  const means = async (grader: unknown, parts: Partial<GradingParts> = {}) =>
    gradingWith(parts).requireMeans(graderOf(grader), "grader");
  const python = { type: "python", source: "def grade(sample, item): return 1" };
  const within = (grader: unknown) => ({ type: "multi", graders: { p: grader }, calculate_output: "p" });

  it("Python that is off", async () => {
    await expect(means(python)).rejects.toMatchObject({
      code: "unsupported_value",
      param: "grader.type",
      message:
        "Python graders run code from requests, and are switched off on this server. Use another type of grader, or have the operator set TUNESMITH_PYTHON_GRADERS.",
    });
    await expect(means(within(python))).rejects.toMatchObject({ param: "grader.graders.p.type" });
  });

  it("embeddings for cosine", async () => {
    const cosine = {
      type: "text_similarity",
      name: "c",
      input: "",
      reference: "",
      evaluation_metric: "cosine",
    };
    await expect(means(cosine)).rejects.toMatchObject({
      code: "unsupported_value",
      param: "grader.evaluation_metric",
      message: expect.stringMatching(
        /^The metric 'cosine' compares embeddings, and this server has no/,
      ) as string,
    });
    await expect(means(cosine, { embed: async () => [] })).resolves.toBeUndefined();
  });

  it("a judge that exists", async () => {
    const judge = (model: string) => ({
      type: "score_model",
      name: "j",
      model,
      input: [{ role: "user", content: "?" }],
    });
    await expect(means(judge("judge"))).resolves.toBeUndefined();
    await expect(means(judge("o9"))).rejects.toMatchObject({
      code: "model_not_found",
      param: "grader.model",
      message:
        "The model 'o9' does not exist or you do not have access to it. A grader's 'model' is one of this server's; GET /v1/models lists them.",
    });
  });
});

describe("checking", () => {
  const checking = async (grader: unknown) => gradingWith().check(graderOf(grader), "grader", signal);

  it.each([
    [check("eq", "{{x}}", ""), "grader.input"],
    [check("eq", "", "{{item}}"), "grader.reference"],
    [
      { type: "multi", graders: { a: check("eq", "", "{{x.y}}") }, calculate_output: "a" },
      "grader.graders.a.reference",
    ],
    [
      { type: "multi", graders: { a: check("eq", "", "") }, calculate_output: "a +" },
      "grader.calculate_output",
    ],
    [
      { type: "multi", graders: { a: check("eq", "", "") }, calculate_output: "b" },
      "grader.calculate_output",
    ],
    [
      {
        type: "score_model",
        name: "j",
        model: "judge",
        input: [
          { role: "user", content: "?" },
          { role: "user", content: ["x", { type: "input_text", text: "{{y}}" }] },
        ],
      },
      "grader.input[1].content",
    ],
  ])("%j", async (grader, param) => {
    const error: unknown = await checking(grader).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(InvalidRequest);
    expect(error).toMatchObject({ param, code: "invalid_value" });
    expect((error as Error).message.startsWith(`Invalid '${param}': `)).toBe(true);
  });

  it("a good grader passes, whatever its variables will be", async () => {
    await expect(
      checking(check("eq", "{{item.any}} {{sample.output_json.x}}", "{ {")),
    ).resolves.toBeUndefined();
  });
});

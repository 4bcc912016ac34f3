// Graders: the definitions that clients send, made canonical, and what running one answers. A definition is data that is
// stored and sent back, so other rooms use it as it stands here.
import { z } from "zod";
import { characterCount } from "./characters.ts";
import { isDeeperThan } from "./depth.ts";
import { addFault, decimal, integer, notImplemented } from "./validation.ts";

export const SIMILARITY_METRICS = [
  "cosine",
  "fuzzy_match",
  "bleu",
  "gleu",
  "meteor",
  "rouge_1",
  "rouge_2",
  "rouge_3",
  "rouge_4",
  "rouge_5",
  "rouge_l",
] as const;
export type SimilarityMetric = (typeof SIMILARITY_METRICS)[number];

/** The whole definition as JSON: room for the largest Python source and long prompts. */
export const MAX_GRADER_CHARACTERS = 1024 * 1024;
/** OpenAI's limit of a Python grader. */
export const MAX_PYTHON_SOURCE_BYTES = 256 * 1024;
/** Graders of one multi grader: they run side by side. */
export const MAX_SUB_GRADERS = 32;
/** Messages of a model grader's prompt. */
export const MAX_GRADER_MESSAGES = 64;
/** Labels of a label model, and the length of one: they are part of the prompt. */
export const MAX_LABELS = 128;
export const MAX_LABEL_CHARACTERS = 256;
/** A formula; with the depth below this bounds what reading one costs. */
export const MAX_FORMULA_CHARACTERS = 4096;
/** Levels of an item, and of a sample that is JSON: far more than data has, and safely below where recursive code overflows. */
export const MAX_ITEM_DEPTH = 128;
/** The only image of OpenAI's Python graders. */
const PYTHON_IMAGE = "2025-05-08";

const name = z.string().min(1).max(256);
/** OpenAI's examples leave the name of these two out; its reference requires one. */
const optionalName = (type: "python" | "multi") => name.nullish().transform((given): string => given ?? type);
/** Null, here and for a range: as left out, since what is absent is null in objects of this protocol. */
const threshold = decimal().nullish();

const stringCheck = z.strictObject({
  type: z.literal("string_check"),
  name,
  input: z.string(),
  reference: z.string(),
  /** The guide calls "ne" "neq". */
  operation: z
    .enum(["eq", "ne", "neq", "like", "ilike"])
    .transform((given) => (given === "neq" ? "ne" : given)),
});
export type StringCheckGrader = z.infer<typeof stringCheck>;

const textSimilarity = z.strictObject({
  type: z.literal("text_similarity"),
  name,
  input: z.string(),
  reference: z.string(),
  evaluation_metric: z.enum(SIMILARITY_METRICS),
  pass_threshold: threshold,
});
export type TextSimilarityGrader = z.infer<typeof textSimilarity>;

const contentPart = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("input_text"), text: z.string() }),
  z.strictObject({ type: z.literal("output_text"), text: z.string() }),
]);
const message = z.strictObject({
  role: z.enum(["user", "assistant", "system", "developer"]),
  content: z.union([z.string(), contentPart, z.array(z.union([z.string(), contentPart])).min(1)]),
  type: z.literal("message").nullish(),
});
export type GraderMessage = z.infer<typeof message>;
const input = z.array(message).min(1).max(MAX_GRADER_MESSAGES);

/** Bounds of a signed 64-bit integer, which OpenAI's seed is. */
const INT64 = { min: -(2 ** 63), max: 2 ** 63 };

const scoreModel = z.strictObject({
  type: z.literal("score_model"),
  name,
  model: z.string().min(1),
  input,
  range: z
    .array(decimal())
    .superRefine((range, context) => {
      const [least = 0, most = 0] = range;
      if (range.length === 2 && least < most) return;
      addFault(context, {
        code: "invalid_value",
        message: `Invalid '{param}': expected two numbers, the lowest and the highest score, but got ${JSON.stringify(range).slice(0, 80)} instead.`,
      });
    })
    .meta({ minItems: 2, maxItems: 2, description: "The lowest and the highest score." })
    .nullish(),
  pass_threshold: threshold,
  sampling_params: z
    .strictObject({
      seed: integer(INT64).nullish(),
      top_p: decimal({ min: 0, max: 1 }).nullish(),
      temperature: decimal({ min: 0, max: 2 }).nullish(),
      /** OpenAI's spelling. */
      max_completions_tokens: integer({ min: 1 }).nullish(),
      reasoning_effort: notImplemented("none"),
    })
    .nullish(),
});
export type ScoreModelGrader = z.infer<typeof scoreModel>;

const labels = z.array(z.string().min(1).max(MAX_LABEL_CHARACTERS)).min(1).max(MAX_LABELS);

const labelModel = z.strictObject({
  type: z.literal("label_model"),
  name,
  model: z.string().min(1),
  input,
  labels,
  passing_labels: labels,
});
export type LabelModelGrader = z.infer<typeof labelModel>;

const python = z.strictObject({
  type: z.literal("python"),
  name: optionalName("python"),
  source: z
    .string()
    .min(1)
    .superRefine((source, context) => {
      const bytes = new TextEncoder().encode(source).length;
      if (bytes <= MAX_PYTHON_SOURCE_BYTES) return;
      addFault(context, {
        code: "string_above_max_length",
        message: `Invalid '{param}': expected at most ${MAX_PYTHON_SOURCE_BYTES} bytes of Python, but got ${bytes} instead.`,
      });
    })
    .describe(`At most ${MAX_PYTHON_SOURCE_BYTES} bytes of UTF-8.`),
  image_tag: z.literal(PYTHON_IMAGE).nullish(),
});
export type PythonGrader = z.infer<typeof python>;

const singleGrader = z
  .discriminatedUnion("type", [stringCheck, textSimilarity, scoreModel, labelModel, python])
  .superRefine(checkLabels);
/** Every grader but multi. */
export type SingleGrader = z.infer<typeof singleGrader>;

/** A formula's variable; graders are named by such, so that every one can be used. */
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/;

const subGraders = z
  // In practice a map; the reference types one grader, and some clients send a list.
  .preprocess(toMap, z.record(z.string(), singleGrader))
  .superRefine((graders, context) => {
    const keys = Object.keys(graders);
    if (keys.length < 1 || keys.length > MAX_SUB_GRADERS) {
      addFault(context, {
        code: keys.length === 0 ? "empty_array" : "array_above_max_length",
        message: `Invalid '{param}': expected 1 to ${MAX_SUB_GRADERS} graders, but got ${keys.length} instead.`,
      });
    }
    const odd = keys.find((key) => !VARIABLE.test(key));
    if (odd === undefined) return;
    addFault(context, {
      code: "invalid_value",
      message: `Invalid '{param}': '${odd.slice(0, 80)}' names a grader and cannot be a variable of 'calculate_output'. Use letters, digits and underscores, and no digit first.`,
    });
  })
  .meta({
    minProperties: 1,
    maxProperties: MAX_SUB_GRADERS,
    description: "A map by name; a list or a single grader goes by the graders' names.",
  });

const multi = z.strictObject({
  type: z.literal("multi"),
  name: optionalName("multi"),
  graders: subGraders,
  calculate_output: z.string().min(1).max(MAX_FORMULA_CHARACTERS),
});
export type MultiGrader = z.infer<typeof multi>;

const grader = z
  .discriminatedUnion("type", [stringCheck, textSimilarity, scoreModel, labelModel, python, multi])
  .superRefine((given, context) => {
    checkLabels(given, context);
    const length = characterCount(JSON.stringify(given));
    if (length <= MAX_GRADER_CHARACTERS) return;
    addFault(context, {
      code: "string_above_max_length",
      message: `Invalid '{param}': expected a grader of at most ${MAX_GRADER_CHARACTERS} characters as JSON, but got ${length} instead.`,
    });
  })
  .meta({ id: "Grader" });
/** A grader in its canonical form: `neq` is `ne`, the graders of a multi grader are a map, every grader has a name. */
export type Grader = z.infer<typeof grader>;

/** A list, and a single grader, by the graders' names; what is neither goes on to be judged as it is. */
function toMap(given: unknown): unknown {
  const named = (each: unknown, index: number): [string, unknown] => {
    const own: unknown = isObject(each) ? each["name"] : undefined;
    return [typeof own === "string" ? own : String(index), each];
  };
  if (Array.isArray(given)) {
    const entries = given.map(named);
    // Two of one name would become one; left a list, they are refused.
    return new Set(entries.map(([key]) => key)).size === entries.length ? Object.fromEntries(entries) : given;
  }
  return isObject(given) && typeof given["type"] === "string" ? Object.fromEntries([named(given, 0)]) : given;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null;

function checkLabels(
  given: { type: string; labels?: string[]; passing_labels?: string[] },
  context: z.core.$RefinementCtx,
): void {
  if (given.type !== "label_model") return;
  const index = (given.passing_labels ?? []).findIndex((label) => given.labels?.includes(label) !== true);
  if (index === -1) return;
  addFault(context, {
    code: "invalid_value",
    path: ["passing_labels", index],
    message: `Invalid '{param}': '${given.passing_labels?.[index] ?? ""}' is none of the grader's 'labels'.`,
  });
}

export const validateGraderRequest = z.strictObject({ grader }).meta({ id: "ValidateGraderRequest" });

export const runGraderRequest = z
  .strictObject({
    grader,
    model_sample: z.string(),
    item: z
      .record(z.string(), z.unknown())
      .superRefine((item, context) => {
        if (!isDeeperThan(item, MAX_ITEM_DEPTH)) return;
        addFault(context, {
          code: "invalid_value",
          message: `Invalid '{param}': it nests deeper than ${MAX_ITEM_DEPTH} levels. Send flatter data.`,
        });
      })
      .nullish(),
  })
  .meta({ id: "RunGraderRequest" });

export const validateGraderResponse = z.object({ grader }).meta({ id: "ValidateGraderResponse" });
export type ValidateGraderResponse = z.infer<typeof validateGraderResponse>;

/** Tokens of a judge; OpenAI's reference types an integer, its service sends this. */
const graderTokenUsage = z
  .object({
    prompt_tokens: z.int(),
    total_tokens: z.int(),
    completion_tokens: z.int(),
    cached_tokens: z.int(),
  })
  .meta({ id: "GraderTokenUsage" });
export type GraderTokenUsage = z.infer<typeof graderTokenUsage>;

/** What went wrong while grading: the answer is 200 all the same, with reward 0 for the part that failed. */
const graderErrors = z
  .object({
    formula_parse_error: z.boolean(),
    sample_parse_error: z.boolean(),
    truncated_observation_error: z.boolean(),
    unresponsive_reward_error: z.boolean(),
    invalid_variable_error: z.boolean(),
    other_error: z.boolean(),
    python_grader_server_error: z.boolean(),
    python_grader_server_error_type: z.string().nullable(),
    python_grader_runtime_error: z.boolean(),
    python_grader_runtime_error_details: z.string().nullable(),
    model_grader_server_error: z.boolean(),
    model_grader_refusal_error: z.boolean(),
    model_grader_parse_error: z.boolean(),
    model_grader_server_error_details: z.string().nullable(),
  })
  .meta({ id: "GraderErrors" });
export type GraderErrors = z.infer<typeof graderErrors>;

export const runGraderResponse = z
  .object({
    reward: z.number(),
    metadata: z.object({
      name: z.string(),
      type: z.enum(["string_check", "text_similarity", "score_model", "label_model", "python", "multi"]),
      errors: graderErrors,
      execution_time: z.number().describe("Seconds."),
      scores: z.record(z.string(), z.number()),
      token_usage: graderTokenUsage.nullable(),
      sampled_model_name: z.string().nullable(),
    }),
    sub_rewards: z.record(z.string(), z.number()),
    model_grader_token_usage_per_model: z.record(z.string(), graderTokenUsage),
  })
  .meta({ id: "RunGraderResponse" });
export type RunGraderResponse = z.infer<typeof runGraderResponse>;

// Legacy completions: plain text that a model goes on from. The request, the answer and its stream chunks, which have one shape.
// Prompts are checked here by hand: a schema for each of their tokens would cost more than reading them.
import { z } from "zod";
import { logitBias, penalty, seed, stop, streamOptions } from "./sampling.ts";
import { addFault, decimal, integer, notImplemented } from "./validation.ts";

/** OpenAI's default. */
export const DEFAULT_COMPLETION_TOKENS = 16;

/** Answers to all prompts of one request together, those that best_of drops included: they are held in memory until all are there. */
const MAX_COMPLETION_CHOICES = 2048;

const PROMPT_FORMS =
  "a string, an array of strings, an array of token ids, or an array of arrays of token ids";

const prompt = z
  .unknown()
  .transform((value, context): (string | number[])[] => {
    const fault = (code: string, message: string): never => {
      addFault(context, { code, message });
      return z.NEVER;
    };
    // As in OpenAI's reference: the beginning of a text.
    if (value === undefined || value === null) return [""];
    const isOne = typeof value === "string" || (Array.isArray(value) && typeof value[0] === "number");
    const list: unknown = isOne ? [value] : value;
    if (!Array.isArray(list))
      return fault("invalid_type", `Invalid type for '{param}': expected ${PROMPT_FORMS}.`);
    if (list.length === 0) {
      return fault("empty_array", "Invalid '{param}': empty array. Expected at least one prompt.");
    }
    for (const [i, one] of (list as unknown[]).entries()) {
      const isIds = Array.isArray(one) && one.every(isTokenId);
      if (typeof one !== typeof list[0] || !(typeof one === "string" || isIds)) {
        const place = isOne ? "{param}" : `{param}[${i}]`;
        return fault(
          "invalid_type",
          `Invalid type for '${place}': expected ${PROMPT_FORMS}, the same for all; token ids are whole numbers from 0.`,
        );
      }
    }
    return list as (string | number[])[];
  })
  .meta({
    anyOf: [
      { type: "string" },
      { type: "array", items: { type: "string" }, minItems: 1 },
      { type: "array", items: { type: "integer", minimum: 0 }, minItems: 1 },
      { type: "array", items: { type: "array", items: { type: "integer", minimum: 0 } }, minItems: 1 },
      { type: "null" },
    ],
  });

const isTokenId = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;

export const createCompletionRequest = z
  .strictObject({
    model: z.string().min(1),
    prompt: prompt.optional(),
    suffix: notImplemented(""),
    /** 0: nothing is written; with `echo` and `logprobs`, the prompt is scored. */
    max_tokens: integer({ min: 0 }).nullish(),
    temperature: decimal({ min: 0, max: 2 }).nullish(),
    top_p: decimal({ min: 0, max: 1 }).nullish(),
    n: integer({ min: 1, max: 128 }).nullish(),
    /** 0 counts as left out. */
    best_of: integer({ min: 0, max: 20 }).nullish(),
    stream: z.boolean().nullish(),
    stream_options: streamOptions,
    logprobs: integer({ min: 0, max: 5 }).nullish(),
    echo: z.boolean().nullish(),
    stop,
    seed,
    frequency_penalty: penalty,
    presence_penalty: penalty,
    logit_bias: logitBias,
    /** Names the caller for logs and abuse checks; by contract it never changes the answer. */
    user: z.string().nullish(),
  })
  .transform((request) => ({ ...request, prompt: request.prompt ?? [""] }))
  .superRefine((request, context) => {
    const fault = (path: string, code: string, message: string): void =>
      addFault(context, { path: [path], code, message });
    const n = request.n ?? 1;
    const bestOf = request.best_of ?? 0;
    if (bestOf > 0 && bestOf < n) {
      fault(
        "best_of",
        "invalid_value",
        `Invalid '{param}': ${bestOf} answers are fewer than the ${n} that 'n' asks for. Send at least 'n', or leave one of them out.`,
      );
    }
    if (bestOf > n && request.stream === true) {
      fault(
        "best_of",
        "invalid_parameter_combination",
        "The 'best_of' parameter cannot choose among answers that are streamed. Leave out 'stream', or send no more than 'n'.",
      );
    }
    const choices = request.prompt.length * Math.max(n, bestOf);
    if (choices > MAX_COMPLETION_CHOICES) {
      fault(
        "prompt",
        "array_above_max_length",
        `Invalid '{param}': ${request.prompt.length} prompts with ${Math.max(n, bestOf)} answers each are ${choices} answers, the most is ${MAX_COMPLETION_CHOICES}. Send fewer at once.`,
      );
    }
    const hasOptions = request.stream_options !== null && request.stream_options !== undefined;
    if (hasOptions && request.stream !== true) {
      fault(
        "stream_options",
        "invalid_parameter_combination",
        "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
      );
    }
  })
  .meta({ id: "CreateCompletionRequest" });
export type CreateCompletionRequest = z.infer<typeof createCompletionRequest>;

/** One element for each token; a text's first token has null for what nobody can know of it. */
export const completionLogprobs = z
  .object({
    tokens: z.array(z.string()),
    token_logprobs: z.array(z.number().nullable()),
    /** The most likely tokens and the one that stands there; null where `logprobs` is 0. */
    top_logprobs: z.array(z.record(z.string(), z.number()).nullable()).nullable(),
    /** Characters of prompt and answer before the token, also where the prompt is not echoed. */
    text_offset: z.array(z.int()),
  })
  .meta({ id: "CompletionLogprobs" });
export type CompletionLogprobs = z.infer<typeof completionLogprobs>;

export const completionUsage = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
});
export type CompletionUsage = z.infer<typeof completionUsage>;

const head = {
  id: z.string(),
  object: z.literal("text_completion"),
  created: z.int(),
  model: z.string(),
  system_fingerprint: z.string(),
};
const FINISH_REASONS = ["stop", "length"] as const;
const choice = z.object({
  text: z.string(),
  /** Of all prompts' answers, prompt after prompt. */
  index: z.int(),
  logprobs: completionLogprobs.nullable(),
  finish_reason: z.enum(FINISH_REASONS),
});

export const completion = z
  .object({ ...head, choices: z.array(choice), usage: completionUsage })
  .meta({ id: "Completion" });
export type Completion = z.infer<typeof completion>;

/** `usage` is there, null until the last chunk, only when the request asked for it. */
export const completionChunk = z
  .object({
    ...head,
    choices: z.array(choice.extend({ finish_reason: z.enum(FINISH_REASONS).nullable() })),
    usage: completionUsage.nullable().optional(),
  })
  .meta({ id: "CompletionChunk" });
export type CompletionChunk = z.infer<typeof completionChunk>;

// Chat completions: the request with exact ranges, the completion and its stream chunks. A documented parameter that this
// server does not carry out is refused by name unless its value changes nothing.
import { z } from "zod";
import { addFault, decimal, integer, notImplemented } from "./validation.ts";

const textPart = z.strictObject({ type: z.literal("text"), text: z.string() });
const partTypes = z.discriminatedUnion("type", [textPart]);
const content = z.union([z.string(), z.array(partTypes).min(1)]);
const name = z.string().min(1).max(64).nullish();

const message = z.discriminatedUnion("role", [
  z.strictObject({ role: z.literal("system"), content, name }),
  z.strictObject({ role: z.literal("developer"), content, name }),
  z.strictObject({ role: z.literal("user"), content, name }),
  z.strictObject({
    role: z.literal("assistant"),
    content,
    name,
    // A client sends earlier answers back as they came, so what such an answer holds must pass.
    refusal: notImplemented(),
    annotations: notImplemented([]),
    audio: notImplemented(),
    tool_calls: notImplemented([]),
    function_call: notImplemented(),
  }),
]);
export type ChatRequestMessage = z.infer<typeof message>;

const stop = z.union([z.string().min(1), z.array(z.string().min(1)).min(1).max(4)]);

/** Bounds of a signed 64-bit integer, which OpenAI's seed is. */
const INT64 = { min: -(2 ** 63), max: 2 ** 63 };

export const createChatCompletionRequest = z
  .strictObject({
    model: z.string().min(1),
    messages: z.array(message).min(1),
    temperature: decimal({ min: 0, max: 2 }).nullish(),
    top_p: decimal({ min: 0, max: 1 }).nullish(),
    n: integer({ min: 1, max: 128 }).nullish(),
    stop: stop.nullish(),
    max_completion_tokens: integer({ min: 1 }).nullish(),
    /** Deprecated name of max_completion_tokens. */
    max_tokens: integer({ min: 1 }).nullish(),
    seed: integer(INT64).nullish(),
    stream: z.boolean().nullish(),
    stream_options: z
      .strictObject({
        include_usage: z.boolean().nullish(),
        /** Chunks are never padded here, so only false can be promised. */
        include_obfuscation: notImplemented(false),
      })
      .nullish(),
    // These three name the caller for logs, abuse checks and cache routing; by contract they never change the answer.
    user: z.string().nullish(),
    safety_identifier: z.string().max(64).nullish(),
    prompt_cache_key: z.string().nullish(),
    audio: notImplemented(),
    frequency_penalty: notImplemented(0),
    function_call: notImplemented("none"),
    functions: notImplemented([]),
    logit_bias: notImplemented({}),
    logprobs: notImplemented(false),
    metadata: notImplemented({}),
    modalities: notImplemented(["text"]),
    moderation: notImplemented(),
    parallel_tool_calls: notImplemented(true),
    prediction: notImplemented(),
    presence_penalty: notImplemented(0),
    prompt_cache_retention: notImplemented(),
    reasoning_effort: notImplemented(),
    response_format: notImplemented({ type: "text" }),
    service_tier: notImplemented("auto", "default"),
    store: notImplemented(false),
    tool_choice: notImplemented("none"),
    tools: notImplemented([]),
    top_logprobs: notImplemented(0),
    verbosity: notImplemented("medium"),
    web_search_options: notImplemented(),
  })
  .superRefine((request, context) => {
    if (isGiven(request.max_tokens) && isGiven(request.max_completion_tokens)) {
      addFault(context, {
        code: "invalid_parameter_combination",
        path: ["max_tokens"],
        message:
          "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported. Send only 'max_completion_tokens'.",
      });
    }
    if (isGiven(request.stream_options) && request.stream !== true) {
      addFault(context, {
        code: "invalid_parameter_combination",
        path: ["stream_options"],
        message: "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
      });
    }
  });
export type CreateChatCompletionRequest = z.infer<typeof createChatCompletionRequest>;

const isGiven = (value: unknown) => value !== null && value !== undefined;

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number; audio_tokens: number };
  completion_tokens_details: {
    reasoning_tokens: number;
    audio_tokens: number;
    accepted_prediction_tokens: number;
    rejected_prediction_tokens: number;
  };
}

export type ChatFinishReason = "stop" | "length";

export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: {
    index: number;
    message: { role: "assistant"; content: string; refusal: null; annotations: [] };
    logprobs: null;
    finish_reason: ChatFinishReason;
  }[];
  usage: Usage;
  service_tier: "default";
  system_fingerprint: string;
}

export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  service_tier: "default";
  system_fingerprint: string;
  choices: {
    index: number;
    delta: { role?: "assistant"; content?: string; refusal?: null };
    logprobs: null;
    finish_reason: ChatFinishReason | null;
  }[];
  /** Present (null until the last chunk) only when the request asked for it. */
  usage?: Usage | null;
}

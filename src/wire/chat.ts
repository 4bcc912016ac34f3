// Chat completions: the request with exact ranges, the completion and its stream chunks. A documented parameter that this
// server does not carry out is refused by name unless its value changes nothing.
import { z } from "zod";
import { messages } from "./chat-messages.ts";
import { functionChoice, functionFault, functions } from "./chat-functions.ts";
import { namedIn, responseFormat, toolChoice, tools } from "./chat-tools.ts";
import { logitBias, penalty, seed, stop, streamOptions } from "./sampling.ts";
import { addFault, decimal, integer, metadata, notImplemented } from "./validation.ts";

export type { ChatRequestMessage } from "./chat-messages.ts";
export type { ChatTool } from "./chat-tools.ts";

export const createChatCompletionRequest = z
  .strictObject({
    model: z.string().min(1),
    messages,
    temperature: decimal({ min: 0, max: 2 }).nullish(),
    top_p: decimal({ min: 0, max: 1 }).nullish(),
    n: integer({ min: 1, max: 128 }).nullish(),
    stop,
    max_completion_tokens: integer({ min: 1 }).nullish(),
    /** Deprecated name of max_completion_tokens. */
    max_tokens: integer({ min: 1 }).nullish(),
    seed,
    stream: z.boolean().nullish(),
    stream_options: streamOptions,
    frequency_penalty: penalty,
    presence_penalty: penalty,
    logit_bias: logitBias,
    logprobs: z.boolean().nullish(),
    top_logprobs: integer({ min: 0, max: 20 }).nullish(),
    response_format: responseFormat.nullish(),
    tools: tools.nullish(),
    tool_choice: toolChoice.nullish(),
    parallel_tool_calls: z.boolean().nullish(),
    /** Whether the answer is kept, to be read by its id. */
    store: z.boolean().nullish(),
    /** Of the kept answer. */
    metadata: metadata.nullish(),
    /** The deprecated forerunners of tools and tool_choice. */
    functions: functions.nullish(),
    function_call: functionChoice.nullish(),
    // These are about the caller, the queue and a cache: by contract they never change the answer.
    user: z.string().nullish(),
    safety_identifier: z.string().max(64).nullish(),
    prompt_cache_key: z.string().nullish(),
    prompt_cache_retention: z.enum(["in_memory", "in-memory", "24h"]).nullish(),
    service_tier: z.enum(["auto", "default", "flex", "scale", "priority", "fast"]).nullish(),
    audio: notImplemented(),
    modalities: notImplemented(["text"]),
    moderation: notImplemented(),
    prediction: notImplemented(),
    // No model here reasons before it answers.
    reasoning_effort: notImplemented("none"),
    verbosity: notImplemented("medium"),
    web_search_options: notImplemented(),
  })
  .superRefine((request, context) => {
    refineFormats(request, context);
    if (isGiven(request.max_tokens) && isGiven(request.max_completion_tokens)) {
      addFault(context, {
        code: "invalid_parameter_combination",
        path: ["max_tokens"],
        message:
          "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported. Send only 'max_completion_tokens'.",
      });
    }
    if (Object.keys(request.metadata ?? {}).length > 0 && request.store !== true) {
      addFault(context, {
        code: "invalid_parameter_combination",
        path: ["metadata"],
        message: "The 'metadata' parameter is only allowed when 'store' is enabled.",
      });
    }
    if (isGiven(request.stream_options) && request.stream !== true) {
      addFault(context, {
        code: "invalid_parameter_combination",
        path: ["stream_options"],
        message: "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
      });
    }
  })
  .meta({ id: "CreateChatCompletionRequest" });
export type CreateChatCompletionRequest = z.infer<typeof createChatCompletionRequest>;

/** Parameters that need or exclude each other. */
function refineFormats(
  request: {
    messages: z.infer<typeof messages>;
    logprobs?: boolean | null | undefined;
    top_logprobs?: number | null | undefined;
    response_format?: z.infer<typeof responseFormat> | null | undefined;
    tools?: z.infer<typeof tools> | null | undefined;
    tool_choice?: z.infer<typeof toolChoice> | null | undefined;
    parallel_tool_calls?: boolean | null | undefined;
    functions?: z.infer<typeof functions> | null | undefined;
    function_call?: z.infer<typeof functionChoice> | null | undefined;
  },
  context: z.core.$RefinementCtx,
): void {
  const { response_format: format, tool_choice: choice } = request;
  const offered = request.tools ?? [];
  const fault = (path: (string | number)[], code: string, message: string): void =>
    addFault(context, { code, path, message });
  if (isGiven(request.top_logprobs) && request.logprobs !== true) {
    fault(
      ["top_logprobs"],
      "invalid_parameter_combination",
      "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
    );
  }
  for (const name of ["tool_choice", "parallel_tool_calls"] as const) {
    const isHarmless = request[name] === "none" || !isGiven(request[name]);
    if (offered.length === 0 && !isHarmless) {
      fault([name], "invalid_value", `The '${name}' parameter is only allowed when 'tools' are specified.`);
    }
  }
  for (const { name, path } of namedIn(choice ?? "auto")) {
    if (!offered.some((tool) => tool.function.name === name)) {
      fault(
        ["tool_choice", ...path],
        "invalid_value",
        `Invalid '{param}': there is no function named '${name.slice(0, 64)}' in 'tools'.`,
      );
    }
  }
  const badFunctions = functionFault(request);
  if (badFunctions !== null) addFault(context, badFunctions);
  if (format?.type === "json_object" && !/json/i.test(JSON.stringify(request.messages))) {
    fault(
      ["messages"],
      "invalid_value",
      "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
    );
  }
}

const isGiven = (value: unknown) => value !== null && value !== undefined;

const usage = z
  .object({
    prompt_tokens: z.int(),
    completion_tokens: z.int(),
    total_tokens: z.int(),
    prompt_tokens_details: z.object({ cached_tokens: z.int(), audio_tokens: z.int() }),
    completion_tokens_details: z.object({
      reasoning_tokens: z.int(),
      audio_tokens: z.int(),
      accepted_prediction_tokens: z.int(),
      rejected_prediction_tokens: z.int(),
    }),
  })
  .meta({ id: "CompletionUsage" });
export type Usage = z.infer<typeof usage>;

const finishReason = z.enum(["stop", "length", "tool_calls", "function_call"]);
export type ChatFinishReason = z.infer<typeof finishReason>;

const chatFunctionCall = z.object({ name: z.string(), arguments: z.string().describe("A JSON text.") });
const chatToolCall = z
  .object({ id: z.string(), type: z.literal("function"), function: chatFunctionCall })
  .meta({ id: "ChatToolCall" });
export type ChatToolCall = z.infer<typeof chatToolCall>;

const tokenLogprob = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(z.int()) });
export type ChatTokenLogprob = z.infer<typeof tokenLogprob>;

const chatLogprobs = z
  .object({
    content: z.array(tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob) })),
    refusal: z.null(),
  })
  .meta({ id: "ChatLogprobs" });
export type ChatLogprobs = z.infer<typeof chatLogprobs>;

export const chatCompletion = z
  .object({
    id: z.string(),
    object: z.literal("chat.completion"),
    created: z.int(),
    model: z.string(),
    choices: z.array(
      z.object({
        index: z.int(),
        message: z.object({
          role: z.literal("assistant"),
          content: z.string().nullable(),
          refusal: z.null(),
          annotations: z.tuple([]),
          tool_calls: z.array(chatToolCall).exactOptional(),
          function_call: chatFunctionCall.exactOptional().describe("Of requests with `functions` only."),
        }),
        logprobs: chatLogprobs.nullable(),
        finish_reason: finishReason,
      }),
    ),
    usage,
    service_tier: z.literal("default"),
    system_fingerprint: z.string(),
  })
  .meta({ id: "ChatCompletion" });
export type ChatCompletion = z.infer<typeof chatCompletion>;

const functionCallDelta = z.object({ name: z.string().exactOptional(), arguments: z.string() });
const toolCallDelta = z.object({
  index: z.int(),
  id: z.string().exactOptional(),
  type: z.literal("function").exactOptional(),
  function: functionCallDelta,
});
export type ChatToolCallDelta = z.infer<typeof toolCallDelta>;

export const chatCompletionChunk = z
  .object({
    id: z.string(),
    object: z.literal("chat.completion.chunk"),
    created: z.int(),
    model: z.string(),
    service_tier: z.literal("default"),
    system_fingerprint: z.string(),
    choices: z.array(
      z.object({
        index: z.int(),
        delta: z.object({
          role: z.literal("assistant").exactOptional(),
          content: z.string().nullable().exactOptional(),
          refusal: z.null().exactOptional(),
          tool_calls: z.array(toolCallDelta).exactOptional(),
          function_call: functionCallDelta.exactOptional(),
        }),
        logprobs: chatLogprobs.nullable(),
        finish_reason: finishReason.nullable(),
      }),
    ),
    usage: usage
      .nullable()
      .exactOptional()
      .describe("Present (null until the last chunk) only when the request asked for it."),
  })
  .meta({ id: "ChatCompletionChunk" });
export type ChatCompletionChunk = z.infer<typeof chatCompletionChunk>;

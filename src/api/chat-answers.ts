// Pure converters of chat: a parsed request into the engine's, the engine's results into completion and chunk objects.
import { createHash } from "node:crypto";
import type { ChatMessage, ToolDefinition } from "../data/chat-message.ts";
import type {
  CompletionRequest,
  FinishReason,
  GenerationOptions,
  ServedModel,
  TokenLogprob,
  TokenReport,
} from "../serving/engine.ts";
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatLogprobs,
  ChatRequestMessage,
  ChatTokenLogprob,
  ChatTool,
  ChatToolCall,
  CreateChatCompletionRequest,
  Usage,
} from "../wire/chat.ts";
import { namedIn } from "../wire/chat-tools.ts";
import type { ToolChoice } from "../wire/chat-tools.ts";
import { newId } from "../wire/ids.ts";
import { patternBudget, schemaFault } from "../wire/json-schema.ts";
import { asToolRequest } from "./legacy-functions.ts";

export function toCompletionRequest(
  request: CreateChatCompletionRequest,
  model: ServedModel,
  signal: AbortSignal,
): CompletionRequest {
  const body = asToolRequest(request);
  return {
    ...toGenerationOptions(body, model, signal),
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? null,
    ...(body.logprobs === true ? { topLogprobs: body.top_logprobs ?? 0 } : {}),
    messages: body.messages.map(toChatMessage),
    ...toTools(body),
    ...toForm(body),
  };
}

/** What chat and legacy completions ask for alike. */
export function toGenerationOptions(
  body: SamplingParameters,
  model: ServedModel,
  signal: AbortSignal,
): Omit<GenerationOptions, "maxTokens"> {
  const stop = body.stop ?? [];
  const bias = Object.entries(body.logit_bias ?? {});
  return {
    model,
    temperature: body.temperature ?? 1,
    topP: body.top_p ?? 1,
    seed: body.seed ?? null,
    stop: typeof stop === "string" ? [stop] : stop,
    n: body.n ?? 1,
    ...(isSet(body.frequency_penalty) ? { frequencyPenalty: body.frequency_penalty } : {}),
    ...(isSet(body.presence_penalty) ? { presencePenalty: body.presence_penalty } : {}),
    ...(bias.length === 0 ? {} : { logitBias: new Map(bias.map(([id, change]) => [Number(id), change])) }),
    signal,
  };
}

type SamplingParameters = Pick<
  CreateChatCompletionRequest,
  "temperature" | "top_p" | "seed" | "stop" | "n" | "frequency_penalty" | "presence_penalty" | "logit_bias"
>;

const isSet = (value: number | null | undefined): value is number => typeof value === "number" && value !== 0;

function toChatMessage(message: ChatRequestMessage): ChatMessage {
  const { role, content } = message;
  if (role === "function") throw new Error("internal: a function's message is a tool's by now");
  const text =
    typeof content === "string" || content === null || content === undefined
      ? (content ?? null)
      : content.map((part) => part.text).join("");
  if (role === "tool") return { role, content: text, tool_call_id: message.tool_call_id };
  const calls = role === "assistant" ? (message.tool_calls ?? []) : [];
  return {
    role,
    content: text,
    ...(typeof message.name === "string" ? { name: message.name } : {}),
    ...(calls.length === 0
      ? {}
      : { tool_calls: calls.map(({ id, type, function: called }) => ({ id, type, function: called })) }),
  };
}

/** With `tool_choice: "none"` the model is not told of the tools: it could only call them in vain. */
export function toTools(
  body: Pick<CreateChatCompletionRequest, "tools" | "tool_choice" | "parallel_tool_calls">,
): Pick<CompletionRequest, "tools" | "toolChoice" | "parallelToolCalls" | "constrainedTools"> {
  const { tools: all, parallel_tool_calls: parallel } = body;
  if (!all || all.length === 0 || body.tool_choice === "none") return {};
  const { tools, choice } = chosenTools(all, body.tool_choice ?? "auto");
  const isForced = choice !== "auto";
  const budget = patternBudget();
  const constrained = tools.filter(({ function: { strict, parameters } }) => {
    if (strict === true) return true;
    return isForced && schemaFault(parameters, { strict: false, budget }) === null;
  });
  return {
    tools: tools.map(toToolDefinition),
    constrainedTools: new Set(constrained.map((tool) => tool.function.name)),
    ...(choice === "required" ? { toolChoice: choice } : {}),
    ...(typeof choice === "object" ? { toolChoice: choice } : {}),
    ...(parallel === false ? { parallelToolCalls: false } : {}),
  };
}

/** Of tools that a choice does not allow, the model is not told either. */
function chosenTools(
  tools: readonly ChatTool[],
  choice: ToolChoice,
): { tools: readonly ChatTool[]; choice: "auto" | "required" | { name: string } } {
  if (choice === "required") return { tools, choice };
  if (typeof choice === "string") return { tools, choice: "auto" };
  if (choice.type === "function") return { tools, choice: choice.function };
  const allowed = new Set(namedIn(choice).map(({ name }) => name));
  return {
    tools: tools.filter((tool) => allowed.has(tool.function.name)),
    choice: choice.allowed_tools.mode,
  };
}

function toToolDefinition({ type, function: { name, description, parameters } }: ChatTool): ToolDefinition {
  return {
    type,
    function: {
      name,
      ...(typeof description === "string" ? { description } : {}),
      ...(parameters ? { parameters } : {}),
    },
  };
}

export function toForm({
  response_format: format,
}: Pick<CreateChatCompletionRequest, "response_format">): Pick<CompletionRequest, "form"> {
  if (!format || format.type === "text") return {};
  if (format.type === "json_object") return { form: { type: "json_object" } };
  const { schema } = format.json_schema;
  return { form: schema ? { type: "json_schema", schema } : { type: "json_object" } };
}

/** What all answers to one request share. */
export interface AnswerHead {
  id: string;
  /** Unix seconds. */
  created: number;
  model: string;
  service_tier: "default";
  system_fingerprint: string;
}

export function newAnswerHead(model: ServedModel): AnswerHead {
  return {
    id: newId("chatCompletion"),
    created: Math.floor(Date.now() / 1000),
    model: model.id,
    service_tier: "default",
    // Changes when the weights behind the name do.
    system_fingerprint: `fp_${createHash("sha256")
      .update(JSON.stringify([model.baseModel, model.adapterPath]))
      .digest("hex")
      .slice(0, 10)}`,
  };
}

export interface FinishedChoice {
  text: string;
  toolCalls: readonly ChatToolCall[];
  /** Null where they were not asked for. */
  logprobs: readonly TokenReport[] | null;
  reason: FinishReason;
}

export function toCompletion(
  head: AnswerHead,
  choices: readonly FinishedChoice[],
  usage: Usage,
): ChatCompletion {
  return {
    id: head.id,
    object: "chat.completion",
    created: head.created,
    model: head.model,
    choices: choices.map(({ text, toolCalls, logprobs, reason }, index) => ({
      index,
      message: {
        role: "assistant",
        content: toolCalls.length > 0 && text === "" ? null : text,
        refusal: null,
        annotations: [],
        ...(toolCalls.length === 0 ? {} : { tool_calls: [...toolCalls] }),
      },
      logprobs: logprobs === null ? null : toLogprobs(logprobs),
      finish_reason: reason,
    })),
    usage,
    service_tier: head.service_tier,
    system_fingerprint: head.system_fingerprint,
  };
}

export type ChunkChoice = ChatCompletionChunk["choices"][number];

/** A chunk; `usage` is left out unless the request asked for it. */
export function toChunk(
  head: AnswerHead,
  choices: ChunkChoice[],
  usage: Usage | null | undefined,
): ChatCompletionChunk {
  return {
    ...head,
    object: "chat.completion.chunk",
    choices,
    ...(usage === undefined ? {} : { usage }),
  };
}

export const startChoice = (
  index: number,
  options: { hasLogprobs: boolean; isCall: boolean },
): ChunkChoice => ({
  ...choice(index, { role: "assistant", content: options.isCall ? null : "", refusal: null }, null),
  logprobs: options.hasLogprobs ? toLogprobs([]) : null,
});
export const textChoice = (
  index: number,
  content: string,
  logprobs: readonly TokenReport[] | undefined,
): ChunkChoice => ({
  ...choice(index, { content }, null),
  logprobs: logprobs === undefined ? null : toLogprobs(logprobs),
});
/** A call as two deltas: its head, then its arguments. */
export const toolCallChoices = (
  index: number,
  call: number,
  { id, function: called }: ChatToolCall,
): ChunkChoice[] => [
  choice(
    index,
    { tool_calls: [{ index: call, id, type: "function", function: { name: called.name, arguments: "" } }] },
    null,
  ),
  choice(index, { tool_calls: [{ index: call, function: { arguments: called.arguments } }] }, null),
];
export const endChoice = (index: number, reason: FinishReason): ChunkChoice => choice(index, {}, reason);

function choice(index: number, delta: ChunkChoice["delta"], finishReason: FinishReason | null): ChunkChoice {
  return { index, delta, logprobs: null, finish_reason: finishReason };
}

export function toToolCall(name: string, args: string): ChatToolCall {
  return { id: newId("toolCall"), type: "function", function: { name, arguments: args } };
}

export function toLogprobs(reports: readonly TokenReport[]): ChatLogprobs {
  return {
    content: reports.map((report) => ({ ...toLogprob(report), top_logprobs: report.top.map(toLogprob) })),
    refusal: null,
  };
}

/** OpenAI's floor for what is as good as impossible; JSON has no infinity. */
export const LEAST_LOGPROB = -9999;

function toLogprob({ token, logprob, bytes }: TokenLogprob): ChatTokenLogprob {
  return { token, logprob: Math.max(logprob, LEAST_LOGPROB), bytes };
}

export function toUsage(promptTokens: number, completionTokens: number): Usage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: 0,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  };
}

// Pure converters of chat: a parsed request into the engine's, the engine's results into completion and chunk objects.
import { createHash } from "node:crypto";
import type { ChatMessage } from "../data/chat-message.ts";
import type { CompletionRequest, FinishReason, ServedModel } from "../serving/engine.ts";
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatRequestMessage,
  CreateChatCompletionRequest,
  Usage,
} from "../wire/chat.ts";
import { newId } from "../wire/ids.ts";

export function toCompletionRequest(
  body: CreateChatCompletionRequest,
  model: ServedModel,
  signal: AbortSignal,
): CompletionRequest {
  const stop = body.stop ?? [];
  return {
    model,
    messages: body.messages.map(toChatMessage),
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? null,
    temperature: body.temperature ?? 1,
    topP: body.top_p ?? 1,
    seed: body.seed ?? null,
    stop: typeof stop === "string" ? [stop] : stop,
    n: body.n ?? 1,
    signal,
  };
}

function toChatMessage(message: ChatRequestMessage): ChatMessage {
  const { role, content, name } = message;
  const text = typeof content === "string" ? content : content.map((part) => part.text).join("");
  return { role, content: text, ...(typeof name === "string" ? { name } : {}) };
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
    choices: choices.map(({ text, reason }, index) => ({
      index,
      message: { role: "assistant", content: text, refusal: null, annotations: [] },
      logprobs: null,
      finish_reason: reason,
    })),
    usage,
    service_tier: head.service_tier,
    system_fingerprint: head.system_fingerprint,
  };
}

type ChunkChoice = ChatCompletionChunk["choices"][number];

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

export const startChoice = (index: number): ChunkChoice =>
  choice(index, { role: "assistant", content: "", refusal: null }, null);
export const textChoice = (index: number, content: string): ChunkChoice => choice(index, { content }, null);
export const endChoice = (index: number, reason: FinishReason): ChunkChoice => choice(index, {}, reason);

function choice(index: number, delta: ChunkChoice["delta"], finishReason: FinishReason | null): ChunkChoice {
  return { index, delta, logprobs: null, finish_reason: finishReason };
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

// Requests with the deprecated `functions` are carried out as such with tools, and answered in their own form: one call, in
// `function_call`. Pure.
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatRequestMessage,
  CreateChatCompletionRequest,
} from "../wire/chat.ts";

type Choice = ChatCompletion["choices"][number];
type ChunkChoice = ChatCompletionChunk["choices"][number];
type ToolCall = NonNullable<Extract<ChatRequestMessage, { role: "assistant" }>["tool_calls"]>[number];

export function hasFunctions(body: CreateChatCompletionRequest): boolean {
  return (body.functions ?? []).length > 0;
}

/** The request in terms of tools; without functions as it is. */
export function asToolRequest(body: CreateChatCompletionRequest): CreateChatCompletionRequest {
  const messages = body.messages.map(asToolMessage);
  if (!hasFunctions(body)) return { ...body, messages };
  const { functions, function_call: choice, ...rest } = body;
  return {
    ...rest,
    messages,
    tools: (functions ?? []).map((definition) => ({ type: "function", function: definition })),
    tool_choice:
      typeof choice === "object" && choice !== null
        ? { type: "function", function: choice }
        : (choice ?? "auto"),
    parallel_tool_calls: false,
  };
}

/** Calls had no ids then: a result belongs to the last call of its function. */
const callIdOf = (name: string): string => `call_${name}`;

function asToolMessage(message: ChatRequestMessage): ChatRequestMessage {
  if (message.role === "function") {
    return { role: "tool", content: message.content ?? "", tool_call_id: callIdOf(message.name) };
  }
  if (message.role !== "assistant" || !message.function_call) return message;
  const { function_call: called, ...rest } = message;
  const call: ToolCall = { id: callIdOf(called.name), type: "function", function: called };
  return { ...rest, tool_calls: [...(message.tool_calls ?? []), call] };
}

/** A whole answer's choice in the old form. */
export function withFunctionCall({ message, finish_reason: reason, ...choice }: Choice): Choice {
  const { tool_calls: calls, ...rest } = message;
  const called = calls?.[0]?.function;
  return {
    ...choice,
    message: { ...rest, ...(called === undefined ? {} : { function_call: called }) },
    finish_reason: reason === "tool_calls" ? "function_call" : reason,
  };
}

/** A chunk's choice in the old form. */
export function withFunctionDelta({ delta, finish_reason: reason, ...choice }: ChunkChoice): ChunkChoice {
  const { tool_calls: calls, ...rest } = delta;
  const called = calls?.[0]?.function;
  return {
    ...choice,
    delta: { ...rest, ...(called === undefined ? {} : { function_call: called }) },
    finish_reason: reason === "tool_calls" ? "function_call" : reason,
  };
}

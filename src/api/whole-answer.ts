// The engine's events of one request as a whole chat completion.
import type { CompletionEvent, CompletionRequest, FinishReason, TokenReport } from "../serving/engine.ts";
import type { ChatCompletion, ChatToolCall } from "../wire/chat.ts";
import { toCompletion, toToolCall, toUsage } from "./chat-answers.ts";
import type { AnswerHead } from "./chat-answers.ts";
import { Tally } from "./tally.ts";

interface OpenChoice {
  text: string;
  toolCalls: ChatToolCall[];
  /** Null where they were not asked for. */
  logprobs: TokenReport[] | null;
  reason: FinishReason;
}

/** The whole answer, once the engine has ended. */
export async function collect(
  head: AnswerHead,
  events: AsyncIterable<CompletionEvent>,
  { n, topLogprobs }: CompletionRequest,
  tally: Tally = new Tally(n),
): Promise<ChatCompletion> {
  const choices = Array.from({ length: n }, (): OpenChoice => ({
    text: "",
    toolCalls: [],
    logprobs: topLogprobs === undefined ? null : [],
    reason: "stop",
  }));
  for await (const event of events) {
    tally.add(event);
    if (event.type === "prompt") continue;
    const choice = choices[event.index];
    if (choice === undefined) continue;
    if (event.type === "finish") choice.reason = event.reason;
    else if (event.type === "tool-call") choice.toolCalls.push(toToolCall(event.name, event.arguments));
    else {
      choice.text += event.text;
      choice.logprobs?.push(...(event.logprobs ?? []));
    }
  }
  tally.requireEnd();
  return toCompletion(head, choices, usageOf(tally));
}

/** What chat and responses say of it. */
export const usageOf = ({ promptTokens, completionTokens }: Tally) => toUsage(promptTokens, completionTokens);

// Requests' prompts as tokens, in slices between which the event loop turns. What cannot fit is refused before it is encoded: a
// body may hold a hundred times what a context takes.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { ChatMessage } from "../data/chat-message.ts";
import { encodePrompt, encodePromptInParts } from "../data/prompt.ts";
import type { ChatEncoding } from "../data/prompt.ts";
import { Cancelled, InvalidRequest } from "../errors.ts";
import type { ChatPrompt } from "./engine.ts";

/** What a request may call its prompt. */
export type PromptParam = NonNullable<ChatPrompt["promptParam"]> | "prompt";

/** What a prompt is measured by. */
export interface PromptRoom {
  encoding: ChatEncoding;
  /** Of prompt and answer together. */
  context: number;
  /** What the template writes for a message, its text aside. */
  messageTokens: number;
}

/** Contexts that a text may fill for its tokens to be counted, so that a client learns by how much it is too long. */
const MAX_COUNTED_CONTEXTS = 4;

/** Encoding between two turns of the event loop, so that other requests are answered. */
const ENCODE_SLICE_MS = 10;

/** Throws InvalidRequest for what cannot fit or the template cannot show, Cancelled. */
export async function encodeChat(
  { messages, tools, promptParam = "messages" }: ChatPrompt,
  room: PromptRoom,
  signal?: AbortSignal,
): Promise<number[]> {
  requireMessagesFit(messages, promptParam, room);
  requireTextsFit(textsOf(messages, tools), promptParam, room);
  return gather(encodePromptInParts(messages, tools, room.encoding), signal);
}

/** How many tokens encodeChat gives, also where they do not fit, unless they are far too many. */
export async function countChat(
  { messages, tools, promptParam = "messages" }: ChatPrompt,
  room: PromptRoom,
): Promise<number> {
  requireMessagesFit(messages, promptParam, room);
  requireTextsFit(textsOf(messages, tools), promptParam, room, room.context * MAX_COUNTED_CONTEXTS);
  return (await gather(encodePromptInParts(messages, tools, room.encoding))).length;
}

/** The same for a text without a template. */
export async function encodeText(text: string, room: PromptRoom, signal?: AbortSignal): Promise<number[]> {
  requireTextsFit([text], "prompt", room);
  return gather(room.encoding.tokenizer.encodeInParts(text), signal);
}

/**
 * Tokens that a message takes beside its text: of a question and its answer half of what another such pair adds. Rendering a
 * message takes 50 µs in one go, so a request of more messages than can fit is not rendered.
 */
export function leastMessageTokens(encoding: ChatEncoding): number {
  const pair: ChatMessage[] = [
    { role: "user", content: "" },
    { role: "assistant", content: "" },
  ];
  const count = (messages: ChatMessage[]) => encodePrompt(messages, undefined, encoding).length;
  try {
    return Math.max(1, Math.floor((count([...pair, ...pair]) - count(pair)) / 2));
  } catch (error) {
    // A template may refuse empty messages; each that it shows still takes a token.
    if (error instanceof InvalidRequest) return 1;
    throw error;
  }
}

function* textsOf(
  messages: ChatPrompt["messages"],
  tools: ChatPrompt["tools"],
): Generator<string, void, void> {
  for (const { content, tool_calls: calls } of messages) {
    yield content ?? "";
    if (calls !== undefined) yield JSON.stringify(calls);
  }
  if (tools !== undefined) yield JSON.stringify(tools);
}

function requireMessagesFit(
  messages: ChatPrompt["messages"],
  param: PromptParam,
  { context, messageTokens }: PromptRoom,
): void {
  const least = messages.length * messageTokens;
  if (least > context) throw tooLong(least, param, context);
}

function requireTextsFit(
  texts: Iterable<string>,
  param: PromptParam,
  { context, encoding }: PromptRoom,
  most = context,
): void {
  let least = 0;
  for (const text of texts) {
    least += encoding.tokenizer.leastTokens(text, most - least);
    if (least > most) throw tooLong(least, param, context);
  }
}

function tooLong(least: number, param: PromptParam, context: number): InvalidRequest {
  return new InvalidRequest(
    `This model's maximum context length is ${context} tokens. However, your ${param} resulted in at least ${least} tokens. Please reduce the length of the ${param}.`,
    { code: "context_length_exceeded", param },
  );
}

async function gather(parts: Iterable<readonly number[]>, signal?: AbortSignal): Promise<number[]> {
  const tokens: number[] = [];
  let sliceEnd = performance.now() + ENCODE_SLICE_MS;
  for (const part of parts) {
    for (const token of part) tokens.push(token);
    if (performance.now() < sliceEnd) continue;
    await nextTurn();
    if (signal?.aborted === true) throw new Cancelled();
    sliceEnd = performance.now() + ENCODE_SLICE_MS;
  }
  return tokens;
}

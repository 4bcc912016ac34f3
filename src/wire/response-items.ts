// The items of a response: what a request may send, and what is kept of a conversation, listed and answered. Texts only: images,
// audio and files are refused by the name of their part.
import { z } from "zod";
import { notImplemented } from "./validation.ts";

export const ITEM_STATUSES = ["in_progress", "completed", "incomplete"] as const;

const inputText = z.strictObject({ type: z.literal("input_text"), text: z.string() });
const inputParts = z.array(z.discriminatedUnion("type", [inputText])).min(1);
/** What an earlier answer holds: a client sends it back as it came. */
const answerText = z.strictObject({
  type: z.literal("output_text"),
  text: z.string(),
  annotations: notImplemented([]),
  /** They describe the answer that was, and say nothing to the next one. */
  logprobs: z.array(z.unknown()).nullish(),
  /** The official clients' reading of the text: the same. */
  parsed: z.unknown().optional(),
});
/** What the assistant said, like any other text. */
const answerRefusal = z.strictObject({ type: z.literal("refusal"), refusal: z.string() });

/** Ids that clients send back; new items get their own. */
const itemId = z.string().min(1).max(128).nullish();
const status = z.enum(ITEM_STATUSES).nullish();

const heard = {
  type: z.literal("message").optional(),
  content: z.union([z.string(), inputParts]),
  id: itemId,
  status,
};
const message = z.discriminatedUnion("role", [
  z.strictObject({ ...heard, role: z.literal("user") }),
  z.strictObject({ ...heard, role: z.literal("system") }),
  z.strictObject({ ...heard, role: z.literal("developer") }),
  z.strictObject({
    ...heard,
    role: z.literal("assistant"),
    content: z.union([z.string(), z.array(z.discriminatedUnion("type", [answerText, answerRefusal])).min(1)]),
    phase: notImplemented(),
  }),
]);

const functionCall = z.strictObject({
  type: z.literal("function_call"),
  id: itemId,
  call_id: z.string().min(1).max(64),
  name: z.string().min(1).max(128),
  /** A JSON text. */
  arguments: z.string(),
  /** The official clients' reading of them, which describes the answer that was. */
  parsed_arguments: z.unknown().optional(),
  status,
  namespace: notImplemented(),
  caller: notImplemented(),
});

const functionCallOutput = z.strictObject({
  type: z.literal("function_call_output"),
  id: itemId,
  call_id: z.string().min(1).max(64),
  output: z.union([z.string(), inputParts]),
  status,
  caller: notImplemented(),
});

/** An item of an answer that is kept, by its id. */
const itemReference = z.strictObject({
  type: z.literal("item_reference"),
  id: z.string().min(1).max(128),
});

export const inputItem = z
  .discriminatedUnion("type", [message, functionCall, functionCallOutput, itemReference])
  .meta({ id: "InputItem" });
export type RequestItem = z.infer<typeof inputItem>;
/** With what references lead to in their place. */
export type ResponseInputItem = Exclude<RequestItem, { type: "item_reference" }>;

const tokenLogprob = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(z.int()) });
const outputText = z.object({
  type: z.literal("output_text"),
  text: z.string(),
  annotations: z.array(z.never()),
  /** Empty unless the request includes them. */
  logprobs: z.array(tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob) })),
});
export type ResponseOutputText = z.infer<typeof outputText>;
export { outputText };

export const outputMessage = z.object({
  id: z.string(),
  type: z.literal("message"),
  status: z.enum(ITEM_STATUSES),
  content: z.array(outputText),
  role: z.literal("assistant"),
});
export type ResponseOutputMessage = z.infer<typeof outputMessage>;

export const outputFunctionCall = z.object({
  id: z.string(),
  type: z.literal("function_call"),
  status: z.enum(ITEM_STATUSES),
  arguments: z.string(),
  call_id: z.string(),
  name: z.string(),
});

export const outputItem = z
  .discriminatedUnion("type", [outputMessage, outputFunctionCall])
  .meta({ id: "OutputItem" });
export type ResponseOutputItem = z.infer<typeof outputItem>;

const listedText = z.object({ type: z.literal("input_text"), text: z.string() });
/** An item of a conversation as it is kept and listed: parts in place of bare texts, and an id. */
export const conversationItem = z
  .union([
    outputItem,
    z.object({
      id: z.string(),
      type: z.literal("message"),
      status: z.enum(ITEM_STATUSES),
      content: z.array(listedText),
      role: z.enum(["user", "system", "developer"]),
    }),
    z.object({
      id: z.string(),
      type: z.literal("function_call_output"),
      status: z.enum(ITEM_STATUSES),
      call_id: z.string(),
      output: z.union([z.string(), z.array(listedText)]),
    }),
  ])
  .meta({ id: "ItemResource" });
export type ConversationItem = z.infer<typeof conversationItem>;

// The events of a streamed response, in the order in which they come: the response's beginning, each item with its parts and
// pieces, the response's end; or an error in place of the rest.
import { z } from "zod";
import { outputItem, outputText } from "./response-items.ts";
import { responseObject } from "./responses.ts";

/** 0 for the first event of a stream, then one more each. */
const sequence_number = z.int();
const ofResponse = { sequence_number, response: responseObject };
const ofItem = { sequence_number, output_index: z.int() };
const inItem = { ...ofItem, item_id: z.string() };
const inPart = { ...inItem, content_index: z.int() };

/** As pieces carry them, without bytes; whole parts have those too. */
const pieceLogprob = z.object({ token: z.string(), logprob: z.number() });
const pieceLogprobs = z.array(pieceLogprob.extend({ top_logprobs: z.array(pieceLogprob) }));

export const responseStreamEvent = z
  .discriminatedUnion("type", [
    z.object({ type: z.literal("response.created"), ...ofResponse }),
    z.object({ type: z.literal("response.in_progress"), ...ofResponse }),
    z.object({ type: z.literal("response.output_item.added"), ...ofItem, item: outputItem }),
    z.object({ type: z.literal("response.content_part.added"), ...inPart, part: outputText }),
    z.object({
      type: z.literal("response.output_text.delta"),
      ...inPart,
      delta: z.string(),
      logprobs: pieceLogprobs,
    }),
    z.object({
      type: z.literal("response.output_text.done"),
      ...inPart,
      text: z.string(),
      logprobs: pieceLogprobs,
    }),
    z.object({ type: z.literal("response.content_part.done"), ...inPart, part: outputText }),
    z.object({ type: z.literal("response.function_call_arguments.delta"), ...inItem, delta: z.string() }),
    z.object({
      type: z.literal("response.function_call_arguments.done"),
      ...inItem,
      name: z.string(),
      arguments: z.string(),
    }),
    z.object({ type: z.literal("response.output_item.done"), ...ofItem, item: outputItem }),
    z.object({ type: z.literal("response.completed"), ...ofResponse }),
    z.object({ type: z.literal("response.incomplete"), ...ofResponse }),
    z.object({ type: z.literal("response.failed"), ...ofResponse }),
    /** Clients raise on `error`; the members beside it are those of the reference. */
    z.object({
      type: z.literal("error"),
      sequence_number,
      code: z.string().nullable(),
      message: z.string(),
      param: z.string().nullable(),
      error: z.object({
        message: z.string(),
        type: z.string(),
        param: z.string().nullable(),
        code: z.string().nullable(),
      }),
    }),
  ])
  .meta({ id: "ResponseStreamEvent" });
export type ResponseStreamEvent = z.infer<typeof responseStreamEvent>;

/** An event before it is numbered. */
export type ResponseEvent = ResponseStreamEvent extends infer E
  ? E extends ResponseStreamEvent
    ? Omit<E, "sequence_number">
    : never
  : never;

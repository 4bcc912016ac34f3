// From the engine's events to the events of a response, and those as server-sent events. A whole answer takes the same way: it is
// the response that the last event holds.
import { Unavailable } from "../errors.ts";
import type { CompletionEvent, TokenReport } from "../serving/engine.ts";
import { newId } from "../wire/ids.ts";
import type { ErrorEnvelope } from "../wire/error.ts";
import type { ResponseEvent } from "../wire/response-events.ts";
import type {
  ResponseOutputItem,
  ResponseOutputMessage,
  ResponseOutputText,
} from "../wire/response-items.ts";
import type { ResponseObject } from "../wire/responses.ts";
import { endedResponse, failedResponse, toTextPart } from "./response-answers.ts";
import { Tally } from "./tally.ts";
import { usageOf } from "./whole-answer.ts";
import { isObjectText } from "../wire/chat-messages.ts";

export interface AnswerOptions {
  /** Unix seconds. */
  now: () => number;
  /** Told the tokens that were read and written, also when the answer broke off. */
  onEnd: (tokens: number) => void;
}

/** All events from response.created on; the last one holds the response as it ended. Throws what the engine throws. */
export async function* responseEvents(
  response: ResponseObject,
  events: AsyncIterable<CompletionEvent>,
  { now, onEnd }: AnswerOptions,
): AsyncGenerator<ResponseEvent, void, undefined> {
  const tally = new Tally(1);
  const output = new Output({ mayCall: response.tools.length > 0 });
  let isCutOff = false;
  try {
    yield { type: "response.created", response };
    for await (const event of events) {
      tally.add(event);
      if (event.type === "prompt") {
        yield { type: "response.in_progress", response: { ...response, status: "in_progress" } };
      } else if (event.type === "text-delta") yield* output.text(event.text, event.logprobs ?? []);
      else if (event.type === "tool-call") yield* output.call(event.name, event.arguments);
      else isCutOff = event.reason === "length";
    }
    tally.requireEnd();
    yield* output.end(isCutOff);
    const ended = endedResponse(response, {
      output: output.items,
      usage: usageOf(tally),
      isCutOff,
      completedAt: now(),
    });
    yield { type: isCutOff ? "response.incomplete" : "response.completed", response: ended };
  } finally {
    onEnd(tally.spentTokens());
  }
}

/** The response as it ended. Throws what the engine throws. */
export async function endOf(events: AsyncIterable<ResponseEvent>): Promise<ResponseObject> {
  let last: ResponseObject | null = null;
  for await (const event of events) if ("response" in event) last = event.response;
  if (last === null) throw new Unavailable("The answer did not begin. Send the request again.");
  return last;
}

export interface StreamOptions {
  response: ResponseObject;
  /** Keeps the response as it ended, before its end is told: whoever has read the end can go on from it. */
  keep: (ended: ResponseObject) => Promise<void>;
  describeError: (error: unknown) => ErrorEnvelope;
}

/** The events as text. One that fails is told by an error, on which clients raise, and by the failed response. */
export async function* streamLines(
  events: AsyncIterable<ResponseEvent>,
  { response, keep, describeError }: StreamOptions,
): AsyncGenerator<string> {
  let sequence = 0;
  const line = ({ type, ...rest }: ResponseEvent): string =>
    `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: sequence++, ...rest })}\n\n`;
  try {
    for await (const event of events) {
      if (event.type === "response.completed" || event.type === "response.incomplete") {
        await keep(event.response);
      }
      yield line(event);
    }
  } catch (thrown) {
    const { error } = describeError(thrown);
    const { message, code, param } = error;
    yield line({ type: "error", code, message, param, error });
    yield line({ type: "response.failed", response: failedResponse(response, error) });
  }
}

/** The items of an answer while it is written. */
class Output {
  readonly items: ResponseOutputItem[] = [];
  readonly #mayCall: boolean;
  #message: { id: string; text: string; reports: TokenReport[] } | null = null;
  /** White space that an answer begins with: a model writes it before a call too, and then it is no message. */
  #held: { text: string; reports: TokenReport[] } = { text: "", reports: [] };

  constructor({ mayCall }: { mayCall: boolean }) {
    this.#mayCall = mayCall;
  }

  *text(text: string, reports: readonly TokenReport[]): Generator<ResponseEvent> {
    if (text === "" && reports.length === 0) return;
    this.#held.text += text;
    this.#held.reports.push(...reports);
    if (this.#message === null && this.#mayCall && this.#held.text.trim() === "") return;
    yield* this.#release();
  }

  *call(name: string, args: string): Generator<ResponseEvent> {
    this.#held = { text: "", reports: [] };
    yield* this.#endMessage("completed");
    const output_index = this.items.length;
    const item = {
      id: newId("functionCall"),
      type: "function_call" as const,
      // The engine reads a call only with an object as arguments, unless the answer's end cuts them off.
      status: isObjectText(args) ? ("completed" as const) : ("incomplete" as const),
      arguments: args,
      call_id: newId("toolCall"),
      name,
    };
    const inItem = { item_id: item.id, output_index };
    const begun = { ...item, status: "in_progress" as const, arguments: "" };
    yield { type: "response.output_item.added", output_index, item: begun };
    yield { type: "response.function_call_arguments.delta", ...inItem, delta: args };
    yield { type: "response.function_call_arguments.done", ...inItem, name, arguments: args };
    this.items.push(item);
    yield { type: "response.output_item.done", output_index, item };
  }

  /** An answer without any item is an empty message. */
  *end(isCutOff: boolean): Generator<ResponseEvent> {
    if (this.#held.text !== "" || this.#held.reports.length > 0 || this.items.length === 0) {
      yield* this.#release();
    }
    yield* this.#endMessage(isCutOff ? "incomplete" : "completed");
  }

  *#release(): Generator<ResponseEvent> {
    const { text, reports } = this.#held;
    this.#held = { text: "", reports: [] };
    if (this.#message === null) {
      this.#message = { id: newId("responseMessage"), text: "", reports: [] };
      const item = toMessage(this.#message.id, "in_progress", []);
      yield { type: "response.output_item.added", output_index: this.items.length, item };
      yield { type: "response.content_part.added", ...this.#inPart(), part: toTextPart("", []) };
    }
    this.#message.text += text;
    this.#message.reports.push(...reports);
    if (text === "" && reports.length === 0) return;
    const logprobs = toPieceLogprobs(toTextPart(text, reports));
    yield { type: "response.output_text.delta", ...this.#inPart(), delta: text, logprobs };
  }

  *#endMessage(status: "completed" | "incomplete"): Generator<ResponseEvent> {
    if (this.#message === null) return;
    const { id, text, reports } = this.#message;
    const part = toTextPart(text, reports);
    const inPart = this.#inPart();
    yield { type: "response.output_text.done", ...inPart, text, logprobs: toPieceLogprobs(part) };
    yield { type: "response.content_part.done", ...inPart, part };
    const item = toMessage(id, status, [part]);
    this.#message = null;
    this.items.push(item);
    yield { type: "response.output_item.done", output_index: inPart.output_index, item };
  }

  #inPart() {
    return { item_id: this.#message?.id ?? "", output_index: this.items.length, content_index: 0 };
  }
}

function toMessage(
  id: string,
  status: ResponseOutputMessage["status"],
  content: ResponseOutputText[],
): ResponseOutputMessage {
  return { id, type: "message", status, content, role: "assistant" };
}

/** Pieces carry no bytes. */
function toPieceLogprobs({ logprobs }: ResponseOutputText) {
  return logprobs.map(({ token, logprob, top_logprobs }) => ({
    token,
    logprob,
    top_logprobs: top_logprobs.map((top) => ({ token: top.token, logprob: top.logprob })),
  }));
}

// /v1/responses: answers whole, streamed or in the background, and reading, cancelling and deleting what was kept of them. The
// shapes are made in response-answers.ts and response-stream.ts, the conversation in response-conversation.ts.
import type { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { InvalidRequest, NotFound } from "../errors.ts";
import type { ChatEngine } from "../serving/engine.ts";
import { unknownCursor } from "../store/page.ts";
import type { ResponseStore, StoredResponse } from "../store/responses.ts";
import { listWithIds } from "../wire/list.ts";
import type {
  ConversationItem,
  RequestItem,
  ResponseInputItem,
  ResponseOutputItem,
} from "../wire/response-items.ts";
import {
  countResponseTokensRequest,
  createResponseRequest,
  listInputItemsQuery,
  retrieveResponseQuery,
} from "../wire/responses.ts";
import type {
  ResponseDeleted,
  ResponseInputTokens,
  ResponseItemList,
  ResponseObject,
  ResponsePrompt,
} from "../wire/responses.ts";
import { parseRequest } from "../wire/validation.ts";
import type { BackgroundResponses } from "./background-responses.ts";
import { eventStream, resumed, whenClientLeaves } from "./chat.ts";
import { errorAnswer } from "./error-answers.ts";
import type { ModelDirectory } from "./model-directory.ts";
import { failedResponse, newResponse, toAnswerRequest, toPrompt } from "./response-answers.ts";
import { continued, isCutOffCall, toMessages, withoutLogprobs } from "./response-conversation.ts";
import { endOf, responseEvents, streamLines } from "./response-stream.ts";

export function responseRoutes(parts: {
  engine: ChatEngine;
  directory: ModelDirectory;
  responses: ResponseStore;
  background: BackgroundResponses;
  /** Milliseconds since 1970. */
  now: () => number;
  /** Aborts when the server's grace for requests in flight is over. */
  stopping: AbortSignal;
}) {
  const { engine, directory, responses, background, stopping } = parts;
  const now = (): number => Math.floor(parts.now() / 1000);

  /** The conversation that a request goes on with, its own items included. */
  async function conversation(projectId: string, body: ResponsePrompt): Promise<ConversationItem[]> {
    const id = body.previous_response_id ?? null;
    const input = typeof body.input === "string" ? body.input : await referred(projectId, body.input);
    if (id === null) return bounded(continued([], input));
    const previous = await responses.get(projectId, id);
    const refuse = (message: string, code: string) =>
      new InvalidRequest(message, { param: "previous_response_id", code });
    if (previous === null) {
      throw refuse(
        `Previous response with id '${id.slice(0, 80)}' not found.`,
        "previous_response_not_found",
      );
    }
    const { status, output } = previous.response;
    if (status !== "completed" && status !== "incomplete") {
      throw refuse(
        `Invalid 'previous_response_id': the response ${id} is ${status}, expected one that is completed or incomplete. Wait for its end, or go on from the one before it.`,
        "invalid_value",
      );
    }
    refuseLateOutputs(output.filter(isCutOffCall), input);
    // A call that was cut off cannot be shown to a model, and nobody could have carried it out.
    const said = output.filter((item) => !isCutOffCall(item));
    return bounded(continued([...previous.input, ...said], input));
  }

  /** The items with those in place of references that they lead to. */
  async function referred(projectId: string, items: readonly RequestItem[]): Promise<ResponseInputItem[]> {
    const ids = new Set(items.flatMap((item) => (item.type === "item_reference" ? [item.id] : [])));
    const kept = new Map<string, { item: ResponseOutputItem; bytes: number }>();
    let bytes = 0;
    const add = (more: number): void => {
      bytes += more;
      if (bytes > MAX_CONVERSATION_BYTES) throw tooLong(`more than ${MAX_CONVERSATION_BYTES}`);
    };
    for await (const found of responses.outputItems(projectId, [...ids])) {
      const item = withoutLogprobs(found);
      const size = Buffer.byteLength(JSON.stringify(item));
      kept.set(item.id, { item, bytes: size });
      add(size);
    }
    // An item may be referred to many times.
    bytes = 0;
    return items.map((item): ResponseInputItem => {
      if (item.type !== "item_reference") return item;
      const found = kept.get(item.id);
      if (found === undefined) {
        throw new NotFound(
          `Item with id '${item.id}' not found. Items are not persisted when \`store\` is set to false. Try again with \`store\` set to true, or remove this item from your input.`,
          { param: "input" },
        );
      }
      if (isCutOffCall(found.item)) {
        throw new InvalidRequest(
          `Invalid 'input': the item ${item.id} is a function call that was cut off in the middle of its arguments, from which no model can go on. Remove it, or ask again with a larger 'max_output_tokens'.`,
          { param: "input", code: "invalid_value" },
        );
      }
      add(found.bytes);
      return found.item;
    });
  }

  async function found(request: FastifyRequest): Promise<StoredResponse> {
    const id = responseId(request);
    const stored = await responses.get(request.project, id);
    if (stored === null) throw unknownResponse(id);
    return stored;
  }

  return {
    create: async (request: FastifyRequest, reply: FastifyReply): Promise<ResponseObject | Readable> => {
      const { project } = request;
      const body = parseRequest(createResponseRequest, request.body);
      const leaving = AbortSignal.any([stopping, whenClientLeaves(reply)]);
      const user = body.user ?? body.safety_identifier ?? null;
      const model = await directory.serve(project, body.model, leaving, user);
      const input = await conversation(project, body);
      const prompt = toPrompt(body, toMessages(body.instructions ?? null, input));
      const response = newResponse(body, { model, createdAt: now() });
      const options = { now, onEnd: (tokens: number) => request.spendTokens(tokens) };
      const complete = (signal: AbortSignal) =>
        engine.complete(toAnswerRequest(body, prompt, { model, signal }));
      const keep = async (ended: ResponseObject): Promise<void> => {
        if (ended.store) await responses.create(project, { response: ended, input });
      };
      const describeError = (error: unknown, signal: AbortSignal) => {
        const { body: envelope, isBug } = errorAnswer(error, request.id);
        if (!signal.aborted) request.log[isBug ? "error" : "warn"]({ err: error }, "A response failed");
        return envelope;
      };

      if (response.background) {
        const work = async (signal: AbortSignal): Promise<void> => {
          try {
            for await (const event of responseEvents(response, complete(signal), options)) {
              if (!("response" in event) || event.type === "response.created") continue;
              if (!(await responses.update(project, event.response))) return;
            }
          } catch (thrown) {
            const { error } = describeError(thrown, signal);
            await responses
              .update(project, failedResponse(response, error))
              .catch((error: unknown) => request.log.error({ err: error }, "A response's end was not kept"));
          }
        };
        await background.start(response.id, { prepare: () => keep(response), work });
        return response;
      }

      if (body.stream !== true) {
        const ended = await endOf(responseEvents(response, complete(leaving), options));
        await keep(ended);
        return ended;
      }
      // The first event is awaited here: what fails before it is an ordinary HTTP error, not an event in a stream.
      const iterator = complete(leaving)[Symbol.asyncIterator]();
      const first = await iterator.next();
      const events = responseEvents(response, resumed(first, iterator), options);
      const describe = (error: unknown) => describeError(error, leaving);
      return eventStream(reply, streamLines(events, { response, keep, describeError: describe }));
    },

    retrieve: async (request: FastifyRequest): Promise<ResponseObject> => {
      parseRequest(retrieveResponseQuery, request.query);
      return (await found(request)).response;
    },

    delete: async (request: FastifyRequest): Promise<ResponseDeleted> => {
      const id = responseId(request);
      if (!(await responses.delete(request.project, id))) throw unknownResponse(id);
      background.cancel(id);
      return { id, object: "response", deleted: true };
    },

    cancel: async (request: FastifyRequest): Promise<ResponseObject> => {
      const { response } = await found(request);
      if (!response.background) {
        throw new InvalidRequest(
          "Cannot cancel a synchronous response. Only responses with 'background': true can be cancelled.",
        );
      }
      // One that has ended stays as it is, and is told.
      if (await responses.update(request.project, { ...response, status: "cancelled" })) {
        background.cancel(response.id);
      }
      return (await found(request)).response;
    },

    inputItems: async (request: FastifyRequest): Promise<ResponseItemList> => {
      const { order, after, limit } = parseRequest(listInputItemsQuery, request.query);
      const { input } = await found(request);
      const items = order === "asc" ? input : input.toReversed();
      const start = after === undefined ? 0 : items.findIndex(({ id }) => id === after) + 1;
      if (after !== undefined && start === 0) throw unknownCursor(after);
      return listWithIds(items.slice(start, start + limit), items.length > start + limit);
    },

    countTokens: async (request: FastifyRequest, reply: FastifyReply): Promise<ResponseInputTokens> => {
      const body = parseRequest(countResponseTokensRequest, request.body);
      const signal = AbortSignal.any([stopping, whenClientLeaves(reply)]);
      const model = await directory.serve(request.project, body.model, signal);
      const items = await conversation(request.project, body);
      const prompt = toPrompt(body, toMessages(body.instructions ?? null, items));
      const input_tokens = await engine.countTokens({ ...prompt, model });
      return { object: "response.input_tokens", input_tokens };
    },
  };
}

/** Of calls that were cut off and left out; unless the request brings the call itself. */
function refuseLateOutputs(
  dropped: readonly ResponseOutputItem[],
  input: string | readonly ResponseInputItem[],
): void {
  if (typeof input === "string") return;
  const callIds = new Set(dropped.flatMap((item) => (item.type === "function_call" ? [item.call_id] : [])));
  for (const item of input) {
    if (item.type === "function_call") callIds.delete(item.call_id);
    if (item.type !== "function_call_output" || !callIds.has(item.call_id)) continue;
    throw new InvalidRequest(
      `Invalid 'input': the function call ${item.call_id} was cut off in the middle of its arguments, and the conversation goes on without it. Send no output for it, or the whole 'function_call' before the output.`,
      { param: "input", code: "invalid_value" },
    );
  }
}

/** JSON of a conversation that is kept, in the background before a model has looked at it; 8,192 tokens are far less. */
const MAX_CONVERSATION_BYTES = 4 * 1024 * 1024;

function bounded(items: ConversationItem[]): ConversationItem[] {
  const bytes = Buffer.byteLength(JSON.stringify(items));
  if (bytes <= MAX_CONVERSATION_BYTES) return items;
  throw tooLong(String(bytes));
}

function tooLong(bytes: string): InvalidRequest {
  return new InvalidRequest(
    `Your input exceeds the context window of every model: with what came before it, it has ${bytes} bytes as JSON, expected at most ${MAX_CONVERSATION_BYTES}. Please reduce the length of the input.`,
    { param: "input", code: "context_length_exceeded" },
  );
}

const responseId = (request: FastifyRequest): string => (request.params as { response: string }).response;

function unknownResponse(id: string): NotFound {
  return new NotFound(`Response with id '${id}' not found.`);
}

// Stored chat completions: keeping an answer when the request says so, and the routes that read, label and delete what was kept.
import { randomInt } from "node:crypto";
import type { FastifyRequest } from "fastify";
import { NotFound } from "../errors.ts";
import type { ChatCompletionStore } from "../store/chat-completions.ts";
import { unknownCursor } from "../store/page.ts";
import type { ChatCompletion, ChatRequestMessage, CreateChatCompletionRequest, Usage } from "../wire/chat.ts";
import { gatherMetadata, listWithIds } from "../wire/list.ts";
import type { ListWithIds } from "../wire/list.ts";
import {
  listChatCompletionsQuery,
  listChatMessagesQuery,
  updateChatCompletionRequest,
} from "../wire/stored-completions.ts";
import type {
  ChatCompletionDeleted,
  StoredChatCompletion,
  StoredChatMessage,
} from "../wire/stored-completions.ts";
import { parseRequest } from "../wire/validation.ts";
import type { AnswerHead, ChunkChoice } from "./chat-answers.ts";

type Choices = ChatCompletion["choices"];

/** Largest random seed: every client's numbers hold it. */
const MAX_RANDOM_SEED = 2 ** 31;

/** A request to be stored or repeated gets a seed if it has none: the one that is kept is the one that was used. */
export function withSeed(
  body: CreateChatCompletionRequest,
  isRepeated: boolean,
): CreateChatCompletionRequest {
  if ((body.store !== true && !isRepeated) || typeof body.seed === "number") return body;
  return { ...body, seed: randomInt(MAX_RANDOM_SEED) };
}

/** Keeps a whole answer. Never throws: the answer is there, and its client gets it, whether or not it could be kept. */
export type Keep = (answer: { head: AnswerHead; choices: Choices; usage: Usage }) => Promise<void>;

/** Null when the request does not say `store: true`. */
export function createKeep(
  chatCompletions: ChatCompletionStore,
  request: FastifyRequest,
  body: CreateChatCompletionRequest,
): Keep | null {
  if (body.store !== true) return null;
  return async ({ head, choices, usage }) => {
    try {
      await chatCompletions.create({
        projectId: request.project,
        completion: toStored({ body, requestId: request.id, head, choices, usage }),
        messages: body.messages,
      });
    } catch (error) {
      request.log.error({ err: error, completionId: head.id }, "A chat completion could not be stored");
    }
  };
}

/** Puts the choices of a streamed answer together from its chunks. */
export class ChoiceGatherer {
  readonly #choices: Choices = [];

  add({ index, delta, logprobs, finish_reason: reason }: ChunkChoice): void {
    const choice = (this.#choices[index] ??= {
      index,
      message: { role: "assistant", content: null, refusal: null, annotations: [] },
      logprobs: null,
      finish_reason: "stop",
    });
    const { message } = choice;
    if (typeof delta.content === "string") message.content = (message.content ?? "") + delta.content;
    for (const { index: call, id, function: called } of delta.tool_calls ?? []) {
      const calls = (message.tool_calls ??= []);
      const known = (calls[call] ??= {
        id: id ?? "",
        type: "function",
        function: { name: called.name ?? "", arguments: "" },
      });
      known.function.arguments += called.arguments;
    }
    if (logprobs !== null) {
      choice.logprobs ??= { content: [], refusal: null };
      choice.logprobs.content.push(...logprobs.content);
    }
    if (reason !== null) choice.finish_reason = reason;
  }

  /** As a whole answer has them: calls without text have the content null. */
  choices(): Choices {
    return this.#choices.map((choice) => {
      const { message } = choice;
      const content = message.tool_calls !== undefined && message.content === "" ? null : message.content;
      return { ...choice, message: { ...message, content } };
    });
  }
}

function toStored(parts: {
  body: CreateChatCompletionRequest;
  requestId: string;
  head: AnswerHead;
  choices: Choices;
  usage: Usage;
}): StoredChatCompletion {
  const { body, requestId, head, choices, usage } = parts;
  return {
    object: "chat.completion",
    id: head.id,
    model: head.model,
    created: head.created,
    request_id: requestId,
    tool_choice: body.tool_choice ?? null,
    usage: {
      total_tokens: usage.total_tokens,
      completion_tokens: usage.completion_tokens,
      prompt_tokens: usage.prompt_tokens,
    },
    seed: body.seed ?? 0,
    top_p: body.top_p ?? 1,
    temperature: body.temperature ?? 1,
    presence_penalty: body.presence_penalty ?? 0,
    frequency_penalty: body.frequency_penalty ?? 0,
    system_fingerprint: head.system_fingerprint,
    input_user: body.user ?? null,
    service_tier: head.service_tier,
    tools: body.tools ?? null,
    metadata: body.metadata ?? {},
    choices: choices.map(({ index, message, finish_reason, logprobs }) => ({
      index,
      message: {
        content: message.content,
        role: message.role,
        tool_calls: message.tool_calls ?? null,
        function_call: message.function_call ?? null,
      },
      finish_reason,
      logprobs,
    })),
    response_format: body.response_format ?? null,
  };
}

export function storedCompletionRoutes({ chatCompletions }: { chatCompletions: ChatCompletionStore }) {
  return {
    list: async (request: FastifyRequest): Promise<ListWithIds<StoredChatCompletion>> => {
      const flat = gatherMetadata(request.query as Record<string, unknown>);
      const { metadata, ...query } = parseRequest(listChatCompletionsQuery, flat);
      const page = await chatCompletions.list(request.project, { ...query, metadata: metadata ?? undefined });
      return listWithIds(page.data, page.hasMore);
    },

    retrieve: async (request: FastifyRequest): Promise<StoredChatCompletion> => {
      const id = completionId(request);
      return (await chatCompletions.get(request.project, id)) ?? unknownCompletion(id);
    },

    update: async (request: FastifyRequest): Promise<StoredChatCompletion> => {
      const id = completionId(request);
      const { metadata } = parseRequest(updateChatCompletionRequest, request.body);
      return (await chatCompletions.label(request.project, id, metadata ?? {})) ?? unknownCompletion(id);
    },

    delete: async (request: FastifyRequest): Promise<ChatCompletionDeleted> => {
      const id = completionId(request);
      if (!(await chatCompletions.delete(request.project, id))) unknownCompletion(id);
      return { object: "chat.completion.deleted", id, deleted: true };
    },

    messages: async (request: FastifyRequest): Promise<ListWithIds<StoredChatMessage>> => {
      const id = completionId(request);
      const { limit, after, order } = parseRequest(listChatMessagesQuery, request.query);
      const messages = await chatCompletions.messages(request.project, id);
      if (messages === null) return unknownCompletion(id);
      const all = messages.map((message, index) => toStoredMessage(`${id}-${index}`, message));
      if (order === "desc") all.reverse();
      const seen = after === undefined ? -1 : all.findIndex((message) => message.id === after);
      if (after !== undefined && seen === -1) throw unknownCursor(after);
      const rest = all.slice(seen + 1);
      return listWithIds(rest.slice(0, limit), rest.length > limit);
    },
  };
}

const completionId = (request: FastifyRequest): string =>
  (request.params as { completion: string }).completion;

function unknownCompletion(id: string): never {
  throw new NotFound(`Completion ${id} not found`, { code: "not_found", param: "completion_id" });
}

function toStoredMessage(id: string, message: ChatRequestMessage): StoredChatMessage {
  const { role, content } = message;
  const calls = role === "assistant" ? (message.tool_calls ?? []) : [];
  const called = role === "assistant" ? (message.function_call ?? null) : null;
  return {
    id,
    role,
    content: Array.isArray(content) ? content.map(({ text }) => text).join("") : (content ?? null),
    name: ("name" in message ? message.name : null) ?? null,
    content_parts: Array.isArray(content) ? content : null,
    ...(calls.length === 0
      ? {}
      : { tool_calls: calls.map(({ id, type, function: called }) => ({ id, type, function: called })) }),
    ...(called === null ? {} : { function_call: called }),
    ...(role === "tool" ? { tool_call_id: message.tool_call_id } : {}),
  };
}

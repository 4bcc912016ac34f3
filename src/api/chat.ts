// /v1/chat/completions: whole answers and server-sent events. Which model answers, the directory says; the shapes are made in
// chat-answers.ts.
import { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { ChatEngine, CompletionEvent } from "../serving/engine.ts";
import type { ChatCompletionStore } from "../store/chat-completions.ts";
import { createChatCompletionRequest } from "../wire/chat.ts";
import type { ChatCompletion } from "../wire/chat.ts";
import { parseRequest } from "../wire/validation.ts";
import type { AnswerHead, ChunkChoice } from "./chat-answers.ts";
import {
  endChoice,
  newAnswerHead,
  startChoice,
  textChoice,
  toChunk,
  toCompletionRequest,
  toolCallChoices,
  toToolCall,
} from "./chat-answers.ts";
import { errorAnswer } from "./error-answers.ts";
import { hasFunctions, withFunctionCall, withFunctionDelta } from "./legacy-functions.ts";
import type { ModelDirectory } from "./model-directory.ts";
import type { ShadowCopies } from "./shadow-copies.ts";
import { ChoiceGatherer, createKeep, withSeed } from "./stored-completions.ts";
import type { Keep } from "./stored-completions.ts";
import { Tally } from "./tally.ts";
import { collect, usageOf } from "./whole-answer.ts";

export function chatRoutes(parts: {
  engine: ChatEngine;
  directory: ModelDirectory;
  chatCompletions: ChatCompletionStore;
  shadows: ShadowCopies;
  /** Aborts when the server's grace for requests in flight is over. */
  stopping: AbortSignal;
}) {
  const { engine, directory, chatCompletions, shadows, stopping } = parts;
  return {
    create: async (request: FastifyRequest, reply: FastifyReply): Promise<ChatCompletion | Readable> => {
      const sent = parseRequest(createChatCompletionRequest, request.body);
      const signal = AbortSignal.any([stopping, whenClientLeaves(reply)]);
      const user = sent.user ?? sent.safety_identifier ?? null;
      const { model, shadow } = await directory.answering(request.project, sent.model, signal, user);
      // A copy is to differ by its model alone.
      const body = withSeed(sent, shadow !== null);
      const asked = toCompletionRequest(body, model, signal);
      const head = newAnswerHead(model);
      const stored = createKeep(chatCompletions, request, body);
      const keep: Keep | null =
        shadow === null
          ? stored
          : async (answer) => {
              await stored?.(answer);
              const { project: projectId, id: requestId } = request;
              shadows.add({
                projectId,
                requestId,
                alias: shadow.alias,
                candidate: shadow.model,
                asked,
                answer,
              });
            };
      const events = engine.complete(asked);
      if (body.stream !== true) {
        const tally = new Tally(asked.n);
        try {
          const completion = await collect(head, events, asked, tally);
          if (hasFunctions(body)) completion.choices = completion.choices.map(withFunctionCall);
          await keep?.({ head, choices: completion.choices, usage: completion.usage });
          return completion;
        } finally {
          request.spendTokens(tally.spentTokens());
        }
      }

      // The first event is awaited here: what fails before it is an ordinary HTTP error, not an event in a stream.
      const iterator = events[Symbol.asyncIterator]();
      const first = await iterator.next();
      const lines = streamLines(head, resumed(first, iterator), {
        n: asked.n,
        onEnd: (tokens) => request.spendTokens(tokens),
        hasLogprobs: asked.topLogprobs !== undefined,
        calls: asked.tools === undefined ? "none" : asked.toolChoice === undefined ? "some" : "all",
        includeUsage: body.stream_options?.include_usage === true,
        keep,
        hasFunctions: hasFunctions(body),
        describeError: (error) => {
          const { body: envelope, isBug } = errorAnswer(error, request.id);
          if (!signal.aborted) request.log[isBug ? "error" : "warn"]({ err: error }, "A stream failed");
          return envelope;
        },
      });
      return eventStream(reply, lines);
    },
  };
}

/** An answer of server-sent events, each with its empty line at the end. */
export function eventStream(reply: FastifyReply, events: AsyncIterable<string>): Readable {
  void reply
    .type("text/event-stream; charset=utf-8")
    .header("cache-control", "no-cache")
    // Proxies that gather small writes would turn a stream into one late answer.
    .header("x-accel-buffering", "no");
  return Readable.from(events, { objectMode: false });
}

/** Aborts when the connection closes before the answer is complete. */
export function whenClientLeaves(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  return controller.signal;
}

interface StreamOptions {
  n: number;
  hasLogprobs: boolean;
  /** Which answers will be tool calls. */
  calls: "none" | "some" | "all";
  includeUsage: boolean;
  /** The request has the deprecated `functions`. */
  hasFunctions: boolean;
  /** Where the answer goes once it is whole, if it is to be kept. */
  keep: Keep | null;
  /** Told the tokens that were read and written, also when the stream broke off. */
  onEnd: (tokens: number) => void;
  describeError: (error: unknown) => object;
}

async function* streamLines(
  head: AnswerHead,
  events: AsyncIterable<CompletionEvent>,
  options: StreamOptions,
): AsyncGenerator<string> {
  const usageSoFar = options.includeUsage ? null : undefined;
  const kept = options.keep === null ? null : new ChoiceGatherer();
  const chunk = (choice: ChunkChoice): string => {
    kept?.add(choice);
    return line(toChunk(head, [options.hasFunctions ? withFunctionDelta(choice) : choice], usageSoFar));
  };
  const tally = new Tally(options.n);
  // Its first chunk says whether an answer is text or calls, so where it may be either, that chunk waits until it is known.
  const begun = new Set<number>();
  function* begin(index: number, isCall: boolean): Generator<string> {
    if (!begun.has(index)) yield chunk(startChoice(index, { ...options, isCall }));
    begun.add(index);
  }
  try {
    for (let index = 0; index < options.n && options.calls !== "some"; index++) {
      yield* begin(index, options.calls === "all");
    }
    for await (const event of events) {
      tally.add(event);
      if (event.type === "text-delta" && (event.text !== "" || (event.logprobs ?? []).length > 0)) {
        yield* begin(event.index, false);
        yield chunk(textChoice(event.index, event.text, event.logprobs));
      } else if (event.type === "tool-call") {
        yield* begin(event.index, true);
        const call = toToolCall(event.name, event.arguments);
        for (const choice of toolCallChoices(event.index, event.call, call)) yield chunk(choice);
      } else if (event.type === "finish") {
        yield* begin(event.index, false);
        yield chunk(endChoice(event.index, event.reason));
      }
    }
    tally.requireEnd();
    // Before the end is told, so that whoever has read the end finds it.
    const choices = kept?.choices() ?? [];
    await options.keep?.({
      head,
      choices: options.hasFunctions ? choices.map(withFunctionCall) : choices,
      usage: usageOf(tally),
    });
    if (options.includeUsage) yield line(toChunk(head, [], usageOf(tally)));
    yield "data: [DONE]\n\n";
  } catch (error) {
    // The status line is long gone: clients raise on an event with an `error`, and on nothing else.
    yield line(options.describeError(error));
  } finally {
    options.onEnd(tally.spentTokens());
  }
}

const line = (value: object) => `data: ${JSON.stringify(value)}\n\n`;

/** The iteration with its first result put back in front. */
export async function* resumed<T>(
  first: IteratorResult<T, unknown>,
  rest: AsyncIterator<T>,
): AsyncGenerator<T> {
  try {
    for (let result = first; result.done !== true; result = await rest.next()) yield result.value;
  } finally {
    await rest.return?.();
  }
}

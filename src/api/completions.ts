// /v1/completions: text that a model goes on from, for one prompt or many; whole answers and server-sent events. The shapes are
// made in completion-answers.ts.
import type { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { InvalidRequest } from "../errors.ts";
import type { ChatEngine, CompletionEvent, TextRequest } from "../serving/engine.ts";
import { createCompletionRequest } from "../wire/completions.ts";
import type { Completion, CompletionChunk, CreateCompletionRequest } from "../wire/completions.ts";
import { parseRequest } from "../wire/validation.ts";
import { eventStream, resumed, whenClientLeaves } from "./chat.ts";
import {
  newCompletionHead,
  ShownTokens,
  toChoices,
  toCompletionUsage,
  toFinishReason,
  toPlan,
  toTextRequests,
} from "./completion-answers.ts";
import type { AnsweredPrompt, CompletionHead, CompletionPlan } from "./completion-answers.ts";
import { errorAnswer } from "./error-answers.ts";
import type { ModelDirectory } from "./model-directory.ts";
import { sideBySide } from "./side-by-side.ts";
import { Tally } from "./tally.ts";

/** Prompts of one request that are read and answered at a time; they leave rows of the decode steps to other requests. */
const PROMPTS_AT_A_TIME = 16;

type PromptEvent = { index: number; value: CompletionEvent };

export function completionRoutes(parts: {
  engine: ChatEngine;
  directory: ModelDirectory;
  /** Aborts when the server's grace for requests in flight is over. */
  stopping: AbortSignal;
}) {
  const { engine, directory, stopping } = parts;

  function checkTokenIds({ model, prompt }: CreateCompletionRequest): void {
    if (directory.hasOwnTokens(model) || prompt.every((one) => typeof one === "string")) return;
    const { baseModel } = directory.resolveBase(model) ?? { baseModel: model };
    throw new InvalidRequest(
      `Invalid 'prompt': the token ids of '${model}' are OpenAI's, and ${baseModel}, which answers here, has another vocabulary. Send texts, or name '${baseModel}' and send its own token ids.`,
      { code: "invalid_value", param: "prompt" },
    );
  }

  return {
    create: async (request: FastifyRequest, reply: FastifyReply): Promise<Completion | Readable> => {
      const body = parseRequest(createCompletionRequest, request.body);
      checkTokenIds(body);
      // When one prompt fails, the others end with it.
      const own = new AbortController();
      const signal = AbortSignal.any([stopping, whenClientLeaves(reply), own.signal]);
      const model = await directory.serve(request.project, body.model, signal, body.user);
      const plan = toPlan(body);
      const asked = toTextRequests(body, plan, model, signal);
      const head = newCompletionHead(model);
      const events = sideBySide(
        asked.map((one: TextRequest) => () => engine.completeText(one)),
        { width: PROMPTS_AT_A_TIME, onEnd: () => own.abort() },
      );
      const tally = new Tally(asked.length * plan.candidates);
      if (body.stream !== true) {
        try {
          const prompts = await collect(counted(events, tally), asked.length, plan);
          const usage = toCompletionUsage(tally.promptTokens, tally.completionTokens);
          return { ...head, choices: toChoices(prompts, plan), usage };
        } finally {
          request.spendTokens(tally.spentTokens());
        }
      }

      // The first event is awaited here: what fails before it is an ordinary HTTP error, not an event in a stream.
      const iterator = counted(events, tally)[Symbol.asyncIterator]();
      const first = await iterator.next();
      const lines = streamLines(head, resumed(first, iterator), {
        plan,
        tally,
        includeUsage: body.stream_options?.include_usage === true,
        onEnd: () => request.spendTokens(tally.spentTokens()),
        describeError: (error) => {
          const { body: envelope, isBug } = errorAnswer(error, request.id);
          if (!signal.aborted || isBug)
            request.log[isBug ? "error" : "warn"]({ err: error }, "A stream failed");
          return envelope;
        },
      });
      return eventStream(reply, lines);
    },
  };
}

/** All prompts with their answers, once the engine has ended. */
async function collect(
  events: AsyncIterable<PromptEvent>,
  count: number,
  { candidates }: CompletionPlan,
): Promise<AnsweredPrompt[]> {
  const prompts = Array.from({ length: count }, (): AnsweredPrompt => ({
    text: "",
    reports: [],
    candidates: Array.from({ length: candidates }, () => ({ text: "", reports: [], reason: "stop" })),
  }));
  for await (const { index, value: event } of events) {
    const prompt = prompts[index];
    if (prompt === undefined || event.type === "tool-call") continue;
    if (event.type === "prompt") {
      prompt.text = event.text ?? "";
      prompt.reports = event.logprobs ?? [];
      continue;
    }
    const candidate = prompt.candidates[event.index];
    if (candidate === undefined) continue;
    if (event.type === "finish") candidate.reason = event.reason;
    else {
      candidate.text += event.text;
      candidate.reports.push(...(event.logprobs ?? []));
    }
  }
  return prompts;
}

interface StreamOptions {
  plan: CompletionPlan;
  tally: Tally;
  includeUsage: boolean;
  onEnd: () => void;
  describeError: (error: unknown) => object;
}

async function* streamLines(
  head: CompletionHead,
  events: AsyncIterable<PromptEvent>,
  { plan, tally, includeUsage, onEnd, describeError }: StreamOptions,
): AsyncGenerator<string> {
  const usage = includeUsage ? { usage: null } : {};
  const chunk = (choice: CompletionChunk["choices"][number]): string =>
    line({ ...head, choices: [choice], ...usage });
  const tokens = new Map<number, ShownTokens>();
  try {
    for await (const { index: prompt, value: event } of events) {
      if (event.type === "prompt") {
        for (let index = prompt * plan.n; index < (prompt + 1) * plan.n; index++) {
          const shown = new ShownTokens(plan, event.text ?? "");
          tokens.set(index, shown);
          if (!plan.echo) continue;
          const logprobs = shown.logprobs(event.logprobs ?? []);
          yield chunk({ text: event.text ?? "", index, logprobs, finish_reason: null });
        }
      } else if (event.type !== "tool-call") {
        const index = prompt * plan.n + event.index;
        const isEnd = event.type === "finish";
        const logprobs = isEnd ? null : (tokens.get(index)?.logprobs(event.logprobs ?? []) ?? null);
        yield chunk({
          text: isEnd ? "" : event.text,
          index,
          logprobs,
          finish_reason: isEnd ? toFinishReason(event.reason) : null,
        });
      }
    }
    if (includeUsage) {
      const total = toCompletionUsage(tally.promptTokens, tally.completionTokens);
      yield line({ ...head, choices: [], usage: total });
    }
    yield "data: [DONE]\n\n";
  } catch (error) {
    // The status line is long gone: clients raise on an event with an `error`, and on nothing else.
    yield line(describeError(error));
  } finally {
    onEnd();
  }
}

const line = (value: object) => `data: ${JSON.stringify(value)}\n\n`;

/** The same events, counted; throws when they end before every answer has. */
async function* counted(events: AsyncIterable<PromptEvent>, tally: Tally): AsyncGenerator<PromptEvent> {
  for await (const event of events) {
    tally.add(event.value);
    yield event;
  }
  tally.requireEnd();
}

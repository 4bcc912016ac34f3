// Shadows of aliases: once a client has its answer, the same request goes to the candidate, and both answers are compared. Nobody waits
// for it, and it waits behind the server's own work: one copy at a time, and what does not fit in the queue is left out.
import type { FastifyBaseLogger } from "fastify";
import { textSimilarity } from "../evals/text-similarity.ts";
import type { ChatEngine, CompletionRequest, ServedModel } from "../serving/engine.ts";
import type { AliasComparisonStore } from "../store/alias-comparisons.ts";
import { firstCharacters } from "../wire/characters.ts";
import type { ChatCompletion } from "../wire/chat.ts";
import { newAnswerHead } from "./chat-answers.ts";
import { collect } from "./whole-answer.ts";

export interface ShadowedAnswer {
  projectId: string;
  alias: string;
  requestId: string;
  candidate: ServedModel;
  /** As it was asked; its signal is not the copy's. */
  asked: CompletionRequest;
  answer: Pick<ChatCompletion, "choices" | "usage">;
}

/** Requests in memory that wait for a copy, with their whole conversations. */
const MAX_WAITING_COPIES = 16;

/** Characters of each text that is kept with a comparison: enough to see what differs. */
const MAX_KEPT_CHARACTERS = 2000;

/** Characters of each answer that the similarity looks at: its cost grows with their product. */
const MAX_SIMILARITY_CHARACTERS = 8000;

export class ShadowCopies {
  readonly #waiting: ShadowedAnswer[] = [];
  readonly #parts: {
    engine: ChatEngine;
    comparisons: AliasComparisonStore;
    stopping: AbortSignal;
    logger: FastifyBaseLogger;
  };
  #working: Promise<void> | null = null;
  readonly #closing = new AbortController();

  constructor(parts: {
    engine: ChatEngine;
    comparisons: AliasComparisonStore;
    stopping: AbortSignal;
    logger: FastifyBaseLogger;
  }) {
    this.#parts = parts;
  }

  /** Never throws and never waits. */
  add(shadowed: ShadowedAnswer): void {
    if (this.#closing.signal.aborted) return;
    if (this.#waiting.length >= MAX_WAITING_COPIES) {
      this.#parts.logger.warn(
        { alias: shadowed.alias, requestId: shadowed.requestId },
        "A request was not copied to the alias's shadow: too many wait already",
      );
      return;
    }
    this.#waiting.push(shadowed);
    this.#working ??= this.#work().finally(() => (this.#working = null));
  }

  /** Drops what waits, ends the copy that runs, and resolves when nothing touches the database any more. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#waiting.length = 0;
    await this.#working;
  }

  async #work(): Promise<void> {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      const signal = AbortSignal.any([this.#closing.signal, this.#parts.stopping]);
      try {
        await this.#compare(next, signal);
      } catch (error) {
        // The client has its answer; what the candidate could not do is for whoever looks at the log.
        if (!signal.aborted)
          this.#parts.logger.warn({ err: error, alias: next.alias }, "A copy for an alias's shadow failed");
      }
    }
  }

  async #compare(shadowed: ShadowedAnswer, signal: AbortSignal): Promise<void> {
    const { projectId, alias, requestId, candidate, asked, answer } = shadowed;
    const { engine, comparisons } = this.#parts;
    const copy = { ...asked, model: candidate, signal };
    const other = await collect(newAnswerHead(candidate), engine.complete(copy), copy);
    signal.throwIfAborted();
    const [own, theirs] = [textOf(answer), textOf(other)];
    const equal = own === theirs;
    const texts = {
      input: theirs.slice(0, MAX_SIMILARITY_CHARACTERS),
      reference: own.slice(0, MAX_SIMILARITY_CHARACTERS),
    };
    const similarity = equal
      ? 1
      : await textSimilarity("fuzzy_match", texts, { embed: null, synonyms: null }, signal);
    await comparisons.add(
      { projectId, name: alias },
      {
        ...{ requestId, model: asked.model.id, candidate: candidate.id, equal, similarity },
        question: cut(asked.messages.at(-1)?.content ?? ""),
        answer: cut(own),
        candidateAnswer: cut(theirs),
        completionTokens: answer.usage?.completion_tokens ?? 0,
        candidateCompletionTokens: other.usage?.completion_tokens ?? 0,
      },
    );
  }
}

/** All choices of an answer; what cannot differ between two equal answers (ids of calls) is left out. */
function textOf({ choices }: Pick<ChatCompletion, "choices">): string {
  return choices
    .map(({ message }) => {
      const calls = (message.tool_calls ?? []).map(({ function: called }) => JSON.stringify(called));
      return [message.content ?? "", ...calls].filter((part) => part !== "").join("\n");
    })
    .join("\n\n");
}

/** Nothing that a column of text cannot hold. */
function cut(text: string): string {
  return firstCharacters(text, MAX_KEPT_CHARACTERS).replaceAll(/[\0\p{Surrogate}]/gu, "\u{FFFD}");
}

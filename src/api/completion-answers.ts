// Pure converters of legacy completions: a parsed request into the engine's, one for each prompt, and results into choices and
// chunks. Which of several answers are the best is decided here, too.
import type {
  FinishReason,
  PromptTokenReport,
  ServedModel,
  TextRequest,
  TokenReport,
} from "../serving/engine.ts";
import { DEFAULT_COMPLETION_TOKENS } from "../wire/completions.ts";
import type {
  Completion,
  CompletionChunk,
  CompletionLogprobs,
  CompletionUsage,
  CreateCompletionRequest,
} from "../wire/completions.ts";
import { newId } from "../wire/ids.ts";
import { LEAST_LOGPROB, newAnswerHead, toGenerationOptions } from "./chat-answers.ts";

/** What the answers to one request have in common. */
export interface CompletionPlan {
  /** Answers to give for each prompt. */
  n: number;
  /** Answers to write for each prompt. */
  candidates: number;
  echo: boolean;
  /** Null: no log-probabilities are shown. */
  topCount: number | null;
}

export function toPlan(body: CreateCompletionRequest): CompletionPlan {
  const n = body.n ?? 1;
  return {
    n,
    candidates: Math.max(n, body.best_of ?? 0),
    echo: body.echo === true,
    topCount: body.logprobs ?? null,
  };
}

export function toTextRequests(
  body: CreateCompletionRequest,
  plan: CompletionPlan,
  model: ServedModel,
  signal: AbortSignal,
): TextRequest[] {
  const { n, candidates, echo, topCount } = plan;
  const options = {
    ...toGenerationOptions(body, model, signal),
    n: candidates,
    maxTokens: body.max_tokens ?? DEFAULT_COMPLETION_TOKENS,
    // To choose among answers, their tokens have to be scored.
    ...(topCount !== null || candidates > n ? { topLogprobs: topCount ?? 0 } : {}),
    ...(echo && topCount !== null ? { scoresPrompt: true } : {}),
  };
  // A signal each: Node takes many listeners on one of them for a leak.
  return body.prompt.map((prompt) => ({ ...options, prompt, signal: AbortSignal.any([signal]) }));
}

export type CompletionHead = Omit<CompletionChunk, "choices" | "usage">;

export function newCompletionHead(model: ServedModel): CompletionHead {
  const { created, model: name, system_fingerprint } = newAnswerHead(model);
  return { id: newId("completion"), object: "text_completion", created, model: name, system_fingerprint };
}

/** One answer as it was written. */
export interface Candidate {
  text: string;
  reports: TokenReport[];
  reason: FinishReason;
}

/** A prompt with all answers to it. */
export interface AnsweredPrompt {
  text: string;
  reports: readonly PromptTokenReport[];
  candidates: readonly Candidate[];
}

/** The choices of all prompts, prompt after prompt, the best answers first where there were more than are asked for. */
export function toChoices(prompts: readonly AnsweredPrompt[], plan: CompletionPlan): Completion["choices"] {
  const answers = prompts.flatMap((prompt) =>
    best(prompt.candidates, plan.n).map((candidate) => ({ prompt, candidate })),
  );
  return answers.map(({ prompt, candidate: { text, reports, reason } }, index) => {
    const shown = new ShownTokens(plan, prompt.text);
    return {
      text: plan.echo ? prompt.text + text : text,
      index,
      logprobs: shown.logprobs(plan.echo ? [...prompt.reports, ...reports] : reports),
      finish_reason: toFinishReason(reason),
    };
  });
}

/** By the mean log-probability of their tokens, which is what OpenAI documents; of equals the first. */
function best(candidates: readonly Candidate[], n: number): readonly Candidate[] {
  if (candidates.length <= n) return candidates;
  const means = new Map(candidates.map((candidate) => [candidate, meanLogprob(candidate.reports)]));
  return [...candidates].sort((a, b) => (means.get(b) ?? 0) - (means.get(a) ?? 0)).slice(0, n);
}

/** An answer that ended before its first token is the last to be chosen. */
function meanLogprob(reports: readonly TokenReport[]): number {
  if (reports.length === 0) return -Number.MAX_VALUE;
  return reports.reduce((sum, { logprob }) => sum + Math.max(logprob, LEAST_LOGPROB), 0) / reports.length;
}

export const toFinishReason = (reason: FinishReason): "stop" | "length" =>
  reason === "length" ? "length" : "stop";

/** A choice's tokens in OpenAI's four lists, piece by piece as they come. */
export class ShownTokens {
  readonly #topCount: number | null;
  /** Bytes of the text so far, and the characters that are complete in them. */
  #bytesLeft = 0;
  #characters: number;

  /** The first token to come is the prompt's where that is echoed, and the answer's otherwise. */
  constructor({ topCount, echo }: CompletionPlan, prompt: string) {
    this.#topCount = topCount;
    this.#characters = echo ? 0 : [...prompt].length;
  }

  /** Null where none are shown. */
  logprobs(reports: readonly PromptTokenReport[]): CompletionLogprobs | null {
    if (this.#topCount === null) return null;
    return {
      tokens: reports.map(({ token }) => token),
      token_logprobs: reports.map(({ logprob }) => (logprob === null ? null : shown(logprob))),
      top_logprobs: this.#topCount === 0 ? null : reports.map(toTop),
      text_offset: reports.map(({ bytes }) => this.#pass(bytes)),
    };
  }

  /** Where a token begins, in characters; one in the middle of a character begins where that does. */
  #pass(bytes: readonly number[]): number {
    const start = this.#characters;
    for (const byte of bytes) {
      if (this.#bytesLeft === 0) this.#bytesLeft = lengthFrom(byte);
      this.#bytesLeft -= 1;
      if (this.#bytesLeft === 0) this.#characters += 1;
    }
    return start;
  }
}

/** Bytes of the UTF-8 character that begins with this one. */
function lengthFrom(byte: number): number {
  if (byte < 0xc0) return 1;
  return byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

const shown = (logprob: number): number => Math.max(logprob, LEAST_LOGPROB);

function toTop(report: PromptTokenReport): Record<string, number> | null {
  if (report.top === null) return null;
  // The token itself is among them, also where others are likelier.
  return Object.fromEntries([...report.top, report].map(({ token, logprob }) => [token, shown(logprob)]));
}

export function toCompletionUsage(promptTokens: number, completionTokens: number): CompletionUsage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  };
}

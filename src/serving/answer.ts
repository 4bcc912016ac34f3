// One answer being written: from tokens to text, tool calls and log-probabilities, until a stop token, a stop text or the
// limit. It knows no scheduler beyond the Answer it gives it, and no HTTP.
import { createToolCallReader } from "../data/tool-calls.ts";
import type { CalledFunction, ToolCallShape } from "../data/tool-calls.ts";
import { createTextStream } from "../data/tokenizer.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import type { CompletionEvent, FinishReason, GenerationOptions, TokenReport } from "./engine.ts";
import type { ScoredToken } from "./log-probabilities.ts";
import { createBias, createPenalties } from "./logit-rules.ts";
import type { LogitRule } from "./logit-rules.ts";
import { createSampler } from "./sampler.ts";
import type { Answer } from "./scheduler.ts";
import { createStopTexts } from "./stop-texts.ts";
import { toReport } from "./token-reports.ts";

/** Calls of one answer: more than a turn needs, and an end for a model that would go on calling until the context is full. */
const MAX_PARALLEL_CALLS = 16;

export interface AnswerParts {
  options: GenerationOptions;
  index: number;
  tokenizer: Tokenizer;
  stopIds: ReadonlySet<number>;
  maxTokens: number;
  /** What the answer is held to, if anything. */
  grammar: LogitRule | null;
  /** Tools that the answer may call, if any. */
  tools: {
    shape: ToolCallShape;
    names: ReadonlySet<string>;
    /** The answer is nothing but calls. */
    isForced: boolean;
    finishReason: FinishReason;
  } | null;
  emit: (event: CompletionEvent) => void;
  fail: (error: unknown) => void;
}

export function createAnswer(parts: AnswerParts): Answer {
  const { options, index, tokenizer, stopIds, maxTokens, grammar, tools, emit, fail } = parts;
  const text = createTextStream(tokenizer, { skipSpecialTokens: true });
  const stops = createStopTexts(options.stop);
  const calls = tools === null ? null : createToolCallReader(tools.shape, tools.names, tools.isForced);
  const reports = options.topLogprobs === undefined ? null : new ReportQueue(tokenizer);
  let completionTokens = 0;
  let callCount = 0;
  let lastCall = "";

  /** True when the answer must end here: it repeats itself, or has as many calls as it may. A repeated call is left out. */
  const emitCalls = (read: readonly CalledFunction[]): boolean => {
    for (const call of read) {
      const spelling = spellCall(call);
      if (spelling === lastCall) return true;
      lastCall = spelling;
      emit({ type: "tool-call", index, call: callCount++, ...call });
      if (callCount === MAX_PARALLEL_CALLS) return true;
    }
    return false;
  };
  /** True as emitCalls gives it. */
  const send = (piece: string, isEnd = false): boolean => {
    const report = reports?.release(piece.length, isEnd) ?? [];
    const read = calls === null ? { text: piece, calls: [] } : calls.push(piece);
    if (read.text !== "" || report.length > 0) {
      emit({ type: "text-delta", index, text: read.text, ...(reports === null ? {} : { logprobs: report }) });
    }
    return emitCalls(read.calls);
  };
  const finish = (reason: FinishReason, isCut = false): false => {
    const rest = isCut ? null : calls?.flush({ isCutOff: reason === "length" });
    const restText = rest?.text ?? "";
    if (restText !== "") {
      emit({ type: "text-delta", index, text: restText, ...(reports === null ? {} : { logprobs: [] }) });
    }
    emitCalls(rest?.calls ?? []);
    const isCall = reason === "stop" && callCount > 0 && tools !== null;
    emit({ type: "finish", index, reason: isCall ? tools.finishReason : reason, completionTokens });
    return false;
  };
  /** Stop texts end text; the name and arguments of a call are none, and half a call is of no use. */
  const untilStop = (piece: string): { text: string; stopped: boolean } =>
    tools?.isForced === true || calls?.isOpen === true
      ? { text: stops.flush() + piece, stopped: false }
      : stops.push(piece);
  /** The end but for stop texts: what was held back is sent, unless it completes a stop text. */
  const end = (reason: FinishReason): false => {
    const rest = untilStop(text.flush());
    const isCut = send(rest.text, !rest.stopped) || (!rest.stopped && send(stops.flush(), true));
    return finish(isCut ? "stop" : reason, isCut);
  };

  return {
    sampler: createSampler({
      temperature: options.temperature,
      topP: options.topP,
      seed: answerSeed(options.seed, index),
      rules: logitRules(options, grammar),
      ...(reports === null
        ? {}
        : { scores: { topCount: options.topLogprobs ?? 0, onScore: (score) => reports.score(score) } }),
    }),
    fail,
    token(token) {
      if (stopIds.has(token)) {
        reports?.dropLast();
        return end("stop");
      }
      completionTokens += 1;
      const whole = text.push(token);
      reports?.grow(whole.length);
      const { text: piece, stopped } = untilStop(whole);
      if (send(piece)) return finish("stop", true);
      if (stopped) return finish("stop");
      return completionTokens < maxTokens ? true : end("length");
    },
  };
}

/** The same for calls that differ in white space alone. */
function spellCall({ name, arguments: args }: CalledFunction): string {
  try {
    return JSON.stringify([name, JSON.parse(args)]);
  } catch {
    // A call that was cut off.
    return JSON.stringify([name, args]);
  }
}

/** Penalties and bias first: what the grammar forbids stays forbidden. */
function logitRules(options: GenerationOptions, grammar: LogitRule | null): LogitRule[] {
  const { frequencyPenalty: frequency = 0, presencePenalty: presence = 0, logitBias } = options;
  const rules: LogitRule[] = [];
  if (frequency !== 0 || presence !== 0) rules.push(createPenalties({ frequency, presence }));
  if (logitBias !== undefined && logitBias.size > 0) rules.push(createBias(logitBias));
  if (grammar !== null) rules.push(grammar);
  return rules;
}

/** Answers to one request differ, but the same request gives the same ones. */
function answerSeed(seed: number | null, index: number): number {
  return seed === null ? Math.floor(Math.random() * 0x1_0000_0000) : seed + index * 0x9e3779b9;
}

/** Reports of tokens whose text was not sent yet: a token goes out with the text that begins in it. */
class ReportQueue {
  readonly #tokenizer: Tokenizer;
  readonly #waiting: { report: TokenReport; start: number }[] = [];
  /** Characters made so far, and those sent. */
  #made = 0;
  #sent = 0;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  score(score: ScoredToken): void {
    this.#waiting.push({ report: toReport(score, this.#tokenizer), start: this.#made });
  }

  grow(characters: number): void {
    this.#made += characters;
  }

  dropLast(): void {
    this.#waiting.pop();
  }

  release(characters: number, isEnd: boolean): TokenReport[] {
    this.#sent += characters;
    const count = isEnd
      ? this.#waiting.length
      : this.#waiting.filter(({ start }) => start < this.#sent).length;
    return this.#waiting.splice(0, count).map(({ report }) => report);
  }
}

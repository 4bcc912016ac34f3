// `record`: the user's prompts to an old model while it still answers, each answer kept before the next counts. What it costs is said
// before, and never goes beyond the cap.
import { mkdir } from "node:fs/promises";
import { z } from "zod";
import { Cancelled, InvalidRequest, messageOf, Unavailable, type TunesmithError } from "../errors.ts";
import { Budget, costOf, likelyCost, worstCost, type Price } from "./budget.ts";
import { withFolder } from "./folder-lock.ts";
import type { Attempt, OpenAiClient, OpenAiError } from "./openai-client.ts";
import type { Prompt } from "./prompts.ts";
import { someAtATime } from "./some-at-a-time.ts";
import { readRecording, RecordingWriter, recordingPath } from "./recording.ts";

/** A long answer takes minutes; fetch itself gives up after five. */
const ANSWER_TIMEOUT_MS = 280_000;
/** Failures that the answer names; all are in the recording. */
const MAX_NAMED_FAILURES = 20;

export interface RecordStatement {
  model: string;
  prompts: number;
  /** Equal to an earlier line, and asked once. */
  duplicates: number;
  already_recorded: number;
  to_send: number;
  price: Price;
  likely_usd: number;
  worst_usd: number;
  /** By earlier runs of this recording. */
  spent_usd: number;
  cap_usd: number;
}

export interface RecordSummary {
  object: "tunesmith.recording";
  recording: string;
  model: string;
  prompts: number;
  recorded: number;
  failed: { line: number; message: string }[];
  failed_count: number;
  spent_usd: number;
  cap_usd: number;
  cap_reached: boolean;
}

export interface RecordOptions {
  model: string;
  prompts: readonly Prompt[];
  price: Price;
  /** US dollars for the whole recording, earlier runs included; null: what the prompts can cost at worst. */
  cap: number | null;
  atATime: number;
  /** Told what it costs; false: nothing is sent. */
  confirm(statement: RecordStatement): Promise<boolean>;
  onProgress(done: number, total: number, spentUsd: number): void;
}

const chatAnswer = z.looseObject({
  choices: z
    .array(
      z.looseObject({
        message: z.looseObject({
          content: z.string().nullish(),
          refusal: z.string().nullish(),
          tool_calls: z
            .array(z.looseObject({ function: z.looseObject({ name: z.string(), arguments: z.string() }) }))
            .nullish(),
        }),
        finish_reason: z.string().nullish(),
      }),
    )
    .min(1),
  usage: z.looseObject({ prompt_tokens: z.number().min(0), completion_tokens: z.number().min(0) }).nullish(),
});

export async function record(
  client: OpenAiClient,
  directory: string,
  options: RecordOptions,
): Promise<RecordSummary> {
  await mkdir(directory, { recursive: true });
  return withFolder(directory, async () => {
    const path = recordingPath(directory, options.model);
    const earlier = await readRecording(path);
    if (earlier !== null && earlier.model !== options.model)
      throw new InvalidRequest(`${path} is a recording of ${earlier.model}, not of ${options.model}.`);
    const unique = [...new Map(options.prompts.map((prompt) => [prompt.key, prompt])).values()];
    const toSend = unique.filter(({ key }) => earlier?.answers.has(key) !== true);
    const spent = earlier?.spentUsd ?? 0;
    const sum = (cost: typeof worstCost): number =>
      toSend.reduce((total, { request }) => total + cost(request, options.price), 0);
    const worst = sum(worstCost);
    // Adding up in another order must not end a run just before its last prompt.
    const cap = options.cap ?? (spent + worst) * (1 + 1e-9);
    const statement: RecordStatement = {
      model: options.model,
      prompts: options.prompts.length,
      duplicates: options.prompts.length - unique.length,
      already_recorded: unique.length - toSend.length,
      to_send: toSend.length,
      price: options.price,
      likely_usd: sum(likelyCost),
      worst_usd: worst,
      spent_usd: spent,
      cap_usd: cap,
    };
    const budget = new Budget(cap, spent);
    const failed: RecordSummary["failed"] = [];
    let capReached = false;
    let recorded = unique.length - toSend.length;
    if (toSend.length > 0) {
      if (!(await options.confirm(statement))) throw new Cancelled("Nothing was sent.");
      const writer = await RecordingWriter.open(
        path,
        { model: options.model, baseUrl: client.baseUrl },
        earlier,
      );
      const run = new Run(client, writer, budget, options, {
        answered: () => {
          recorded += 1;
          options.onProgress(recorded, unique.length, budget.spent);
        },
        failed: (failure) => void failed.push(failure),
      });
      try {
        capReached = await run.all(toSend);
      } finally {
        await writer.close();
      }
    }
    return {
      object: "tunesmith.recording",
      recording: path,
      model: options.model,
      prompts: unique.length,
      recorded,
      failed: failed.slice(0, MAX_NAMED_FAILURES),
      failed_count: failed.length,
      spent_usd: budget.spent,
      cap_usd: cap,
      cap_reached: capReached,
    };
  });
}

interface RunReport {
  answered(): void;
  failed(failure: { line: number; message: string }): void;
}

class Run {
  readonly #client: OpenAiClient;
  readonly #writer: RecordingWriter;
  readonly #budget: Budget;
  readonly #options: RecordOptions;
  readonly #report: RunReport;
  /** Those who wait for money that requests in flight hold. */
  #waiting: (() => void)[] = [];
  #isStopped = false;
  #capReached = false;

  constructor(
    client: OpenAiClient,
    writer: RecordingWriter,
    budget: Budget,
    options: RecordOptions,
    report: RunReport,
  ) {
    this.#client = client;
    this.#writer = writer;
    this.#budget = budget;
    this.#options = options;
    this.#report = report;
  }

  /** Returns whether the cap ended it. Throws what concerns all prompts, when those in flight have ended. */
  async all(prompts: readonly Prompt[]): Promise<boolean> {
    await someAtATime(prompts, this.#options.atATime, async (prompt) => {
      if (this.#isStopped) return;
      try {
        await this.#ask(prompt);
      } catch (error) {
        this.#isStopped = true;
        throw error;
      } finally {
        this.#wake();
      }
    });
    return this.#capReached;
  }

  async #ask(prompt: Prompt): Promise<void> {
    const { price, model } = this.#options;
    const worst = worstCost(prompt.request, price);
    for (let tries = 1; ; tries++) {
      if (!(await this.#reserve(worst))) return;
      let cost = worst;
      let attempt: Attempt;
      try {
        const name = await this.#writer.sent(prompt.key, worst);
        attempt = await this.#client.attempt(
          "/chat/completions",
          { ...prompt.request, model },
          ANSWER_TIMEOUT_MS,
        );
        if (attempt.kind === "answered") {
          cost = await this.#keep(prompt, name, worst, attempt.response);
          return;
        }
        cost = attempt.kind === "refused" && isUnbilled(attempt.error) ? 0 : worst;
        await this.#writer.failed({
          attempt: name,
          key: prompt.key,
          line: prompt.line,
          status: attempt.kind === "refused" ? attempt.error.status : null,
          message: attempt.error.message,
          cost_usd: cost,
        });
      } finally {
        this.#budget.settle(worst, cost);
        this.#wake();
      }
      if (attempt.kind === "refused" && !attempt.mayRetry) {
        if (concernsAll(attempt.error)) throw explained(attempt.error, model);
        this.#report.failed({ line: prompt.line, message: attempt.error.message });
        return;
      }
      // What is still so after several tries is so for all prompts.
      await this.#client.waitToRetry(
        tries,
        attempt.kind === "refused" ? attempt.retryAfterMs : null,
        attempt.error,
      );
    }
  }

  /** Waits while others may give back what they put aside. False when the cap leaves no room. */
  async #reserve(worst: number): Promise<boolean> {
    while (!this.#isStopped) {
      if (this.#budget.reserve(worst)) return true;
      if (!this.#budget.isHeld) {
        this.#capReached = true;
        this.#isStopped = true;
        return false;
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    return false;
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Returns what it cost; the worst where OpenAI does not say. */
  async #keep(prompt: Prompt, attempt: string, worst: number, response: Response): Promise<number> {
    const text = await response.text();
    let parsed: ReturnType<typeof chatAnswer.safeParse> | null = null;
    try {
      parsed = chatAnswer.safeParse(JSON.parse(text));
    } catch {
      // No JSON: said below.
    }
    const choice = parsed?.data?.choices[0];
    const usage = parsed?.data?.usage ?? null;
    const cost = usage === null ? worst : costOf(usage, this.#options.price);
    if (choice === undefined) {
      const message = "OpenAI answered something that is no chat completion.";
      await this.#writer.failed({
        attempt,
        key: prompt.key,
        line: prompt.line,
        status: 200,
        message,
        cost_usd: cost,
      });
      this.#report.failed({ line: prompt.line, message });
      return cost;
    }
    await this.#writer.answered({
      attempt,
      key: prompt.key,
      line: prompt.line,
      request: prompt.request,
      reference: prompt.reference,
      message: choice.message,
      finish_reason: choice.finish_reason ?? null,
      usage,
      cost_usd: cost,
      answered_at: Math.floor(Date.now() / 1000),
    });
    this.#report.answered();
    return cost;
  }
}

/** OpenAI charges for answers. What was refused, or turned away for being overloaded, never became one. */
function isUnbilled({ status }: OpenAiError): boolean {
  return status < 500 || status === 503;
}

/** The key, the account or the model: the same for every prompt. */
function concernsAll({ status }: OpenAiError): boolean {
  return [401, 403, 404, 429].includes(status);
}

function explained(error: OpenAiError, model: string): TunesmithError {
  if (error.status !== 404) return error;
  return new Unavailable(
    `${model} does not answer any more: ${messageOf(error)}. What was recorded is kept; compare and distil work from it.`,
    { cause: error },
  );
}

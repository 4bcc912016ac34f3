// Continuous batching: answers join and leave between decode steps. Prompts are read one after the other, and between two of
// them every running answer moves on by a token. Answers of one adapter share a cache and a step; adapters take turns.
import { Unavailable } from "../errors.ts";
import type { Generator, LoadedAdapter } from "./generator.ts";
import type { KeyValueCache } from "./key-value-cache.ts";
import type { Sampler } from "./sampler.ts";

export interface SchedulerLimits {
  /** Answers decoded at a time: beyond 16 a step of a 135M model on two cores only grows longer. */
  maxRows: number;
  /** Row-places of all caches together: 32,768 are 1.5 GB for a 135M model. A single answer may always fill its context. */
  maxCachePlaces: number;
  /** Prompts waiting for a row; more are turned away at once rather than kept until their client gives up. */
  maxWaiting: number;
}

export const DEFAULT_LIMITS: SchedulerLimits = { maxRows: 16, maxCachePlaces: 32_768, maxWaiting: 256 };

/** One answer being written. The scheduler calls back; `token` says whether to go on. */
export interface Answer {
  sampler: Sampler;
  /** Called with each new token; false ends the answer without a further call. */
  token(token: number): boolean;
  /** Called once when the answer cannot go on. */
  fail(error: unknown): void;
}

export interface PromptRequest {
  tokens: readonly number[];
  /** Answers with the same key share a cache; the key stands for the adapter's content. */
  adapterKey: string;
  adapter: LoadedAdapter;
  answers: readonly Answer[];
  signal: AbortSignal;
}

interface Row {
  answer: Answer;
  signal: AbortSignal;
  /** Prompt and answer so far; the last token is not yet in the cache. */
  tokens: number[];
}

interface Group {
  adapter: LoadedAdapter;
  cache: KeyValueCache;
  /** In the order of the cache's rows. */
  rows: Row[];
}

export class Scheduler {
  readonly #generator: Generator;
  readonly #limits: SchedulerLimits;
  readonly #waiting: PromptRequest[] = [];
  readonly #groups = new Map<string, Group>();
  #running: Promise<void> | null = null;
  #closed = false;

  constructor(generator: Generator, limits: SchedulerLimits = DEFAULT_LIMITS) {
    this.#generator = generator;
    this.#limits = limits;
  }

  /** Queues a prompt. Throws Unavailable when too many wait, or when the scheduler is closed. */
  submit(request: PromptRequest): void {
    if (this.#closed) throw new Unavailable("The server is shutting down. Try again in a moment.");
    if (this.#waiting.length >= this.#limits.maxWaiting) {
      throw new Unavailable(
        `${this.#waiting.length} requests are waiting already, the limit is ${this.#limits.maxWaiting}. Try again in a moment.`,
        { code: "server_is_overloaded" },
      );
    }
    this.#waiting.push(request);
    this.#running ??= this.#run().finally(() => (this.#running = null));
  }

  /** Fails whatever waits or runs, and resolves when the last step is over. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#closed && (this.#waiting.length > 0 || this.#groups.size > 0)) {
      this.#dropAborted();
      const next = this.#nextAdmissible();
      if (next !== null) await this.#admit(next);
      for (const [key, group] of this.#groups) {
        await this.#step(key, group);
        if (this.#closed) break;
      }
    }
    if (this.#closed) this.#failAll(new Unavailable("The server is shutting down. Try again in a moment."));
  }

  #dropAborted(): void {
    for (let i = this.#waiting.length - 1; i >= 0; i--) {
      if (this.#waiting[i]?.signal.aborted === true) this.#waiting.splice(i, 1);
    }
    for (const [key, group] of this.#groups) {
      for (let row = group.rows.length - 1; row >= 0; row--) {
        if (group.rows[row]?.signal.aborted === true) this.#remove(key, group, row);
      }
    }
  }

  /** The longest-waiting prompt, once there is room for it; later ones do not overtake it. */
  #nextAdmissible(): PromptRequest | null {
    const next = this.#waiting[0];
    if (next === undefined) return null;
    const rows = this.#rowCount();
    if (rows > 0 && rows + next.answers.length > this.#limits.maxRows) return null;
    if (rows > 0 && this.#places(next) > this.#limits.maxCachePlaces) return null;
    this.#waiting.shift();
    return next;
  }

  #rowCount(): number {
    let rows = 0;
    for (const group of this.#groups.values()) rows += group.rows.length;
    return rows;
  }

  /** Row-places in use once this prompt has joined. */
  #places({ adapterKey, tokens, answers }: PromptRequest): number {
    let places = 0;
    let joined = false;
    for (const [key, { cache }] of this.#groups) {
      places += key === adapterKey ? cache.sizeWith(answers.length, tokens.length) : cache.sizeWith(0, 0);
      joined ||= key === adapterKey;
    }
    return joined ? places : places + answers.length * tokens.length;
  }

  async #admit(request: PromptRequest): Promise<void> {
    const { tokens, adapterKey, adapter, answers, signal } = request;
    try {
      const { cache, logits } = await this.#generator.readPrompt(tokens, adapter, signal);
      for (const answer of answers) {
        const token = answer.sampler.sample(logits);
        if (!answer.token(token)) continue;
        let group = this.#groups.get(adapterKey);
        if (group === undefined) {
          group = { adapter, cache: this.#generator.newCache(), rows: [] };
          this.#groups.set(adapterKey, group);
        }
        group.cache.addRow(cache);
        group.rows.push({ answer, signal, tokens: [...tokens, token] });
      }
    } catch (error) {
      if (!signal.aborted) for (const answer of answers) answer.fail(error);
    }
  }

  async #step(key: string, group: Group): Promise<void> {
    this.#makeRoom(key, group);
    const pending = group.rows.map((row) => row.tokens.at(-1) as number);
    try {
      const logits = await this.#generator.step(group.cache, pending, group.adapter);
      const vocabSize = logits.length / group.rows.length;
      // Backwards, because a removed row's place is taken by the last one.
      for (let i = group.rows.length - 1; i >= 0; i--) {
        const row = group.rows[i] as Row;
        const token = row.answer.sampler.sample(logits.subarray(i * vocabSize, (i + 1) * vocabSize));
        if (row.answer.token(token)) row.tokens.push(token);
        else this.#remove(key, group, i);
      }
    } catch (error) {
      this.#groups.delete(key);
      for (const row of group.rows) row.answer.fail(error);
    }
  }

  /**
   * Answers grow, so what was admitted may outgrow the caches: the newest answers then give up their rows and come back
   * later, reading prompt and answer so far again. The oldest always stays.
   */
  #makeRoom(key: string, group: Group): void {
    const others = [...this.#groups.values()].filter((one) => one !== group);
    const elsewhere = others.reduce((sum, { cache }) => sum + cache.sizeWith(0, 0), 0);
    const longest = (): number => Math.max(...group.rows.map((row) => row.tokens.length));
    while (
      group.rows.length > 1 &&
      elsewhere + group.cache.sizeWith(0, longest()) > this.#limits.maxCachePlaces
    ) {
      const { answer, signal, tokens } = group.rows.at(-1) as Row;
      this.#remove(key, group, group.rows.length - 1);
      this.#waiting.unshift({ tokens, adapterKey: key, adapter: group.adapter, answers: [answer], signal });
    }
  }

  #remove(key: string, group: Group, row: number): void {
    group.cache.removeRow(row);
    const last = group.rows.pop() as Row;
    if (row < group.rows.length) group.rows[row] = last;
    if (group.rows.length === 0) this.#groups.delete(key);
  }

  #failAll(error: unknown): void {
    for (const { answers } of this.#waiting.splice(0)) for (const answer of answers) answer.fail(error);
    for (const { rows } of this.#groups.values()) for (const { answer } of rows) answer.fail(error);
    this.#groups.clear();
  }
}

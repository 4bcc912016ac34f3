// Continuous batching: answers join and leave between decode steps. Prompts are read one after the other, and between two of
// them every running answer moves on by a token. Answers of one adapter share a cache and a step; adapters take turns.
import { Unavailable } from "../errors.ts";
import type { Generator, LoadedAdapter } from "./generator.ts";
import type { KeyValueCache } from "./key-value-cache.ts";
import type { Sampler } from "./sampler.ts";

export interface SchedulerLimits {
  /** Answers decoded at a time: beyond 16 a step of a 135M model on two cores only grows longer. */
  maxRows: number;
  /**
   * Row-places of all caches together: 32,768 are 1.5 GB for a 135M model. A single answer may always fill its context, and
   * the prompt that is just being read comes on top.
   */
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

/** A prompt that some of its answers still wait with. */
interface Waiting {
  request: PromptRequest;
  /** Those without a row, in order. */
  answers: Answer[];
  /** What reading the prompt gave, kept for the answers that found no room at once. */
  prompt: Awaited<ReturnType<Generator["readPrompt"]>> | null;
}

interface Row {
  answer: Answer;
  signal: AbortSignal;
  /** Prompt and answer so far; the last token is not yet in the cache. */
  tokens: number[];
  /** Grows with each admission: tells who came last. */
  admission: number;
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
  readonly #waiting: Waiting[] = [];
  readonly #groups = new Map<string, Group>();
  #admissions = 0;
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
    this.#waiting.push({ request, answers: [...request.answers], prompt: null });
    this.#running ??= this.#run();
  }

  /** Fails whatever waits or runs, and resolves when the last step is over. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    try {
      while (!this.#closed && (this.#waiting.length > 0 || this.#groups.size > 0)) {
        try {
          await this.#turn();
        } catch (error) {
          // Whose fault it was is not known, and none of them may wait for ever.
          this.#failAll(error);
        }
      }
      if (this.#closed) this.#failAll(new Unavailable("The server is shutting down. Try again in a moment."));
    } finally {
      // In the same turn as the look at the queue, or a prompt that comes in between would find a loop that has ended.
      this.#running = null;
    }
  }

  /** One more prompt is read, and every running answer moves on by a token. */
  async #turn(): Promise<void> {
    this.#dropAborted();
    await this.#admitNext();
    for (const [key, group] of this.#groups) {
      await this.#step(key, group);
      if (this.#closed) break;
    }
  }

  #dropAborted(): void {
    for (let i = this.#waiting.length - 1; i >= 0; i--) {
      if (this.#waiting[i]?.request.signal.aborted === true) this.#waiting.splice(i, 1);
    }
    for (const [key, group] of this.#groups) {
      for (let row = group.rows.length - 1; row >= 0; row--) {
        if (group.rows[row]?.signal.aborted === true) this.#remove(key, group, row);
      }
    }
  }

  /**
   * Gives rows to the answers of the longest-waiting prompt, as many as there is room for. The rest of them wait with the
   * prompt as it was read; later prompts do not overtake them.
   */
  async #admitNext(): Promise<void> {
    const next = this.#waiting[0];
    if (next === undefined || this.#admissible(next) === 0) return;
    this.#waiting.shift();
    const { tokens, adapter, signal } = next.request;
    try {
      next.prompt ??= await this.#generator.readPrompt(tokens, adapter, signal);
      let rows = this.#admissible(next);
      for (let answer = next.answers[0]; rows > 0 && answer !== undefined; answer = next.answers[0]) {
        const token = answer.sampler.sample(next.prompt.logits);
        if (answer.token(token)) {
          const group = this.#groupOf(next.request);
          group.cache.reserve(rows, tokens.length);
          group.cache.addRow(next.prompt.cache);
          group.rows.push({ answer, signal, tokens: [...tokens, token], admission: this.#admissions++ });
          rows -= 1;
        }
        next.answers.shift();
      }
    } catch (error) {
      const failed = next.answers.splice(0);
      if (!signal.aborted) for (const answer of failed) answer.fail(error);
    }
    if (next.answers.length > 0) this.#waiting.unshift(next);
  }

  #groupOf({ adapterKey, adapter }: PromptRequest): Group {
    let group = this.#groups.get(adapterKey);
    if (group === undefined) {
      group = { adapter, cache: this.#generator.newCache(), rows: [] };
      this.#groups.set(adapterKey, group);
    }
    return group;
  }

  /** How many answers of this prompt may get a row now; one may always when nothing runs. */
  #admissible(waiting: Waiting): number {
    const { request, answers } = waiting;
    const rows = this.#rowCount();
    let count = Math.min(answers.length, this.#limits.maxRows - rows);
    const places = (): number =>
      this.#placesWith(request.adapterKey, count, request.tokens.length) +
      this.#keptPlaces(waiting) +
      // Unless all its answers get in, the prompt is kept for the others.
      (count < answers.length ? request.tokens.length : 0);
    while (count > 0 && !this.#fits(places)) count -= 1;
    return rows === 0 ? Math.max(count, 1) : count;
  }

  #rowCount(): number {
    let rows = 0;
    for (const group of this.#groups.values()) rows += group.rows.length;
    return rows;
  }

  /** Row-places of the caches once a group has so many more rows and its longest row this length. */
  #placesWith(adapterKey: string, extraRows: number, length: number): number {
    let places = this.#groups.has(adapterKey) ? 0 : extraRows * length;
    for (const [key, { cache }] of this.#groups) {
      places += key === adapterKey ? cache.sizeWith(extraRows, length) : cache.sizeWith(0, 0);
    }
    return places;
  }

  /** Row-places of the prompts that were read and wait on, but for one. */
  #keptPlaces(except: Waiting | null): number {
    const kept = this.#waiting.filter((waiting) => waiting.prompt !== null && waiting !== except);
    return kept.reduce((sum, { request }) => sum + request.tokens.length, 0);
  }

  /** Whether so many places are within the limit, if need be once the caches have given back what they do not use. */
  #fits(places: () => number): boolean {
    if (places() <= this.#limits.maxCachePlaces) return true;
    for (const { cache } of this.#groups.values()) cache.trim();
    return places() <= this.#limits.maxCachePlaces;
  }

  async #step(key: string, group: Group): Promise<void> {
    try {
      this.#makeRoom(key, group);
      if (group.rows.length === 0) {
        // Left by a prompt that failed while its first row was made.
        this.#groups.delete(key);
        return;
      }
      const pending = group.rows.map((row) => row.tokens.at(-1) as number);
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
   * Answers grow, so what was admitted may outgrow the caches. Then prompts that were kept are dropped, to be read again; and
   * while that is not enough, the newest answer gives up its row and comes back later, reading prompt and answer so far
   * again. The oldest always stays.
   */
  #makeRoom(key: string, group: Group): void {
    const longest = (): number => Math.max(0, ...group.rows.map((row) => row.tokens.length));
    const places = (): number => this.#placesWith(key, 0, longest()) + this.#keptPlaces(null);
    if (this.#fits(places)) return;
    for (const waiting of this.#waiting) waiting.prompt = null;
    while (this.#rowCount() > 1 && !this.#fits(places)) this.#evictNewest();
  }

  #evictNewest(): void {
    const running = [...this.#groups].flatMap(([key, group]) =>
      group.rows.map((row, index) => ({ key, group, row, index })),
    );
    const { key, group, row, index } = running.reduce((newest, one) =>
      one.row.admission > newest.row.admission ? one : newest,
    );
    this.#remove(key, group, index);
    const { answer, signal, tokens } = row;
    const request = { tokens, adapterKey: key, adapter: group.adapter, answers: [answer], signal };
    this.#waiting.unshift({ request, answers: [answer], prompt: null });
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

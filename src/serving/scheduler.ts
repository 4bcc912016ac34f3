// Continuous batching: answers join and leave between decode steps. Short prompts are read several in a pass, long ones in
// pieces, and between two passes every running answer moves on by a token. Answers of one adapter share a cache and a step;
// adapters take turns.
import { Overloaded, Unavailable } from "../errors.ts";
import { isRead } from "./generator.ts";
import type { Generator, LoadedAdapter, OnPromptLogits, PromptReading } from "./generator.ts";
import type { KeyValueCache } from "./key-value-cache.ts";
import { isLong, sharePass } from "./prompt-passes.ts";
import type { Sampler } from "./sampler.ts";

export interface SchedulerLimits {
  /**
   * Answers decoded at a time. A step reads every weight once, however many rows share it: 32 rows answered 110 tickets in four
   * fifths of the time of 16. Beyond, products stop being narrow (generation-graph.ts) and each answer waits longer.
   */
  maxRows: number;
  /**
   * Row-places of all caches together: 32,768 are 1.5 GB for a 135M model. A single answer may always fill its context, and
   * the prompts of the pass that is just being read come on top.
   */
  maxCachePlaces: number;
  /** Prompts waiting for a row; more are turned away at once rather than kept until their client gives up. */
  maxWaiting: number;
  /** Milliseconds that a prompt waits before anything of it is read; then its client is told, rather than left to guess. */
  maxWaitMs: number;
}

export const DEFAULT_LIMITS: SchedulerLimits = {
  maxRows: 32,
  maxCachePlaces: 32_768,
  maxWaiting: 256,
  maxWaitMs: 120_000,
};

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
  /** Told of the logits behind every token of the prompt, before the first answer begins; again from the start where it is read again. */
  onLogits?: OnPromptLogits;
  signal: AbortSignal;
}

/** A prompt that some of its answers still wait with. */
interface Waiting {
  request: PromptRequest;
  /** Those without a row, in order. */
  answers: Answer[];
  /** The prompt as far as it was read: a part of a long one, or all of it for answers that found no room at once. */
  reading: PromptReading | null;
  /** When it has waited too long, in milliseconds of the process's clock; Infinity once it was begun. */
  overdueAtMs: number;
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
  /** A long prompt and the short ones around it are read in turns. */
  #longPromptIsNext = false;
  #running: Promise<void> | null = null;
  #closed = false;

  constructor(generator: Generator, limits: SchedulerLimits = DEFAULT_LIMITS) {
    this.#generator = generator;
    this.#limits = limits;
  }

  /** Queues a prompt. Throws Overloaded when too many wait, Unavailable when the scheduler is closed. */
  submit(request: PromptRequest): void {
    if (this.#closed) throw new Unavailable("The server is shutting down. Try again in a moment.");
    if (this.#waiting.length >= this.#limits.maxWaiting) {
      throw new Overloaded(
        `${this.#waiting.length} requests are waiting already, the limit is ${this.#limits.maxWaiting}. Try again in a moment.`,
        { code: "server_is_overloaded" },
      );
    }
    const overdueAtMs = performance.now() + this.#limits.maxWaitMs;
    this.#waiting.push({ request, answers: [...request.answers], reading: null, overdueAtMs });
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

  /** One more pass reads prompts, and every running answer moves on by a token. */
  async #turn(): Promise<void> {
    this.#dropAborted();
    this.#failOverdue();
    await this.#admit();
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

  #failOverdue(): void {
    const now = performance.now();
    const overdue = this.#waiting.filter(({ overdueAtMs }) => overdueAtMs <= now);
    for (const waiting of overdue) {
      this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
      const error = new Overloaded(
        `Your request waited ${this.#limits.maxWaitMs / 1000} seconds, the longest it may, and nothing of it was read: the server has too much to do. Try again in a moment, or send fewer requests at a time.`,
        { code: "queue_timeout" },
      );
      fail(waiting, error);
    }
  }

  /** Reads the prompts of the next pass and gives rows to the answers of those that are read. What is left waits on. */
  async #admit(): Promise<void> {
    const pass = this.#nextPass();
    const [first] = pass;
    if (first === undefined) return;
    for (const waiting of pass) {
      this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
      waiting.overdueAtMs = Infinity;
    }
    try {
      const readings = pass.map(
        (waiting) =>
          (waiting.reading ??= this.#generator.beginPrompt(
            waiting.request.tokens,
            waiting.request.onLogits ?? null,
          )),
      );
      if (!isRead(readings[0] as PromptReading)) {
        await this.#generator.readPass(readings, first.request.adapter);
      }
      for (const waiting of pass) if (isRead(waiting.reading as PromptReading)) this.#giveRows(waiting);
    } catch (error) {
      for (const waiting of pass) fail(waiting, error);
    }
    this.#waiting.unshift(...pass.filter(({ answers }) => answers.length > 0));
  }

  /**
   * The longest-waiting prompt, and where it is short those behind it that it can share a pass with. A long prompt is read
   * piece by piece, in turns with the short ones, which may overtake it while a row is kept for it. Else nobody overtakes
   * but those who share a pass with the first.
   */
  #nextPass(): Waiting[] {
    const long = this.#longPrompt();
    if (long !== undefined && this.#longPromptIsNext) {
      this.#longPromptIsNext = false;
      return [long];
    }
    const pass = this.#shortPass(long);
    this.#longPromptIsNext = long !== undefined && pass.length > 0;
    return pass.length > 0 || long === undefined ? pass : [long];
  }

  /** The one of which a part was read. */
  #longPrompt(): Waiting | undefined {
    return this.#waiting.find(({ reading }) => reading !== null && !isRead(reading));
  }

  #shortPass(long: Waiting | undefined): Waiting[] {
    const queue = this.#waiting.filter(
      ({ reading, request }) => long === undefined || reading !== null || !isReadAlone(request),
    );
    const first = queue.find((waiting) => waiting !== long);
    if (first === undefined) return [];
    const admissible = this.#admissible(first);
    if (admissible === 0) return [];
    const { adapterKey, tokens } = first.request;
    const isAlone = first.reading !== null || isReadAlone(first.request) || admissible < first.answers.length;
    const pass = [first];
    let rows = admissible;
    let longest = tokens.length;
    for (const next of isAlone ? [] : queue.slice(queue.indexOf(first) + 1)) {
      // Answers of other adapters cannot share the pass; the first of them is the first of the next one.
      if (next === long || next.request.adapterKey !== adapterKey) continue;
      rows += next.answers.length;
      longest = Math.max(longest, next.request.tokens.length);
      const places = (): number => this.#placesWith(adapterKey, rows, longest) + this.#keptPlaces(null);
      const hasRows = this.#rowCount() + rows + this.#rowsKept(next) <= this.#limits.maxRows;
      if (next.reading !== null || isReadAlone(next.request) || !hasRows || !this.#fits(places)) break;
      pass.push(next);
    }
    return pass.slice(0, sharePass(pass.map(({ request }) => request.tokens.length)));
  }

  /** Gives rows to the answers of a prompt that was read, as many as there is room for. */
  #giveRows(waiting: Waiting): void {
    const { request, answers, reading } = waiting;
    const { tokens, signal } = request;
    try {
      let rows = this.#admissible(waiting);
      for (let answer = answers[0]; rows > 0 && answer !== undefined; answer = answers[0]) {
        const { logits, cache } = reading as PromptReading;
        const token = answer.sampler.sample(logits);
        if (answer.token(token)) {
          const group = this.#groupOf(request);
          group.cache.reserve(rows, tokens.length);
          group.cache.addRow(cache);
          group.rows.push({ answer, signal, tokens: [...tokens, token], admission: this.#admissions++ });
          rows -= 1;
        }
        answers.shift();
      }
    } catch (error) {
      fail(waiting, error);
    }
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
    const rows = this.#rowCount() + this.#rowsKept(waiting);
    let count = Math.max(0, Math.min(answers.length, this.#limits.maxRows - rows));
    const places = (): number =>
      this.#placesWith(request.adapterKey, count, request.tokens.length) +
      this.#keptPlaces(waiting) +
      // Unless all its answers get in, the prompt is kept for the others.
      (count < answers.length ? request.tokens.length : 0);
    while (count > 0 && !this.#fits(places)) count -= 1;
    return rows === 0 ? Math.max(count, 1) : count;
  }

  /** The row that a prompt which is being read will need: others must not take it. */
  #rowsKept(except: Waiting): number {
    const long = this.#longPrompt();
    return long === undefined || long === except ? 0 : 1;
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

  /** Row-places of the prompts that were read, or begun, and wait on, but for one. */
  #keptPlaces(except: Waiting | null): number {
    const kept = this.#waiting.filter((waiting) => waiting.reading !== null && waiting !== except);
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
    for (const waiting of this.#waiting) waiting.reading = null;
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
    this.#waiting.unshift({ request, answers: [answer], reading: null, overdueAtMs: Infinity });
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

/** In pieces, in turns with the short prompts. */
const isReadAlone = ({ tokens, onLogits }: PromptRequest): boolean =>
  onLogits !== undefined || isLong(tokens.length);

/** Ends all answers that wait for a row; those whose client has gone are told nothing. */
function fail({ request, answers }: Waiting, error: unknown): void {
  for (const answer of answers.splice(0)) if (!request.signal.aborted) answer.fail(error);
}

// The scheduler over a model that needs no weights: the next token is the number of tokens so far, so that an answer's
// tokens tell which rows of the cache they were computed from.
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { Unavailable } from "../errors.ts";
import { NO_ADAPTER } from "./generator.ts";
import type { Generator } from "./generator.ts";
import { PROMPT_CHUNK_TOKENS } from "./prompt-passes.ts";
import { mostLikely } from "./sampler.ts";
import { Scheduler } from "./scheduler.ts";
import type { Answer, SchedulerLimits } from "./scheduler.ts";

const VOCABULARY = 64;

class FakeCache {
  readonly lengths: number[] = [];
  get rows(): number {
    return this.lengths.length;
  }
  length(row: number): number {
    return this.lengths[row] as number;
  }
  addRow(source?: FakeCache): number {
    return this.lengths.push(source?.lengths[0] ?? 0) - 1;
  }
  removeRow(row: number): void {
    const last = this.lengths.pop() as number;
    if (row < this.lengths.length) this.lengths[row] = last;
  }
  sizeWith(extraRows: number, length: number): number {
    return (this.rows + extraRows) * Math.max(length, ...this.lengths);
  }
  outOfMemory = false;
  reserve(): void {
    if (this.outOfMemory) throw new RangeError("Array buffer allocation failed");
  }
  trim(): void {}
}

interface FakeReading {
  tokens: readonly number[];
  cache: FakeCache;
  logits: Float32Array;
}

class FakeGenerator {
  /** Tokens of each prompt in each pass. */
  readonly passes: number[][] = [];
  /** What was read, and the steps between. */
  readonly order: string[] = [];
  /** Rows of each decode step, and lengths of the prompts that were read to the end. */
  readonly steps: number[] = [];
  readonly prompts: number[] = [];
  readonly caches: FakeCache[] = [];
  /** Most row-places that were ever in use after a step, copies of prompts included. */
  peakPlaces = 0;
  failNextStep = false;
  failNextPrompt = false;
  outOfMemory = false;

  newCache(): FakeCache {
    const cache = new FakeCache();
    cache.outOfMemory = this.outOfMemory;
    this.caches.push(cache);
    return cache;
  }

  beginPrompt(tokens: readonly number[]): FakeReading {
    const cache = new FakeCache();
    cache.addRow();
    return { tokens, cache, logits: new Float32Array(0) };
  }

  async readPass(readings: readonly FakeReading[]): Promise<void> {
    await Promise.resolve();
    const lengths = readings.map(({ tokens, cache }) =>
      readings.length === 1
        ? Math.min(PROMPT_CHUNK_TOKENS, tokens.length - cache.length(0))
        : tokens.length - cache.length(0),
    );
    this.passes.push(lengths);
    this.order.push(...lengths.map((length) => `read ${length}`));
    if (this.failNextPrompt) throw new Error("unreadable");
    for (const [row, { tokens, cache }] of readings.entries()) {
      cache.lengths[0] = cache.length(0) + (lengths[row] as number);
      if (cache.length(0) === tokens.length) this.prompts.push(tokens.length);
      (readings[row] as FakeReading).logits = logitsOf(cache.length(0));
    }
  }

  async step(cache: FakeCache, tokens: readonly number[]): Promise<Float32Array> {
    await Promise.resolve();
    expect(tokens).toHaveLength(cache.rows);
    this.steps.push(tokens.length);
    this.order.push("step");
    if (this.failNextStep) throw new Error("broken");
    const all = new Float32Array(tokens.length * VOCABULARY);
    for (let row = 0; row < tokens.length; row++) {
      cache.lengths[row] = (cache.lengths[row] as number) + 1;
      all.set(logitsOf(cache.lengths[row] as number), row * VOCABULARY);
    }
    const places = this.caches.reduce((sum, each) => sum + each.sizeWith(0, 0), 0);
    this.peakPlaces = Math.max(this.peakPlaces, places);
    return all;
  }
}

function logitsOf(length: number): Float32Array {
  const logits = new Float32Array(VOCABULARY);
  logits[length % VOCABULARY] = 1;
  return logits;
}

interface AskOptions {
  adapterKey?: string;
  signal?: AbortSignal;
}

function setUp(limits: Partial<SchedulerLimits> = {}) {
  const generator = new FakeGenerator();
  const scheduler = new Scheduler(generator as unknown as Generator, {
    maxRows: 4,
    maxCachePlaces: 1000,
    maxWaiting: 8,
    maxWaitMs: 60_000,
    ...limits,
  });
  /** One answer for each count, of so many tokens, to a prompt of `length`; as promises of their tokens. */
  const askForAll = (length: number, counts: readonly number[], options: AskOptions = {}) => {
    const answers: Answer[] = [];
    const results = counts.map(
      (count) =>
        new Promise<number[]>((resolve, reject) => {
          const tokens: number[] = [];
          answers.push({
            sampler: { sample: mostLikely },
            fail: reject,
            token: (token) => {
              tokens.push(token);
              if (tokens.length < count) return true;
              resolve(tokens);
              return false;
            },
          });
        }),
    );
    scheduler.submit({
      tokens: Array.from({ length }, () => 0),
      adapterKey: options.adapterKey ?? "",
      adapter: NO_ADAPTER,
      answers,
      signal: options.signal ?? new AbortController().signal,
    });
    return results;
  };
  const ask = async (length: number, count: number, options: AskOptions = {}): Promise<number[]> =>
    (await askForAll(length, [count], options)[0]) as number[];
  return { generator, scheduler, ask, askForAll };
}

function counting(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

describe("Scheduler", () => {
  it("gives each of several answers of different lengths its own tokens", async () => {
    const { ask, generator } = setUp();
    const requests = [3, 10, 5, 8].map((length, i) => ask(length, 8 + i));
    expect(await Promise.all(requests)).toEqual([3, 10, 5, 8].map((length, i) => counting(length, 8 + i)));
    expect(Math.max(...generator.steps)).toBe(4);
  });

  it("lets an answer join while others run", async () => {
    const { ask, generator } = setUp();
    const first = ask(3, 12);
    while (generator.steps.length < 4) await Promise.resolve();
    expect(await ask(20, 3)).toEqual(counting(20, 3));
    expect(await first).toEqual(counting(3, 12));
    expect(generator.steps).toContain(2);
  });

  it("decodes at most the allowed rows; the rest waits and is answered too", async () => {
    const { ask, generator } = setUp({ maxRows: 2 });
    const lengths = [1, 2, 3, 4, 5];
    expect(await Promise.all(lengths.map((length) => ask(length, 3)))).toEqual(
      lengths.map((length) => counting(length, 3)),
    );
    expect(Math.max(...generator.steps)).toBe(2);
  });

  it("reads the short prompts that wait in few passes", async () => {
    const { ask, generator } = setUp({ maxRows: 16, maxWaiting: 32, maxCachePlaces: 10_000 });
    const lengths = Array.from({ length: 17 }, (_, i) => 112 + i);
    expect(await Promise.all(lengths.map((length) => ask(length, 20)))).toEqual(
      lengths.map((length) => counting(length, 20).map((token) => token % VOCABULARY)),
    );
    // The first begins alone, the last waits for a row.
    expect(generator.passes.map((pass) => pass.length)).toEqual([1, 4, 4, 4, 3, 1]);
  });

  it("shares no pass between adapters; whoever was passed over is the first of the next", async () => {
    const { ask, generator } = setUp({ maxRows: 16 });
    const keys = ["a", "a", "b", "a", "b"];
    await Promise.all(keys.map((adapterKey, i) => ask(10 + i, 3, { adapterKey })));
    expect(generator.passes).toEqual([[10], [11, 13], [12, 14]]);
  });

  it("reads a long prompt in pieces, in turns with short ones and with the steps of those that run", async () => {
    const { ask, generator } = setUp({ maxCachePlaces: 10_000 });
    const long = PROMPT_CHUNK_TOKENS * 3 + 8;
    const answers = [ask(5, 40), ask(long, 2), ask(6, 2), ask(long + 1, 2), ask(7, 2)];
    for (const [i, length] of [5, long, 6, long + 1, 7].entries()) {
      expect((await answers[i])?.slice(0, 2)).toEqual(counting(length, 2).map((token) => token % VOCABULARY));
    }
    const piece = [`read ${PROMPT_CHUNK_TOKENS}`, "step"];
    expect(generator.order.filter((each, i) => each !== "step" || generator.order[i - 1] !== "step")).toEqual(
      [
        ...["read 5", "step", ...piece, "read 6", "read 7", "step", ...piece],
        ...[...piece, "read 8", "step", ...piece, ...piece, ...piece, "read 9", "step"],
      ],
    );
  });

  it("keeps a row for a long prompt that short ones overtake", async () => {
    const { ask, generator } = setUp({ maxRows: 2, maxCachePlaces: 10_000 });
    const done: string[] = [];
    const note = (name: string, answer: Promise<unknown>): Promise<unknown> =>
      answer.then(() => done.push(name));
    await Promise.all([
      note("first", ask(5, 4)),
      note("long", ask(PROMPT_CHUNK_TOKENS * 2, 2)),
      ...[1, 2, 3, 4].map((i) => note(`short ${i}`, ask(5 + i, 30))),
    ]);
    expect(done.indexOf("long")).toBeLessThan(2);
    expect(Math.max(...generator.steps)).toBe(2);
  });

  it("never puts two adapters into one step", async () => {
    const { ask, generator } = setUp();
    const both = [ask(3, 5, { adapterKey: "a" }), ask(4, 5, { adapterKey: "b" })];
    expect(await Promise.all(both)).toEqual([counting(3, 5), counting(4, 5)]);
    expect(Math.max(...generator.steps)).toBe(1);
  });

  it("sends the newest answer back to wait when the caches are full, and goes on with the same tokens", async () => {
    const { ask, generator } = setUp({ maxCachePlaces: 20 });
    const both = [ask(6, 12), ask(7, 12)];
    expect(await Promise.all(both)).toEqual([counting(6, 12), counting(7, 12)]);
    // The second prompt was read again, with the part of the answer it already had.
    expect(generator.prompts).toHaveLength(3);
    expect(generator.prompts[2]).toBeGreaterThan(7);
  });

  it("admits the answers to one prompt as rows become free, and reads the prompt once", async () => {
    const { askForAll, ask, generator } = setUp({ maxRows: 4 });
    const counts = [2, 9, 3, 1, 4, 5, 1, 6, 2, 3];
    const answers = askForAll(10, counts);
    const later = ask(3, 2);
    expect(await Promise.all(answers)).toEqual(counts.map((count) => counting(10, count)));
    expect(await later).toEqual(counting(3, 2));
    expect(Math.max(...generator.steps)).toBe(4);
    expect(generator.prompts).toEqual([10, 3]);
  });

  it("keeps many answers to one prompt within the places, the kept prompt included", async () => {
    const { askForAll, generator } = setUp({ maxRows: 16, maxCachePlaces: 100 });
    const answers = askForAll(
      20,
      Array.from({ length: 30 }, () => 4),
    );
    for (const tokens of await Promise.all(answers)) expect(tokens).toEqual(counting(20, 4));
    // Beside the prompt, 80 places: three answers of up to 24 tokens, for a moment four of 20.
    expect(generator.peakPlaces).toBeGreaterThan(60);
    expect(generator.peakPlaces).toBeLessThanOrEqual(100);
    expect(Math.max(...generator.steps)).toBe(4);
  });

  it("lets a single answer fill its context, one at a time if need be", async () => {
    const { askForAll, generator } = setUp({ maxCachePlaces: 10 });
    expect(await Promise.all(askForAll(20, [3, 3]))).toEqual([counting(20, 3), counting(20, 3)]);
    expect(Math.max(...generator.steps)).toBe(1);
  });

  it("sends the newest answer back whichever adapter it has", async () => {
    const { ask, generator } = setUp({ maxCachePlaces: 20 });
    const first = ask(6, 12, { adapterKey: "a" });
    const second = ask(7, 12, { adapterKey: "b" });
    expect(await Promise.all([first, second])).toEqual([counting(6, 12), counting(7, 12)]);
    expect(generator.peakPlaces).toBeLessThanOrEqual(20);
    expect(generator.prompts.slice(0, 2)).toEqual([6, 7]);
    expect(generator.prompts.length).toBeGreaterThan(2);
  });

  it("fails every answer to a prompt that cannot be read, and serves the next", async () => {
    const { ask, askForAll, generator } = setUp();
    generator.failNextPrompt = true;
    for (const result of await Promise.allSettled(askForAll(3, [5, 5])))
      expect(result.status).toBe("rejected");
    generator.failNextPrompt = false;
    expect(await ask(3, 5)).toEqual(counting(3, 5));
  });

  it("drops an answer whose client has gone, within a step", async () => {
    const { ask, generator } = setUp();
    const gone = new AbortController();
    void ask(3, 50, { signal: gone.signal });
    const stays = ask(5, 30);
    while (generator.steps.length < 5) await Promise.resolve();
    gone.abort();
    const before = generator.steps.length;
    expect(await stays).toEqual(counting(5, 30));
    expect(generator.steps.slice(before + 1).every((rows) => rows === 1)).toBe(true);
  });

  it("fails the answers of a broken step and serves the next request", async () => {
    const { ask, generator } = setUp();
    generator.failNextStep = true;
    await expect(ask(3, 5)).rejects.toThrow("broken");
    generator.failNextStep = false;
    expect(await ask(3, 5)).toEqual(counting(3, 5));
  });

  it("fails an answer that finds no memory, comes to rest and serves the next", async () => {
    const { ask, generator, scheduler } = setUp();
    generator.outOfMemory = true;
    await expect(ask(3, 5)).rejects.toThrow("allocation failed");
    // A loop that goes on without work would let no timer through.
    await new Promise((resolve) => setTimeout(resolve, 1));
    generator.outOfMemory = false;
    expect(await ask(3, 5)).toEqual(counting(3, 5));
    await scheduler.close();
  });

  it("fails every answer when the loop itself breaks, and serves the next request", async () => {
    const { ask, askForAll, scheduler } = setUp();
    const broken = {
      get aborted(): boolean {
        throw new Error("unforeseen");
      },
    };
    const results = askForAll(3, [5, 5], { signal: broken as AbortSignal });
    for (const result of await Promise.allSettled(results)) expect(result.status).toBe("rejected");
    expect(await ask(3, 5)).toEqual(counting(3, 5));
    await scheduler.close();
  });

  it("turns a prompt away when too many wait", async () => {
    const { ask } = setUp({ maxWaiting: 2, maxRows: 1 });
    // The first is taken up at once, two wait.
    const accepted = [ask(3, 3), ask(3, 3), ask(3, 3)];
    await expect(ask(3, 3)).rejects.toThrow(/2 requests are waiting already, the limit is 2/);
    await Promise.all(accepted);
  });

  it("tells a prompt that has waited too long, and lets one that was begun go on", async () => {
    let now = 0;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => now);
    onTestFinished(() => clock.mockRestore());
    const { ask, generator } = setUp({ maxRows: 1, maxWaitMs: 1000 });
    const running = ask(3, 50);
    const waiting = ask(3, 3);
    while (generator.steps.length < 2) await Promise.resolve();
    now = 1001;
    await expect(waiting).rejects.toMatchObject({ name: "Overloaded", code: "queue_timeout" });
    expect(await running).toEqual(counting(3, 50));
  });

  it("fails what waits and runs when it is closed", async () => {
    const { ask, scheduler, generator } = setUp({ maxRows: 1 });
    const running = ask(3, 1000);
    const waiting = ask(3, 3);
    const failures = Promise.allSettled([running, waiting]);
    while (generator.steps.length < 2) await Promise.resolve();
    await scheduler.close();
    for (const failure of await failures) {
      expect(failure.status === "rejected" && failure.reason instanceof Unavailable).toBe(true);
    }
    await expect(ask(3, 3)).rejects.toThrow(Unavailable);
  });
});

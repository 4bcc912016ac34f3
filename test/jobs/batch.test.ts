// How a batch ends when things happen to it: a bound, a stop, a kill, a cancellation, the end of its window, a full disk.
import { fork } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, onTestFinished, test } from "vitest";
import { Conflict } from "../../src/errors.ts";
import type { Dispatch } from "../../src/jobs/dispatch.ts";
import { SYSTEM_CLOCK } from "../../src/jobs/worker.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";
import { answered, numberOf, openBatchBench, type BatchBench } from "./batch-bench.ts";
import { NODE_OPTIONS, until } from "./workbench.ts";

let bench: BatchBench;
afterEach(() => bench.close());

const ended = (batch: Parameters<BatchBench["status"]>[0]) => async () =>
  ["completed", "failed", "expired", "cancelled"].includes(await bench.status(batch));

/** Answers the first `count` lines, and never the others. */
function stalling(count: number): { answer: Dispatch; seen: number[] } {
  const seen: number[] = [];
  const answer: Dispatch = async ({ body, signal }) => {
    const n = numberOf(body);
    seen.push(n);
    if (n <= count) return answered(body);
    await new Promise((_resolve, reject) =>
      signal.addEventListener("abort", () => reject(new Error("aborted"))),
    );
    throw new Error("internal: it was aborted");
  };
  return { answer, seen };
}

test("never more lines at a time than there are slots, over all batches, and every line once", async () => {
  const seen: string[] = [];
  let running = 0;
  let most = 0;
  bench = await openBatchBench({
    slots: 3,
    answer: async ({ body }) => {
      most = Math.max(most, ++running);
      await SYSTEM_CLOCK.delay(2);
      running -= 1;
      seen.push(String(numberOf(body)));
      return answered(body);
    },
  });
  const both = [await bench.create(40), await bench.create(40)];
  bench.startWorkers(2);
  for (const batch of both) await until("it has ended", ended(batch));
  expect(most).toBe(3);
  expect(seen).toHaveLength(80);
  for (const batch of both) {
    const read = await bench.read(batch);
    expect(read).toMatchObject({
      status: "completed",
      requestCounts: { total: 40, completed: 40, failed: 0 },
      usage: { input_tokens: 40, output_tokens: 80, total_tokens: 120 },
    });
    const ids = (await bench.output(read.outputFileId)).map((line) => Number(line.custom_id));
    expect(ids.sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
    await until("its directory is gone", () => !existsSync(join(bench.home, "batches", batch.id)));
  }
});

test("a line that is turned away for the moment is tried again; other failures count at once", async () => {
  const tries = new Map<number, number>();
  bench = await openBatchBench({
    answer: async ({ body }) => {
      const n = numberOf(body);
      const tried = (tries.get(n) ?? 0) + 1;
      tries.set(n, tried);
      if (n === 1 && tried < 3) return answered(body, 503);
      if (n === 2) return answered(body, 429);
      return answered(body, n === 3 ? 500 : 200);
    },
  });
  const batch = await bench.create(4);
  bench.startWorkers();
  await until("it has ended", ended(batch));
  expect([...tries.entries()].sort()).toEqual([
    [1, 3],
    [2, 10],
    [3, 1],
    [4, 1],
  ]);
  expect(await bench.read(batch)).toMatchObject({ requestCounts: { total: 4, completed: 2, failed: 2 } });
});

test("lines whose key has used up its limit wait for as long as it takes, and leave the slots to others", async () => {
  let isOpen = false;
  let refused = 0;
  bench = await openBatchBench({
    slots: 2,
    answer: async ({ body, keyId }) => {
      if (keyId !== "key_limited" || isOpen) return answered(body);
      refused += 1;
      return { ...answered(body, 429), retryAfterMs: 5 };
    },
  });
  const limited = await bench.create(6, { keyId: "key_limited" });
  const free = await bench.create(6);
  bench.startWorkers(2);
  await until("the other batch has ended", ended(free));
  // Far more often than a line is tried that something else turns away, and no line more than the slots let in.
  await until("it has waited", () => refused > 40);
  expect(await bench.read(limited)).toMatchObject({
    status: "in_progress",
    requestCounts: { total: 6, completed: 0, failed: 0 },
  });
  isOpen = true;
  await until("it has ended", ended(limited));
  expect(await bench.read(limited)).toMatchObject({ requestCounts: { total: 6, completed: 6, failed: 0 } });
});

test("a batch that waits for its key's limit can be cancelled", async () => {
  bench = await openBatchBench({
    slots: 2,
    answer: async ({ body }) => ({ ...answered(body, 429), retryAfterMs: 60_000 }),
  });
  const batch = await bench.create(6);
  const [worker] = bench.startWorkers();
  await until("it has begun", async () => (await bench.status(batch)) === "in_progress");
  await bench.batches.cancel(DEFAULT_PROJECT, batch.id);
  worker?.wake();
  await until("it has ended", ended(batch));
  expect(await bench.status(batch)).toBe("cancelled");
});

test("an orderly stop in the middle, and the next start goes on with the lines that are left", async () => {
  const first = stalling(5);
  bench = await openBatchBench({ slots: 2, answer: (request) => current(request) });
  let current = first.answer;
  const batch = await bench.create(12);
  const [worker] = bench.startWorkers();
  await until("two lines hang", () => first.seen.length === 7);
  await worker?.stop();
  expect(await bench.status(batch)).toBe("in_progress");
  expect(await bench.batchQueue.listLeases()).toEqual([]);

  const second: number[] = [];
  current = async ({ body }) => {
    second.push(numberOf(body));
    return answered(body);
  };
  bench.startWorkers();
  await until("it has ended", ended(batch));
  expect(second.sort((a, b) => a - b)).toEqual([6, 7, 8, 9, 10, 11, 12]);
  const { outputFileId } = await bench.read(batch);
  expect(await bench.output(outputFileId)).toHaveLength(12);
});

test("kill -9, twice: no finished line runs again, and none is lost", async () => {
  bench = await openBatchBench({
    answer: async ({ body }) => {
      appendFileSync(join(bench.home, "ran.txt"), `${numberOf(body)}\n`);
      return answered(body);
    },
  });
  const batch = await bench.create(60);
  const ran = (): string[] => {
    const path = join(bench.home, "ran.txt");
    return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : [];
  };
  const journal = join(bench.home, "batches", batch.id, "results.jsonl");
  const marksOf = (line: string): number => ran().filter((one) => one === line).length;
  /** How often each line had run when it was found finished. */
  const finished = new Map<string, number>();
  for (const atLeast of [10, 30]) {
    const server = fork(fileURLToPath(new URL("batch-process.ts", import.meta.url)), [bench.home], {
      execArgv: [...NODE_OPTIONS],
      stdio: "inherit",
    });
    onTestFinished(() => void server.kill("SIGKILL"));
    await until("some lines ran", () => ran().length >= atLeast);
    server.kill("SIGKILL");
    await once(server, "exit");
    for (const record of readFileSync(journal, "utf8").split("\n").slice(0, -1)) {
      const line = String((JSON.parse(record) as { line: number }).line);
      if (!finished.has(line)) finished.set(line, marksOf(line));
    }
    // What a kill in the middle of a write leaves.
    await appendFile(journal, '{"line":59,"output":{"id":"batch_req_');
  }
  expect(finished.size).toBeGreaterThan(10);

  bench.startWorkers();
  await until("it has ended", ended(batch));
  const read = await bench.read(batch);
  expect(read.requestCounts).toEqual({ total: 60, completed: 60, failed: 0 });
  expect(read.usage.total_tokens).toBe(180);
  const ids = (await bench.output(read.outputFileId)).map((line) => Number(line.custom_id));
  expect(ids.sort((a, b) => a - b)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
  expect([...finished.keys()].map((line) => [line, marksOf(line)])).toEqual([...finished]);
});

describe("cancelling", () => {
  test("keeps what is done; the rest is batch_cancelled", async () => {
    const { answer, seen } = stalling(3);
    bench = await openBatchBench({ slots: 2, answer });
    const batch = await bench.create(9);
    const [worker] = bench.startWorkers();
    await until("two lines hang", () => seen.length === 5);
    expect(await bench.batches.cancel(DEFAULT_PROJECT, batch.id)).toMatchObject({
      status: "cancelling",
      cancellingAt: expect.any(Number) as number,
      cancelledAt: null,
    });
    worker?.wake();
    await until("it has ended", ended(batch));
    const read = await bench.read(batch);
    expect(read).toMatchObject({
      status: "cancelled",
      cancelledAt: expect.any(Number) as number,
      completedAt: null,
      requestCounts: { total: 9, completed: 3, failed: 0 },
    });
    expect((await bench.output(read.outputFileId)).map((line) => line.custom_id)).toEqual(["1", "2", "3"]);
    const rest = await bench.output(read.errorFileId);
    expect(rest.map((line) => line.custom_id)).toEqual(["4", "5", "6", "7", "8", "9"]);
    expect(rest[0]).toMatchObject({
      response: null,
      error: {
        code: "batch_cancelled",
        message: "This request was not executed because the batch was cancelled.",
      },
    });
    expect(seen).toHaveLength(5);
  });

  test("a batch that nobody has begun ends at once, without files", async () => {
    bench = await openBatchBench({ answer: async ({ body }) => answered(body) });
    const batch = await bench.create(2);
    const cancelled = await bench.batches.cancel(DEFAULT_PROJECT, batch.id);
    expect(cancelled).toMatchObject({ status: "cancelled", outputFileId: null, errorFileId: null });
    // Once more changes nothing.
    expect(await bench.batches.cancel(DEFAULT_PROJECT, batch.id)).toEqual(cancelled);
  });

  test("a batch that has ended stays as it is", async () => {
    bench = await openBatchBench({ answer: async ({ body }) => answered(body) });
    const batch = await bench.create(1);
    bench.startWorkers();
    await until("it has ended", ended(batch));
    const refused = bench.batches.cancel(DEFAULT_PROJECT, batch.id);
    await expect(refused).rejects.toThrow(new Conflict("Cannot cancel a batch with status 'completed'."));
  });
});

test("when the window is over, what is done is kept and the rest is batch_expired", async () => {
  const { answer, seen } = stalling(4);
  let hours = 0;
  const startedAtMs = Date.now();
  bench = await openBatchBench({ slots: 2, answer, now: () => startedAtMs + hours * 3_600_000 });
  const batch = await bench.create(8);
  const [worker] = bench.startWorkers();
  await until("two lines hang", () => seen.length === 6);
  await worker?.stop();
  hours = 25;
  bench.startWorkers();
  await until("it has ended", ended(batch));
  const read = await bench.read(batch);
  expect(read).toMatchObject({
    status: "expired",
    expiredAt: expect.any(Number) as number,
    requestCounts: { total: 8, completed: 4, failed: 0 },
  });
  expect(await bench.output(read.outputFileId)).toHaveLength(4);
  const rest = await bench.output(read.errorFileId);
  expect(rest.map((line) => line.error?.code)).toEqual(Array.from({ length: 4 }, () => "batch_expired"));
});

test("a batch whose input file was deleted before it was read fails and says so", async () => {
  bench = await openBatchBench({ answer: async ({ body }) => answered(body) });
  const batch = await bench.create(2);
  await bench.files.delete(DEFAULT_PROJECT, batch.inputFileId);
  bench.startWorkers();
  await until("it has ended", ended(batch));
  expect(await bench.read(batch)).toMatchObject({
    status: "failed",
    errors: [
      {
        code: "deleted_input_file",
        message: `The input file ${batch.inputFileId} was deleted before the batch could read it. Upload it again and create a new batch.`,
        param: "input_file_id",
        line: null,
      },
    ],
  });
});

test("a batch that takes the server down again and again is given up", async () => {
  bench = await openBatchBench({ answer: async ({ body }) => answered(body) });
  const batch = await bench.create(2);
  await bench.database.updateTable("batches").set({ attempts: 20 }).execute();
  bench.startWorkers();
  await until("it has ended", ended(batch));
  expect((await bench.read(batch)).errors).toMatchObject([
    {
      code: "server_error",
      message:
        "The server went down 20 times while working on this batch, so it was given up. Look for the cause in the server's log (often too little memory), then create the batch again.",
    },
  ]);
});

test("a full disk only delays a batch", async () => {
  let isFull = false;
  bench = await openBatchBench({
    answer: async ({ body }) => {
      isFull = true;
      return answered(body);
    },
    openWriter: async (path) => {
      if (isFull) throw Object.assign(new Error("no space"), { code: "ENOSPC" });
      const { open } = await import("node:fs/promises");
      const handle = await open(path, "wx");
      return {
        write: (chunk) => handle.writeFile(chunk),
        sync: () => handle.sync(),
        close: () => handle.close(),
      };
    },
  });
  const batch = await bench.create(3);
  bench.startWorkers();
  await until("it waits for space", () =>
    bench.logger.lines.some((line) => line.startsWith("A batch waits for space on the disk.")),
  );
  expect(await bench.status(batch)).toBe("finalizing");
  isFull = false;
  await until("it has ended", ended(batch));
  expect((await bench.read(batch)).requestCounts).toEqual({ total: 3, completed: 3, failed: 0 });
  expect(await bench.read(batch)).toMatchObject({ status: "completed", attempts: 1 });
});

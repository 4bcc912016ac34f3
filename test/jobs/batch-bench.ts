// A home folder with a real database and workers of batches, whose lines are answered by a function of the test.
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createBatchRun } from "../../src/jobs/batch.ts";
import type { Dispatch } from "../../src/jobs/dispatch.ts";
import { createSlots } from "../../src/jobs/slots.ts";
import { createWorker } from "../../src/jobs/worker.ts";
import type { Worker } from "../../src/jobs/worker.ts";
import { BatchQueue } from "../../src/store/batch-queue.ts";
import { BatchStore } from "../../src/store/batches.ts";
import type { Batch } from "../../src/store/batches.ts";
import { BlobStore } from "../../src/store/blobs.ts";
import type { BlobWriter } from "../../src/store/blobs.ts";
import { openDatabase } from "../../src/store/database.ts";
import { FileStore } from "../../src/store/files.ts";
import type { BatchOutputLine } from "../../src/wire/batches.ts";
import { DEFAULT_PROJECT, newId } from "../../src/wire/ids.ts";
import { FAST_CLOCK, recordingLogger } from "./workbench.ts";

export const ENDPOINT = "/v1/chat/completions";

/** The words of a line: its body's `n`. */
export const numberOf = (body: object | undefined): number => (body as { n: number }).n;

/** An answer that took one token in and two out. */
export function answered(body: unknown, statusCode = 200): Awaited<ReturnType<Dispatch>> {
  const usage = { prompt_tokens: 1, completion_tokens: 2 };
  return { statusCode, requestId: "req_1", body: { echo: body, usage } };
}

export type BatchBench = Awaited<ReturnType<typeof openBatchBench>>;

export async function openBatchBench(options: {
  home?: string;
  answer: Dispatch;
  slots?: number;
  now?: () => number;
  openWriter?: (path: string) => Promise<BlobWriter>;
}) {
  const home = options.home ?? mkdtempSync(join(tmpdir(), "tunesmith-batches-"));
  const now = options.now ?? (() => FAST_CLOCK.now());
  const clock = { ...FAST_CLOCK, now };
  const database = await openDatabase(join(home, "tunesmith.sqlite"));
  const files = new FileStore(database, now);
  const blobs = new BlobStore({
    directory: join(home, "files"),
    ...(options.openWriter === undefined ? {} : { openWriter: options.openWriter }),
  });
  const batches = new BatchStore(database, now);
  const batchQueue = new BatchQueue(database, now);
  const logger = recordingLogger();
  const run = createBatchRun({
    batchQueue,
    files,
    blobs,
    homeDirectory: home,
    dispatch: (request) =>
      request.method === "GET"
        ? Promise.resolve({ statusCode: 200, requestId: "", body: {} })
        : options.answer(request),
    slots: createSlots(options.slots ?? 4),
    maxLineBytes: 1e6,
    logger,
    clock,
  });
  const workers: Worker[] = [];
  return {
    home,
    database,
    files,
    blobs,
    batches,
    batchQueue,
    logger,
    startWorkers(count = 1): Worker[] {
      const started = Array.from({ length: count }, () =>
        createWorker({ queue: batchQueue, run, logger, clock }),
      );
      for (const worker of started) worker.start();
      workers.push(...started);
      return started;
    },
    /** A batch with lines named 1 to `count`. */
    async create(count: number, changes: { inputFileId?: string; keyId?: string } = {}): Promise<Batch> {
      const id = newId("file");
      const text = Array.from({ length: count }, (_, i) => {
        const body = { model: "m", n: i + 1 };
        return `${JSON.stringify({ custom_id: String(i + 1), method: "POST", url: ENDPOINT, body })}\n`;
      }).join("");
      const written = await blobs.write(id, chunksOf(text), { maxBytes: 1e8 });
      await files.create({
        id,
        projectId: DEFAULT_PROJECT,
        filename: "in.jsonl",
        purpose: "batch",
        expiresAt: null,
        ...written,
      });
      return batches.create({
        projectId: DEFAULT_PROJECT,
        endpoint: ENDPOINT,
        inputFileId: id,
        keyId: null,
        outputTtlSeconds: 3600,
        metadata: null,
        ...changes,
      });
    },
    async read(batch: Batch): Promise<Batch> {
      const found = await batches.get(DEFAULT_PROJECT, batch.id);
      if (found === null) throw new Error(`no batch ${batch.id}`);
      return found;
    },
    async status(batch: Batch): Promise<Batch["status"]> {
      return (await this.read(batch)).status;
    },
    async output(fileId: string | null): Promise<BatchOutputLine[]> {
      if (fileId === null) return [];
      const chunks = await (await blobs.read(fileId)).toArray();
      return Buffer.concat(chunks as Buffer[])
        .toString()
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as BatchOutputLine);
    },
    async close(): Promise<void> {
      await Promise.all(workers.map((worker) => worker.stop()));
      await database.destroy();
      await rm(home, { recursive: true, force: true });
    },
  };
}

async function* chunksOf(content: string): AsyncIterable<Uint8Array> {
  yield Buffer.from(content);
}

// What the job tests share: a home folder with a real database, real stores, a worker and the fake trainer.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { sweepEndedJobs } from "../../src/jobs/clean-up.ts";
import { createFineTune, type FineTuneDependencies } from "../../src/jobs/fine-tune.ts";
import type { TrainerProgram } from "../../src/jobs/trainer-process.ts";
import { createWorker, SYSTEM_CLOCK, type Clock, type Logger } from "../../src/jobs/worker.ts";
import { BlobStore, type BlobStoreOptions } from "../../src/store/blobs.ts";
import { NO_FLUSH, openDatabase } from "../../src/store/database.ts";
import { FileStore } from "../../src/store/files.ts";
import { FineTuningQueue } from "../../src/store/fine-tuning-queue.ts";
import type { Job, NewJob } from "../../src/store/fine-tuning-rows.ts";
import { FineTuningStore } from "../../src/store/fine-tuning.ts";
import { ModelStore } from "../../src/store/models.ts";
import { DEFAULT_PROJECT, newId } from "../../src/wire/ids.ts";
import type { Instructions } from "./fake-trainer.ts";

const TSX = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;
export const NODE_OPTIONS: readonly string[] = ["--import", TSX];

export const FAKE_TRAINER: TrainerProgram = {
  entry: fileURLToPath(new URL("fake-trainer.ts", import.meta.url)),
  nodeOptions: NODE_OPTIONS,
};

/** Everything the code waits for passes this many times faster. */
const SPEED = 20;

const STARTED_AT_MS = Date.now();

export const FAST_CLOCK: Clock = {
  now: () => STARTED_AT_MS + (Date.now() - STARTED_AT_MS) * SPEED,
  delay: (milliseconds, signal) => SYSTEM_CLOCK.delay(milliseconds / SPEED, signal),
};

/** Log lines, for tests that read them. */
export function recordingLogger(): Logger & { lines: string[] } {
  const lines: string[] = [];
  const record = (details: object, message: string): void => {
    lines.push(`${message} ${JSON.stringify(details)}`);
  };
  return { lines, info: record, warn: record, error: record };
}

export const ONE_EXAMPLE =
  '{"messages":[{"role":"user","content":"One taco"},{"role":"assistant","content":"Coming"}]}\n';
/** All different, so that a job has nothing to warn of. */
export const TEN_EXAMPLES = Array.from({ length: 10 }, (_, i) =>
  ONE_EXAMPLE.replace("taco", `taco with sauce ${i}`),
).join("");

export type Workbench = Awaited<ReturnType<typeof openWorkbench>>;

export async function openWorkbench(
  options: {
    home?: string;
    clock?: Clock;
    dependencies?: Partial<FineTuneDependencies>;
    openBlobWriter?: BlobStoreOptions["openWriter"];
  } = {},
) {
  const home = options.home ?? mkdtempSync(join(tmpdir(), "tunesmith-jobs-"));
  const clock = options.clock ?? FAST_CLOCK;
  const now = (): number => clock.now();
  // Where time moves only when told to, nothing may wait for the disk.
  const flush = options.clock === undefined ? undefined : NO_FLUSH;
  const database = await openDatabase(join(home, "tunesmith.sqlite"), flush);
  const files = new FileStore(database, now);
  const blobs = new BlobStore({
    directory: join(home, "files"),
    ...(options.openBlobWriter === undefined ? {} : { openWriter: options.openBlobWriter }),
  });
  const jobs = new FineTuningStore(database, now);
  const queue = new FineTuningQueue(database, now);
  const models = new ModelStore(database, home, now);
  const logger = recordingLogger();
  const dependencies: FineTuneDependencies = {
    queue,
    files,
    blobs,
    models,
    homeDirectory: home,
    organization: "acme",
    threads: 2,
    resolveBaseModel: async (id) => ({ path: `/models/${id}`, sha256: "ab".repeat(32) }),
    logger,
    trainer: FAKE_TRAINER,
    clock,
    ...options.dependencies,
  };
  const run = createFineTune(dependencies);
  const sweep = (signal: AbortSignal) => sweepEndedJobs({ ...dependencies, clock }, signal);
  const newWorker = () => createWorker({ queue, run, sweep, logger, clock });
  const workers: ReturnType<typeof newWorker>[] = [];

  return {
    home,
    database,
    files,
    blobs,
    jobs,
    queue,
    models,
    logger,
    run,
    sweep,
    /** A worker that is stopped when the workbench closes. */
    worker() {
      const worker = newWorker();
      workers.push(worker);
      return worker;
    },
    directoryOf: (job: Pick<Job, "id">) => join(home, "jobs", job.id),
    async upload(content: string): Promise<string> {
      const id = newId("file");
      const written = await blobs.write(id, chunksOf(content), { maxBytes: 1e6 });
      await files.create({
        id,
        projectId: DEFAULT_PROJECT,
        filename: "data.jsonl",
        purpose: "fine-tune",
        expiresAt: null,
        ...written,
      });
      return id;
    },
    async create(
      given: { content?: string; instructions?: Instructions } & Partial<NewJob> = {},
    ): Promise<Job> {
      const { content = TEN_EXAMPLES, instructions = {}, ...rest } = given;
      const job = await jobs.create(
        {
          projectId: DEFAULT_PROJECT,
          model: "gpt-4o-mini-2024-07-18",
          baseModel: "smollm2-135m-instruct",
          trainingFileId: rest.trainingFileId ?? (await this.upload(content)),
          validationFileId: null,
          suffix: "tacos",
          seed: 7,
          method: "supervised",
          hyperparameters: { n_epochs: "auto", batch_size: "auto", learning_rate_multiplier: "auto" },
          metadata: null,
          ...rest,
        },
        (created) => [{ key: "created", message: `Created fine-tuning job: ${created.id}` }],
      );
      mkdirSync(this.directoryOf(job), { recursive: true });
      writeFileSync(join(this.directoryOf(job), "fake.json"), JSON.stringify(instructions));
      return job;
    },
    async status(job: Job): Promise<Job["status"]> {
      return (await this.read(job)).status;
    },
    async read(job: Job): Promise<Job> {
      const found = await jobs.get(DEFAULT_PROJECT, job.id);
      if (found === null) throw new Error(`no job ${job.id}`);
      return found;
    },
    /** Oldest first. */
    async events(job: Job) {
      return (await jobs.listEvents(job.id, { limit: 1000 })).data.toReversed();
    },
    async messages(job: Job): Promise<string[]> {
      return (await this.events(job)).map((event) => event.message);
    },
    /** How many trainers have been started on the job. */
    lives(job: Job): number[] {
      const path = join(this.directoryOf(job), "lives.txt");
      return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n").map(Number) : [];
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

/** Waits until the condition holds; fails with its name after a while. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}.`);
    await SYSTEM_CLOCK.delay(20);
  }
}

/** Whether a process lives. One that has ended and that nobody has waited for (a zombie) does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  const status = `/proc/${pid}/status`;
  return !existsSync(status) || !/^State:\s+Z/m.test(readFileSync(status, "utf8"));
}

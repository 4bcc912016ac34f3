// kill -9 of the trainer and of the server while a job runs: the job goes on and ends in the bytes of one that nobody
// disturbed. Real processes, started as users start them.
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createRandom } from "../../src/random.ts";
import { jobPaths } from "../../src/training/job-directory.ts";
import { isAlive } from "../jobs/workbench.ts";
import {
  atCleanUp,
  cleanUp,
  eventsOf,
  JOB_TIMEOUT_MS,
  lossesOf,
  OPENAI_MODEL,
  succeeded,
  ticketRows,
  TINY,
  tinyHome,
  until,
  upload,
} from "./harness.ts";
import { spawnServer } from "./server-process.ts";
import type { ServerProcess } from "./server-process.ts";
import { eventsSoFar } from "./trainer-run.ts";

const ROWS = ticketRows(12);
const EPOCHS = 20;
const STEPS = ROWS.length * EPOCHS;

/** An answer that takes longer in the median means that the server stands still while it trains. */
const RESPONSIVE_MS = 2_000;

let home: string;
let server: ServerProcess;
let trainingFile: string;
let expectedAdapter: Buffer;

const directoryOf = (jobId: string): string => join(home, "jobs", jobId);

async function createJob(): Promise<string> {
  const job = await server.client.fineTuning.jobs.create({
    model: OPENAI_MODEL,
    training_file: trainingFile,
    seed: 3,
    method: {
      type: "supervised",
      supervised: { hyperparameters: { n_epochs: EPOCHS, batch_size: 1, learning_rate_multiplier: 20 } },
    },
  });
  return job.id;
}

const adapterBytes = (jobId: string): Promise<Buffer> =>
  readFile(join(jobPaths(directoryOf(jobId)).adapter, "adapter_model.safetensors"));

/** Waits until the job is somewhere in the middle; gives back its trainer's process id. */
async function somewhereInTheMiddle(jobId: string, seed: number): Promise<number> {
  const random = createRandom(seed);
  const steps = Math.floor(STEPS * (0.1 + 0.4 * random.next()));
  await until(`${steps} steps are done`, async () => {
    const events = await eventsSoFar(directoryOf(jobId));
    return events.filter(({ type }) => type === "metrics").length >= steps;
  });
  await delay(random.next() * 50);
  const pid = Number(readFileSync(jobPaths(directoryOf(jobId)).lock, "utf8"));
  expect(isAlive(pid)).toBe(true);
  // No test may leave a trainer behind.
  atCleanUp(async () => isAlive(pid) && process.kill(pid, "SIGKILL"));
  return pid;
}

/** Every step reported once, in order, however often it was computed. */
async function expectAllSteps(jobId: string): Promise<void> {
  const events = await eventsOf(server.client, jobId);
  const steps = events
    .filter(({ type }) => type === "metrics")
    .map(({ data }) => (data as { step: number }).step);
  expect(steps).toEqual(Array.from({ length: STEPS }, (_, i) => i + 1));
}

beforeAll(async () => {
  home = await tinyHome();
  server = await spawnServer(home);
  trainingFile = await upload(server.client, ROWS);
}, JOB_TIMEOUT_MS);

afterAll(cleanUp);

test(
  "while a job trains, the server answers chats and signs of life",
  async () => {
    const jobId = await createJob();
    await until("the first steps are done", async () => {
      return (await eventsSoFar(directoryOf(jobId))).some(({ type }) => type === "metrics");
    });
    const times: number[] = [];
    const timed = async (action: () => Promise<unknown>): Promise<void> => {
      const start = performance.now();
      await action();
      times.push(performance.now() - start);
    };
    const { chat } = server.client;
    const ask = () =>
      chat.completions.create({
        model: TINY,
        messages: [{ role: "user", content: "Hello" }],
        max_completion_tokens: 8,
      });
    // Loads the model, which is not what is measured.
    await ask();
    for (let i = 0; i < 5; i++) {
      await timed(async () => expect((await fetch(`${server.url}/healthz`)).status).toBe(200));
      await timed(async () => expect((await ask()).usage?.completion_tokens).toBeGreaterThan(0));
      if (i === 0) expect((await server.client.fineTuning.jobs.retrieve(jobId)).status).toBe("running");
    }
    const median = times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
    expect(median).toBeLessThan(RESPONSIVE_MS);

    await succeeded(server.client, jobId);
    await expectAllSteps(jobId);
    expectedAdapter = await adapterBytes(jobId);
  },
  JOB_TIMEOUT_MS,
);

test(
  "kill -9 of the trainer: the server starts another, which ends in the same bytes",
  async () => {
    const jobId = await createJob();
    const pid = await somewhereInTheMiddle(jobId, 1);
    process.kill(pid, "SIGKILL");
    const job = await succeeded(server.client, jobId);
    const messages = (await eventsOf(server.client, jobId)).map(({ message }) => message);
    expect(messages).toContain(
      "The trainer ended unexpectedly (signal SIGKILL); starting it again from its last checkpoint",
    );
    expect(
      messages.filter((message) => message.startsWith("Training resumed from the checkpoint")),
    ).toHaveLength(1);
    await expectAllSteps(jobId);
    expect((await adapterBytes(jobId)).equals(expectedAdapter)).toBe(true);
    expect(
      (await server.client.fineTuning.jobs.checkpoints.list(jobId)).data[0]?.fine_tuned_model_checkpoint,
    ).toBe(job.fine_tuned_model);
  },
  JOB_TIMEOUT_MS,
);

test(
  "paused and resumed through the official client: the next job trains meanwhile, and the bytes are the same",
  async () => {
    const jobs = server.client.fineTuning.jobs;
    const jobId = await createJob();
    const pid = await somewhereInTheMiddle(jobId, 4);
    expect((await jobs.pause(jobId)).status).toBe("paused");
    const other = await jobs.create({
      model: OPENAI_MODEL,
      training_file: trainingFile,
      method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 1, batch_size: 12 } } },
    });
    await succeeded(server.client, other.id);
    expect(isAlive(pid)).toBe(false);
    expect((await jobs.retrieve(jobId)).status).toBe("paused");
    expect((await jobs.resume(jobId)).status).toBe("queued");
    await succeeded(server.client, jobId);
    await expectAllSteps(jobId);
    expect((await adapterBytes(jobId)).equals(expectedAdapter)).toBe(true);
  },
  JOB_TIMEOUT_MS,
);

test(
  "a job on a fine-tuned model, or on its checkpoint, starts where that one ended",
  async () => {
    const jobs = server.client.fineTuning.jobs;
    const first = await createJob();
    const source = (await succeeded(server.client, first)).fine_tuned_model ?? "";
    const checkpoints = (await jobs.checkpoints.list(first)).data;
    expect(checkpoints.map((each) => each.step_number)).toEqual([STEPS, STEPS - 12, STEPS - 24]);
    const lossesOfFirst = await lossesOf(server.client, first);
    for (const name of [source, checkpoints[2]?.fine_tuned_model_checkpoint ?? ""]) {
      // One epoch in one step: its loss is that of the weights it starts from.
      const job = await jobs.create({
        model: name,
        training_file: trainingFile,
        method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 1, batch_size: 12 } } },
      });
      const { fine_tuned_model } = await succeeded(server.client, job.id);
      const [loss = NaN] = await lossesOf(server.client, job.id);
      expect(loss).toBeLessThan((lossesOfFirst[0] ?? NaN) / 2);
      expect(fine_tuned_model).toMatch(/^ft:gpt-4o-mini-2024-07-18:personal::[A-Za-z0-9]{8}$/);
      const { choices } = await server.client.chat.completions.create({
        model: name,
        messages: [{ role: "user", content: "Hello" }],
        max_completion_tokens: 4,
      });
      expect(choices).toHaveLength(1);
    }
  },
  JOB_TIMEOUT_MS,
);

test.each([
  { name: "the server; its trainer ends by itself", killsTrainer: false },
  { name: "the server and the trainer at once", killsTrainer: true },
])(
  "kill -9 of $name: the next start goes on to the same bytes",
  async ({ killsTrainer }) => {
    const jobId = await createJob();
    const pid = await somewhereInTheMiddle(jobId, killsTrainer ? 2 : 3);
    if (killsTrainer) process.kill(pid, "SIGKILL");
    await server.kill();
    await until("the trainer is gone", () => !isAlive(pid));
    const left = await eventsSoFar(directoryOf(jobId));
    expect(left.some(({ type }) => type === "succeeded" || type === "failed")).toBe(false);

    server = await spawnServer(home);
    const job = await succeeded(server.client, jobId);
    await expectAllSteps(jobId);
    expect((await adapterBytes(jobId)).equals(expectedAdapter)).toBe(true);
    const { choices } = await server.client.chat.completions.create({
      model: job.fine_tuned_model ?? "",
      messages: [{ role: "user", content: "Hello" }],
      max_completion_tokens: 4,
    });
    expect(choices).toHaveLength(1);
  },
  JOB_TIMEOUT_MS,
);

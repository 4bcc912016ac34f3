// kill -9 of a trainer at any moment: a new one on the same directory ends in the same bytes. No server here; kill.test.ts
// has both.
import { mkdir, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { temporarySibling } from "../../src/model/atomic-write.ts";
import { createRandom } from "../../src/random.ts";
import { jobPaths, TRAINER_EXIT } from "../../src/training/job-directory.ts";
import type { TrainerEvent } from "../../src/training/job-directory.ts";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { cleanUp, JOB_TIMEOUT_MS, temporaryFolder, ticketRows, until } from "./harness.ts";
import { eventsSoFar, finalBytes, makeJobDirectory, startTrainer } from "./trainer-run.ts";

const ROWS = 12;
const EPOCHS = 6;
const KILLS = 6;

let folder: string;
let expected: Awaited<ReturnType<typeof finalBytes>>;

const newJob = async (name: string): Promise<string> => {
  const directory = join(folder, name);
  await makeJobDirectory(directory, {
    modelPath: join(folder, "tiny"),
    rows: ticketRows(ROWS),
    validationRows: ticketRows(ROWS + 5).slice(ROWS),
    epochs: EPOCHS,
  });
  return directory;
};

beforeAll(async () => {
  folder = await temporaryFolder();
  await makeTinyModel(join(folder, "tiny"));
  const directory = await newJob("uninterrupted");
  expect((await startTrainer(directory).ended).code).toBe(TRAINER_EXIT.succeeded);
  expected = await finalBytes(directory);
}, JOB_TIMEOUT_MS);

afterAll(cleanUp);

const stepsOf = (events: readonly TrainerEvent[]): number =>
  events.filter(({ type }) => type === "metrics").length;

const hiddenFiles = async (directory: string): Promise<string[]> =>
  (await readdir(directory)).filter((name) => name.startsWith("."));

test(
  "killed again and again at random moments, a job still ends in the same bytes",
  async () => {
    const directory = await newJob("killed");
    const random = createRandom(20);
    for (let kill = 0; kill < KILLS; kill++) {
      // A checkpoint after every step: many kills then strike while one is being written.
      const trainer = startTrainer(directory, { checkpointIntervalMs: 0 });
      const before = stepsOf(await eventsSoFar(directory));
      const steps = 1 + Math.floor(random.next() * 9);
      let over = false;
      void trainer.ended.then(() => (over = true));
      await until(`${steps} steps are done`, async () => {
        return over || stepsOf(await eventsSoFar(directory)) >= before + steps;
      });
      await delay(random.next() * 50);
      trainer.kill();
      expect(await trainer.ended).toMatchObject({ code: null, signal: "SIGKILL", stderr: "" });
    }
    expect((await startTrainer(directory).ended).code).toBe(TRAINER_EXIT.succeeded);
    const events = await eventsSoFar(directory);
    expect(events.filter(({ type }) => type === "resumed").length).toBeGreaterThanOrEqual(KILLS - 1);
    expect(await finalBytes(directory)).toEqual(expected);
    // What half-written checkpoints there were is gone; the last three epochs stay.
    const checkpoints = [4, 5, 6].map((epoch) => `step-${epoch * ROWS}`);
    expect((await readdir(jobPaths(directory).checkpoints)).sort()).toEqual(checkpoints);
    expect(await hiddenFiles(directory)).toEqual([]);
  },
  JOB_TIMEOUT_MS,
);

test(
  "killed between a checkpoint and the event that reports it, a job still reports every epoch's checkpoint",
  async () => {
    const directory = await newJob("unreported");
    const paths = jobPaths(directory);
    expect((await startTrainer(directory).ended).code).toBe(TRAINER_EXIT.succeeded);
    const complete = await eventsSoFar(directory);
    // The directory as a kill right after the last checkpoint was renamed into place leaves it.
    const log = await readFile(paths.events, "utf8");
    await truncate(paths.events, Buffer.byteLength(log.slice(0, log.lastIndexOf('{"type":"checkpoint"'))));
    await rm(paths.adapter, { recursive: true });
    await rm(paths.result);
    // And what one killed while it wrote the adapter leaves.
    const half = temporarySibling(paths.adapter);
    await mkdir(half);
    await writeFile(join(half, "adapter_model.safetensors"), "half");

    expect((await startTrainer(directory).ended).code).toBe(TRAINER_EXIT.succeeded);
    const ofEpochs = (events: readonly TrainerEvent[]) =>
      events
        .filter((event) => event.type === "checkpoint" && event.epochEnd)
        .map((event) => ({ ...event, at: 0 }));
    expect(ofEpochs(await eventsSoFar(directory))).toEqual(ofEpochs(complete));
    expect(await finalBytes(directory)).toEqual(expected);
    expect(await hiddenFiles(directory)).toEqual([]);
  },
  JOB_TIMEOUT_MS,
);

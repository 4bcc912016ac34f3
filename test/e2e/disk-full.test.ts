// No room for what the trainer writes: a clear error, nothing half-written under a final name, and a directory from which a
// trainer with room goes on to the same bytes. A limit on the size of files plays the full disk: it needs no rights.
import { readFile, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { jobPaths, TRAINER_EXIT } from "../../src/training/job-directory.ts";
import type { TrainerEvent } from "../../src/training/job-directory.ts";
import { cleanUp, JOB_TIMEOUT_MS, temporaryFolder, ticketRows } from "./harness.ts";
import { eventsSoFar, finalBytes, makeJobDirectory, startTrainer } from "./trainer-run.ts";

let folder: string;
let expected: Awaited<ReturnType<typeof finalBytes>>;

async function newJob(name: string): Promise<string> {
  const directory = join(folder, name);
  await makeJobDirectory(directory, { modelPath: join(folder, "tiny"), rows: ticketRows(12), epochs: 2 });
  return directory;
}

/** Sizes on this job: the log of events 6 KB, the adapter 40 KB, the optimizer's state 80 KB. */
const runWithFilesUpTo = (directory: string, kilobytes: number) =>
  startTrainer(directory, { shell: `ulimit -f ${kilobytes}` }).ended;

async function expectToGoOn(directory: string): Promise<void> {
  expect((await startTrainer(directory).ended).code).toBe(TRAINER_EXIT.succeeded);
  expect(await finalBytes(directory)).toEqual(expected);
}

const failure = (path: string): Partial<TrainerEvent> => ({
  type: "no_room",
  message: `A limit on the size of files was reached: ${path} could not be written (EFBIG: file too large, write). Raise the limit and try again; nothing half-written was left there.`,
});

beforeAll(async () => {
  folder = await temporaryFolder();
  await makeTinyModel(join(folder, "tiny"));
  const directory = await newJob("room-enough");
  expect((await startTrainer(directory).ended).code).toBe(TRAINER_EXIT.succeeded);
  expected = await finalBytes(directory);
}, JOB_TIMEOUT_MS);

afterAll(cleanUp);

test(
  "no room for a checkpoint",
  async () => {
    const directory = await newJob("checkpoint");
    const { checkpoints } = jobPaths(directory);
    expect((await runWithFilesUpTo(directory, 60)).code).toBe(TRAINER_EXIT.outOfSpace);
    expect((await eventsSoFar(directory)).at(-1)).toMatchObject(failure(join(checkpoints, "step-12")));
    expect(await readdir(checkpoints)).toEqual([]);
    await expectToGoOn(directory);
  },
  JOB_TIMEOUT_MS,
);

test(
  "no room for the adapter",
  async () => {
    const directory = await newJob("adapter");
    const { adapter, result } = jobPaths(directory);
    await startTrainer(directory).ended;
    await rm(adapter, { recursive: true });
    await rm(result);
    const before = (await readdir(directory)).sort();
    expect((await runWithFilesUpTo(directory, 20)).code).toBe(TRAINER_EXIT.outOfSpace);
    expect((await eventsSoFar(directory)).at(-1)).toMatchObject(failure(adapter));
    expect((await readdir(directory)).sort()).toEqual(before);
    await expectToGoOn(directory);
  },
  JOB_TIMEOUT_MS,
);

test(
  "no room even for an event",
  async () => {
    const directory = await newJob("events");
    const { events } = jobPaths(directory);
    const { code, stderr } = await runWithFilesUpTo(directory, 2);
    expect(code).toBe(TRAINER_EXIT.outOfSpace);
    // Nowhere to report to but here.
    expect(stderr).toContain(`A limit on the size of files was reached: ${events} could not be written`);
    const log = await readFile(events, "utf8");
    expect(log.endsWith("\n")).toBe(true);
    expect((await eventsSoFar(directory)).at(-1)?.type).toBe("metrics");
    await expectToGoOn(directory);
  },
  JOB_TIMEOUT_MS,
);

// kill -9 of a trainer at any moment: a new one on the same directory ends in the same bytes. No server here; kill.test.ts
// has both.
import { mkdir, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { setImmediate as nextTurn, setTimeout as delay } from "node:timers/promises";
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
const KILLS_PER_JOB = 6;
/** `KILLS=200 npx vitest run test/e2e/kill-trainer.test.ts` kills more often, `KILL_SEED` at other moments. */
const KILLS = Number(process.env["KILLS"] ?? 6);
const KILL_SEED = Number(process.env["KILL_SEED"] ?? 20);

let folder: string;
let expected: Awaited<ReturnType<typeof finalBytes>>;
let expectedCheckpoints: string[];

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
  expectedCheckpoints = (await readdir(jobPaths(directory).checkpoints)).sort();
  expect(expectedCheckpoints).toEqual(
    expect.arrayContaining([4, 5, 6].map((epoch) => `step-${epoch * ROWS}`)),
  );
}, JOB_TIMEOUT_MS);

afterAll(cleanUp);

const stepsOf = (events: readonly TrainerEvent[]): number =>
  events.filter(({ type }) => type === "metrics").length;

const hiddenFiles = async (directory: string): Promise<string[]> =>
  (await readdir(directory).catch(() => [])).filter((name) => name.startsWith("."));

/** Where a kill strikes: while the trainer loads, some time after a step, or once half a checkpoint lies in its folder. */
const MOMENTS = ["loading", "after a step", "in a checkpoint"] as const;

/** Starts a trainer on the job and kills it. False: it had finished before. */
async function startAndKill(
  directory: string,
  moment: (typeof MOMENTS)[number],
  random: ReturnType<typeof createRandom>,
): Promise<boolean> {
  // A checkpoint after every step.
  const trainer = startTrainer(directory, { checkpointIntervalMs: 0 });
  let over = false;
  void trainer.ended.then(() => (over = true));
  if (moment === "loading") await delay(random.next() * 1500);
  else {
    const before = stepsOf(await eventsSoFar(directory));
    const steps = 1 + random.below(9);
    await until(`${steps} steps are done`, async () => {
      return over || stepsOf(await eventsSoFar(directory)) >= before + steps;
    });
    if (moment === "after a step") await delay(random.next() * 50);
    else while (!over && (await hiddenFiles(jobPaths(directory).checkpoints)).length === 0) await nextTurn();
  }
  trainer.kill();
  const { code, signal, stderr } = await trainer.ended;
  expect(stderr).toBe("");
  if (code === TRAINER_EXIT.succeeded) return false;
  expect(signal).toBe("SIGKILL");
  return true;
}

test(
  `killed ${KILLS} times at random moments, jobs still end in the same bytes`,
  async () => {
    const found = { kills: 0, jobs: 0, halfCheckpoints: 0 };
    while (found.kills < KILLS) {
      const directory = await newJob(`killed-${found.jobs}`);
      const random = createRandom(KILL_SEED, found.jobs);
      for (let kill = 0; kill < KILLS_PER_JOB && found.kills < KILLS; kill++) {
        const moment = MOMENTS[kill % MOMENTS.length] as (typeof MOMENTS)[number];
        if (!(await startAndKill(directory, moment, random))) break;
        found.kills += 1;
        const half = await hiddenFiles(jobPaths(directory).checkpoints);
        if (half.length > 0) found.halfCheckpoints += 1;
      }
      expect((await startTrainer(directory).ended).code).toBe(TRAINER_EXIT.succeeded);
      expect(await finalBytes(directory)).toEqual(expected);
      // What half-written checkpoints there were is gone; the last three epochs and the best stay.
      const checkpoints = await readdir(jobPaths(directory).checkpoints);
      expect(checkpoints.sort()).toEqual(expectedCheckpoints);
      expect(await hiddenFiles(directory)).toEqual([]);
      found.jobs += 1;
      await rm(directory, { recursive: true });
    }
    // A kill comes a moment after half a checkpoint was seen; of many, some come in time.
    if (KILLS >= 50) expect(found.halfCheckpoints).toBeGreaterThan(0);
    if (process.env["KILLS"] !== undefined) process.stdout.write(`${JSON.stringify(found)}\n`);
  },
  JOB_TIMEOUT_MS * Math.ceil(KILLS / 50),
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

// A machine with too little memory for full speed: the run takes another plan, keeps it over kills whatever memory there is then, and
// is refused with the figures where nothing fits. The tiny model's own share is small, so limits lie close together.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { sharedBeginning } from "../../src/data/beginnings.ts";
import { createChatTemplate } from "../../src/data/chat-template.ts";
import { encodeExample } from "../../src/data/supervised-example.ts";
import { createTokenizer } from "../../src/data/tokenizer.ts";
import { openBaseModel } from "../../src/model/base-model.ts";
import { jobPaths, TRAINER_EXIT } from "../../src/training/job-directory.ts";
import {
  PASS_PLANS,
  trainingBytes,
  type ChosenPlan,
  type PassPlan,
  type RunSize,
} from "../../src/training/memory-plan.ts";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { cleanUp, JOB_TIMEOUT_MS, temporaryFolder, ticketRows, until } from "./harness.ts";
import { eventsSoFar, finalBytes, makeJobDirectory, startTrainer } from "./trainer-run.ts";

let folder: string;
let size: RunSize;

const ROWS = ticketRows(12);
/** As many rows as fill a pass, of 400 tokens or of 128. */
const BATCH_SIZE = 8;

/** Without dropout, whose masks are drawn for each pass: plans cut a step into others. */
async function newJob(name: string): Promise<string> {
  const directory = join(folder, name);
  await makeJobDirectory(directory, {
    modelPath: join(folder, "tiny"),
    rows: ROWS,
    epochs: 6,
    batchSize: BATCH_SIZE,
    dropout: 0,
  });
  return directory;
}

const planOf = async (directory: string) =>
  JSON.parse(await readFile(jobPaths(directory).plan, "utf8")) as ChosenPlan;

beforeAll(async () => {
  folder = await temporaryFolder();
  await makeTinyModel(join(folder, "tiny"));
  const model = await openBaseModel(join(folder, "tiny"));
  await model.close();
  const tokenizer = createTokenizer(model.tokenizer);
  const template = createChatTemplate(model.tokenizer);
  const encoded = ROWS.map(({ messages }) =>
    encodeExample(messages, undefined, { tokenizer, template, maxLength: 256 }),
  );
  const targetModules = ["q_proj", "v_proj", "up_proj", "down_proj"] as const;
  const lora = { rank: 8, alpha: 16, dropout: 0, targetModules };
  const longest = Math.max(...encoded.map(({ tokens }) => tokens.length));
  const sharedTokens = Math.max(
    ...encoded.slice(1).map((row, i) => sharedBeginning([encoded[i] ?? row, row])),
  );
  size = { config: model.config, lora, longest, sharedTokens, batchSize: BATCH_SIZE };
}, JOB_TIMEOUT_MS);

afterAll(cleanUp);

test(
  "it trains in smaller passes, says so, and a kill and more memory later change nothing",
  async () => {
    const plan = PASS_PLANS[2] as PassPlan;
    const memoryBytes = trainingBytes(size, plan);
    const whole = await newJob("small passes");
    expect((await startTrainer(whole, { memoryBytes }).ended).code).toBe(TRAINER_EXIT.succeeded);
    expect(await planOf(whole)).toMatchObject({ ...plan, availableBytes: memoryBytes });
    const events = await eventsSoFar(whole);
    expect(events.filter(({ type }) => type === "planned")).toMatchObject([
      { ...plan, neededBytes: memoryBytes, fullBytes: trainingBytes(size, PASS_PLANS[0]) },
    ]);

    const killed = await newJob("killed");
    const trainer = startTrainer(killed, { memoryBytes, checkpointIntervalMs: 0 });
    await until("some steps are done", async () => {
      return (await eventsSoFar(killed)).filter(({ type }) => type === "metrics").length >= 5;
    });
    trainer.kill();
    await trainer.ended;
    expect((await startTrainer(killed, { memoryBytes: 1e12 }).ended).code).toBe(TRAINER_EXIT.succeeded);
    expect(await planOf(killed)).toEqual(await planOf(whole));
    expect(await finalBytes(killed)).toEqual(await finalBytes(whole));

    // The tiny model's layers are too few to gain by computing them twice; a larger one's directory says so in its plan.
    const layers = await newJob("layer by layer");
    await writeFile(jobPaths(layers).plan, JSON.stringify({ ...(await planOf(whole)), ...PASS_PLANS[3] }));
    expect((await startTrainer(layers).ended).code).toBe(TRAINER_EXIT.succeeded);

    const full = await newJob("full speed");
    expect((await startTrainer(full).ended).code).toBe(TRAINER_EXIT.succeeded);
    expect(await planOf(full)).toMatchObject(PASS_PLANS[0]);
    // The same training in another order of work.
    const [a, b] = [await finalBytes(full), await finalBytes(layers)];
    const losses = (csv: string) =>
      csv
        .trim()
        .split("\n")
        .slice(1)
        .map((line) => Number(line.split(",")[1]));
    expect(losses(b.result)).toHaveLength(12);
    for (const [i, loss] of losses(a.result).entries()) expect(losses(b.result)[i]).toBeCloseTo(loss, 3);
  },
  JOB_TIMEOUT_MS,
);

test(
  "where nothing fits the job fails before it loads a weight, and says what it needs and what there is",
  async () => {
    const directory = await newJob("refused");
    expect((await startTrainer(directory, { memoryBytes: 1e8 }).ended).code).toBe(TRAINER_EXIT.failed);
    expect((await eventsSoFar(directory)).at(-1)).toMatchObject({
      type: "failed",
      error: {
        code: "insufficient_memory",
        message: expect.stringMatching(
          /^Training needs about 0\.3 GB of memory .* 0\.1 GB are available\./,
        ) as string,
      },
    });
  },
  JOB_TIMEOUT_MS,
);

test(
  "jobs that train at the same time share what there is",
  async () => {
    const directory = await newJob("shared");
    expect((await startTrainer(directory, { jobsAtOnce: 10_000 }).ended).code).toBe(TRAINER_EXIT.failed);
    const error = { code: "insufficient_memory" };
    expect((await eventsSoFar(directory)).at(-1)).toMatchObject({ type: "failed", error });
  },
  JOB_TIMEOUT_MS,
);

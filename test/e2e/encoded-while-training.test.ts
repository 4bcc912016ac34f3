// Rows are encoded while a run trains, where its memory is sure to suffice. A trainer by hand shows that the adapter is that of a run
// that encoded all of them first, and that rows that cannot be trained on still end the run with every one named.
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { TRAINER_EXIT } from "../../src/training/job-directory.ts";
import type { TrainerEvent } from "../../src/training/job-directory.ts";
import { cleanUp, JOB_TIMEOUT_MS, temporaryFolder, ticketRows } from "./harness.ts";
import { eventsSoFar, finalBytes, makeJobDirectory, startTrainer } from "./trainer-run.ts";

let folder: string;
beforeAll(async () => {
  folder = await temporaryFolder();
  await makeTinyModel(join(folder, "tiny"));
}, JOB_TIMEOUT_MS);
afterAll(cleanUp);

/** A long answer is cut, a long question leaves nothing of the answer. */
const row = (i: number, answerWords = 3, questionWords = 3) => ({
  messages: [
    { role: "user", content: `Question ${i} ${"why ".repeat(questionWords)}` },
    { role: "assistant", content: `Answer ${i} ${"because ".repeat(answerWords)}` },
  ],
});
const rows = (count: number) => Array.from({ length: count }, (_, i) => row(i));
const CUT = [row(900, 300), row(901, 300)];
const WITHOUT_ANSWER = [row(902, 3, 300), row(903, 3, 300)];

async function train(name: string, data: readonly object[], memoryBytes?: number) {
  const directory = join(folder, name);
  await makeJobDirectory(directory, {
    modelPath: join(folder, "tiny"),
    rows: data,
    validationRows: [...ticketRows(5), ...CUT],
    epochs: 2,
    batchSize: 2,
  });
  const { code } = await startTrainer(directory, memoryBytes === undefined ? {} : { memoryBytes }).ended;
  return { directory, code, events: await eventsSoFar(directory) };
}

const planOf = (events: readonly TrainerEvent[]) => events.find((event) => event.type === "planned");

test(
  "the adapter and all that is told are those of a run that encoded every row first",
  async () => {
    const data = [...rows(40), ...CUT];
    const lazy = await train("lazy", data);
    const most = planOf(lazy.events)?.neededBytes ?? NaN;
    // A byte too little for the most that the rows could need, but not for what they do.
    const eager = await train("eager", data, most - 1);
    expect(planOf(eager.events)?.neededBytes).toBeLessThan(most);
    for (const { code, events } of [lazy, eager]) {
      expect(code).toBe(TRAINER_EXIT.succeeded);
      expect(events.filter(({ type }) => type === "truncated")).toMatchObject([
        { param: "training_file", examples: 2, ofExamples: 42 },
        { param: "validation_file", examples: 2, ofExamples: 7 },
      ]);
    }
    const order = (events: readonly TrainerEvent[]) =>
      events.flatMap(({ type }) => (type === "started" || type === "truncated" ? [type] : []));
    expect(order(eager.events)).toEqual(["truncated", "truncated", "started"]);
    expect(order(lazy.events)).toEqual(["started", "truncated", "truncated"]);
    expect(await finalBytes(eager.directory)).toEqual(await finalBytes(lazy.directory));
    const tokens = [lazy, eager].map(({ events }) => {
      const end = events.at(-1);
      return end?.type === "succeeded" ? end.trainedTokens : NaN;
    });
    expect(tokens[0]).toBe(tokens[1]);
    expect(tokens[0]).toBeGreaterThan(0);
  },
  JOB_TIMEOUT_MS,
);

test(
  "rows that cannot be trained on are all named, before any epoch has ended",
  async () => {
    const { code, events } = await train("bad", [...rows(40), ...WITHOUT_ANSWER]);
    expect(code).toBe(TRAINER_EXIT.failed);
    const end = events.at(-1);
    expect(end).toMatchObject({ type: "failed", error: { code: "invalid_training_file" } });
    expect(end?.type === "failed" ? end.error.message : "").toMatch(
      /2 lines are wrong:\nExample 41 has \d+ tokens.*\nExample 42 has \d+ tokens/,
    );
    expect(events.some(({ type }) => type === "checkpoint")).toBe(false);
  },
  JOB_TIMEOUT_MS,
);

test(
  "where no row can be trained on, no step is taken and nothing is said to have started",
  async () => {
    const { code, events } = await train(
      "none",
      Array.from({ length: 12 }, (_, i) => row(i, 3, 300)),
    );
    expect(code).toBe(TRAINER_EXIT.failed);
    expect(events.map(({ type }) => type)).toEqual(["planned", "failed"]);
  },
  JOB_TIMEOUT_MS,
);

// Is a model tuned here as good as one tuned with TRL and PEFT? The same data, recipe, seed and starting adapter in both: final
// validation loss, and the task's score with its interval. Prints one JSON object on the last line; --write puts the figures into
// docs/quality.json and the table of docs/quality.md, beside those of earlier runs.
// `npm run quality -- --json [--tasks restaurants8k,banking77-10,xquad,banking77,preference] [--sides tunesmith,trl] [--rows 1024]
//   [--validation 100] [--test 300] [--epochs 1] [--batch 8] [--seeds 1] [--write]`
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { makeEnvironment } from "./peers/trl-run.ts";
import { record, SIDES, table } from "./quality/report.ts";
import type { Entry, Side } from "./quality/report.ts";
import { scoreOf } from "./quality/score.ts";
import type { Score } from "./quality/score.ts";
import { trainHere, trainInTrl } from "./quality/sides.ts";
import type { Plan, Trained } from "./quality/sides.ts";
import { proportion } from "./quality/statistics.ts";
import { hasData, loadTask, TASK_NAMES } from "./quality/tasks.ts";
import type { Task, TaskName } from "./quality/tasks.ts";
import { openModel, runAsTrainer } from "./training-bench.ts";

runAsTrainer();

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    tasks: { type: "string", default: "restaurants8k,banking77-10,preference" },
    sides: { type: "string", default: SIDES.join(",") },
    model: { type: "string", default: "smollm2-135m-instruct" },
    rows: { type: "string", default: "1024" },
    validation: { type: "string", default: "100" },
    test: { type: "string", default: "300" },
    epochs: { type: "string", default: "1" },
    batch: { type: "string", default: "8" },
    seeds: { type: "string", default: "1" },
    threads: { type: "string", default: String(availableParallelism()) },
    write: { type: "boolean", default: false },
  },
});
const say = (line: string): void => void (options.json ? process.stderr : process.stdout).write(`${line}\n`);

if (!hasData())
  throw new Error("The data of ../shared/data is not on this machine; there is nothing to measure on.");
const tasks = TASK_NAMES.filter((name) => options.tasks.split(",").includes(name));
let sides: Side[] = SIDES.filter((side) => options.sides.split(",").includes(side));
const missing = sides.includes("trl") ? makeEnvironment() : null;
if (missing !== null) {
  say(`${missing}; only this side is measured`);
  sides = sides.filter((side) => side !== "trl");
}
const threads = Number(options.threads);
const opened = await openModel(options.model);
const entries: Entry[] = [];
for (const seed of options.seeds.split(",").map(Number))
  for (const name of tasks) entries.push(...(await measure(name, seed)));
await opened.model.close();
say(table(entries));
if (options.json) process.stdout.write(`${JSON.stringify({ entries, missing })}\n`);

async function measure(name: TaskName, seed: number): Promise<Entry[]> {
  const task = await loadTask(
    name,
    { training: Number(options.rows), validation: Number(options.validation), test: Number(options.test) },
    seed,
  );
  const plan: Plan = {
    task,
    seed,
    epochs: Number(options.epochs),
    batchSize: Number(options.batch),
    threads,
  };
  const found: Entry[] = [];
  for (const side of sides) {
    const folder = await mkdtemp(join(tmpdir(), "tunesmith-quality-"));
    try {
      const trained = await (side === "trl" ? trainInTrl : trainHere)(plan, opened, folder);
      const entry = entryOf(plan, side, trained, await judged(task, trained));
      say(
        `${name}, seed ${seed}, ${side}: validation loss ${entry.validation_loss.toFixed(4)}, score ${entry.score.count} of ${entry.score.of}`,
      );
      found.push(entry);
      // At once: a run of hours should not lose what it has when it is stopped.
      if (options.write) await record([entry]);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
  return found;
}

/** Chats by their answers, pairs by how many validation pairs are ranked rightly. */
async function judged(task: Task, { adapter, rewardAccuracy }: Trained): Promise<Score> {
  if (task.method === "supervised") return scoreOf(task, opened, adapter, threads);
  const pairs = task.validation.length;
  return { exact: proportion(Math.round((rewardAccuracy ?? 0) * pairs), pairs), f1: null };
}

function entryOf({ task, seed, epochs, batchSize }: Plan, side: Side, trained: Trained, score: Score): Entry {
  return {
    task: task.name,
    side,
    seed,
    training_rows: task.training.length,
    validation_rows: task.validation.length,
    epochs,
    batch_size: batchSize,
    learning_rate: task.learningRate,
    validation_loss: trained.validationLoss,
    score: score.exact,
    f1: score.f1,
    seconds: Math.round(trained.seconds),
    versions: trained.versions,
    cpu: cpus()[0]?.model ?? "unknown",
  };
}

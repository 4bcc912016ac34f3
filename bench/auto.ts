// What "auto" should choose: the product's own choice against the same run with one thing changed (rank, targets, rate, batch size,
// epochs), on several tasks. Prints one JSON object on the last line; --write puts each result into docs/auto.json and the table of
// docs/auto.md as soon as it is there.
// `npm run auto -- --json [--tasks restaurants8k,banking77-10,xquad] [--settings auto,rank-4,…] [--rows 96] [--validation 48]
//   [--test 100] [--seed 1] [--write]`
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { learningRateOf, recipeOf, resolveHyperparameters } from "../src/jobs/hyperparameters.ts";
import { LORA_TARGETS } from "../src/model/lora-targets.ts";
import type { LoraTarget } from "../src/model/lora-targets.ts";
import type { JobPlan } from "./job-run.ts";
import { scoreText } from "./quality/report.ts";
import { scoreOf } from "./quality/score.ts";
import type { Score } from "./quality/score.ts";
import { trainJob } from "./quality/sides.ts";
import { CHAT_TASK_NAMES, hasData, loadChatTask } from "./quality/tasks.ts";
import { recordResults } from "./results-page.ts";
import { openModel, runAsTrainer } from "./training-bench.ts";

runAsTrainer();

type Recipe = Pick<JobPlan, "learningRate" | "epochs" | "batchSize"> & { lora: NonNullable<JobPlan["lora"]> };

/** A change to what "auto" gives. */
interface Setting {
  name: string;
  change: (auto: Recipe) => Partial<Recipe>;
}

/** Alpha stays twice the rank, as jobs keep it. */
const rank = (value: number): Setting => ({
  name: `rank-${value}`,
  change: ({ lora }) => ({ lora: { ...lora, rank: value, alpha: 2 * value } }),
});
const targets = (name: string, targetModules: LoraTarget[]): Setting => ({
  name: `targets-${name}`,
  change: ({ lora }) => ({ lora: { ...lora, targetModules } }),
});
const rate = (factor: number): Setting => ({
  name: `rate-x${factor}`,
  change: ({ learningRate }) => ({ learningRate: learningRate * factor }),
});
const batch = (size: number): Setting => ({ name: `batch-${size}`, change: () => ({ batchSize: size }) });
const epochs = (count: number): Setting => ({ name: `epochs-${count}`, change: () => ({ epochs: count }) });

const SETTINGS: readonly Setting[] = [
  { name: "auto", change: () => ({}) },
  rate(0.3),
  rate(3),
  batch(4),
  batch(16),
  epochs(1),
  epochs(6),
  rank(2),
  rank(32),
  targets("q-v", ["q_proj", "v_proj"]),
  targets(
    "attention",
    LORA_TARGETS.filter((target) => "qkvo".includes(target[0] ?? "")),
  ),
];

interface Entry extends Score {
  task: string;
  setting: string;
  seed: number;
  training_rows: number;
  validation_rows: number;
  rank: number;
  targets: string;
  learning_rate: number;
  batch_size: number;
  epochs: number;
  /** Nats per supervised token over the whole validation set after the last step. */
  validation_loss: number;
  seconds: number;
  cpu: string;
}

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    tasks: { type: "string", default: CHAT_TASK_NAMES.join(",") },
    settings: { type: "string", default: SETTINGS.map(({ name }) => name).join(",") },
    model: { type: "string", default: "smollm2-135m-instruct" },
    rows: { type: "string", default: "96" },
    validation: { type: "string", default: "48" },
    test: { type: "string", default: "100" },
    seed: { type: "string", default: "1" },
    threads: { type: "string", default: String(availableParallelism()) },
    write: { type: "boolean", default: false },
  },
});
const say = (line: string): void => void (options.json ? process.stderr : process.stdout).write(`${line}\n`);

if (!hasData())
  throw new Error("The data of ../shared/data is not on this machine; there is nothing to measure on.");
const [seed, threads] = [Number(options.seed), Number(options.threads)];
const sizes = {
  training: Number(options.rows),
  validation: Number(options.validation),
  test: Number(options.test),
};
const opened = await openModel(options.model);
const entries: Entry[] = [];
for (const setting of SETTINGS.filter(({ name }) => options.settings.split(",").includes(name)))
  for (const name of CHAT_TASK_NAMES.filter((one) => options.tasks.split(",").includes(one)))
    entries.push(await measure(setting, name));
await opened.model.close();
say(table(entries));
if (options.json) process.stdout.write(`${JSON.stringify({ entries })}\n`);

/** What a job with nothing but defaults would train with. */
function automatic(): Recipe & { warmupRatio: number } {
  const recipe = recipeOf(opened.id);
  const chosen = resolveHyperparameters(
    { nEpochs: "auto", batchSize: "auto", learningRateMultiplier: "auto" },
    sizes.training,
  );
  return {
    epochs: chosen.nEpochs,
    batchSize: chosen.batchSize,
    learningRate: learningRateOf(recipe, "supervised", chosen.learningRateMultiplier),
    lora: recipe.lora,
    warmupRatio: recipe.warmupRatio,
  };
}

async function measure(setting: Setting, name: (typeof CHAT_TASK_NAMES)[number]): Promise<Entry> {
  const task = await loadChatTask(name, sizes, seed);
  const auto = automatic();
  const recipe = { ...auto, ...setting.change(auto) };
  const folder = await mkdtemp(join(tmpdir(), "tunesmith-auto-"));
  try {
    const { method, training, validation } = task;
    const trained = await trainJob(
      { method, training, validation, seed, threads, ...recipe },
      opened,
      join(folder, "job"),
    );
    const score = await scoreOf(task, opened, trained.adapter, threads);
    const entry: Entry = {
      task: name,
      setting: setting.name,
      seed,
      training_rows: training.length,
      validation_rows: validation.length,
      rank: recipe.lora.rank,
      targets: recipe.lora.targetModules.join(" "),
      learning_rate: recipe.learningRate,
      batch_size: recipe.batchSize,
      epochs: recipe.epochs,
      validation_loss: trained.validationLoss,
      ...score,
      seconds: Math.round(trained.seconds),
      cpu: cpus()[0]?.model ?? "unknown",
    };
    say(
      `${name}, ${setting.name}: validation loss ${entry.validation_loss.toFixed(4)}, ${scoreOfEntry(entry)}`,
    );
    if (options.write) await recordResults("auto", [entry], { keyOf, table });
    return entry;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function keyOf({ task, setting, seed, training_rows: rows }: Entry): string {
  const place = SETTINGS.findIndex(({ name }) => name === setting);
  return [task, rows, seed, String(place).padStart(2, "0"), setting].join(" ");
}

function scoreOfEntry({ exact, f1 }: Entry): string {
  return scoreText({ score: exact, f1 });
}

function table(all: readonly Entry[]): string {
  const lines = all.map(
    (entry) =>
      `| ${entry.task} | ${entry.training_rows} | ${entry.setting} | ${entry.rank} | ${entry.learning_rate.toExponential(0)} | ${entry.batch_size} | ${entry.epochs} | ${entry.validation_loss.toFixed(4)} | ${scoreOfEntry(entry)} |`,
  );
  return [
    "| task | rows | setting | rank | peak rate | batch | epochs | validation loss | score |",
    "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ...lines,
    "",
  ].join("\n");
}

// How near a check's estimate of time and memory comes to the run itself: `tunesmith check --measure` on the first tickets of
// examples/ticket-triage, then a trainer process on them. Prints one JSON object on the last line.
// `npm run bench:estimate -- --json [--data FILE] [--rows 128] [--batch 4] [--epochs 1]`
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { checkData } from "../src/main/check-data.ts";
import { runTrainerProcess, writeJob } from "./job-run.ts";
import { openModel, runAsTrainer } from "./training-bench.ts";

runAsTrainer();

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    data: { type: "string", default: join(import.meta.dirname, "../examples/ticket-triage/train.jsonl") },
    model: { type: "string", default: "smollm2-135m-instruct" },
    rows: { type: "string", default: "128" },
    batch: { type: "string", default: "4" },
    epochs: { type: "string", default: "1" },
  },
});
const say = (line: string): void => void (options.json ? process.stderr : process.stdout).write(`${line}\n`);

const lines = (await readFile(options.data, "utf8")).trimEnd().split("\n").slice(0, Number(options.rows));
const folder = await mkdtemp(join(tmpdir(), "tunesmith-bench-"));
try {
  const data = join(folder, "data.jsonl");
  await writeFile(data, lines.map((line) => `${line}\n`).join(""));
  const { cost } = await checkData({
    method: "supervised",
    trainingFile: data,
    model: options.model,
    hyperparameters: {
      n_epochs: Number(options.epochs),
      batch_size: Number(options.batch),
      learning_rate_multiplier: "auto",
    },
    measure: true,
    signal: new AbortController().signal,
  });
  if (cost === null) throw new Error("The check made no estimate.");
  say(`estimated: ${cost.seconds} s, ${(cost.memory_bytes / 1e9).toFixed(2)} GB`);
  const opened = await openModel(options.model);
  await opened.model.close();
  const job = join(folder, "job");
  await writeJob(opened, job, {
    method: "supervised",
    training: lines.map((line) => JSON.parse(line) as object),
    validation: [],
    learningRate: 1e-3,
    epochs: Number(options.epochs),
    batchSize: Number(options.batch),
    seed: 1,
    threads: availableParallelism(),
  });
  const { seconds, peakRssBytes } = await runTrainerProcess(job);
  say(`the run: ${seconds.toFixed(0)} s, ${(peakRssBytes / 1e9).toFixed(2)} GB`);
  const result = {
    estimated: { seconds: cost.seconds, memory_bytes: cost.memory_bytes },
    run: { seconds, peak_rss_bytes: peakRssBytes },
    seconds_ratio: cost.seconds / seconds,
    memory_ratio: cost.memory_bytes / peakRssBytes,
    rows: lines.length,
    batch_size: Number(options.batch),
    epochs: Number(options.epochs),
    model: options.model,
    cpu: cpus()[0]?.model ?? "unknown",
    node: process.version,
  };
  if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
} finally {
  await rm(folder, { recursive: true, force: true });
}

// Training steps on made-up rows of one length, in a process of its own so that its memory is its own. Prints one JSON object.
// `tsx bench/train-shape.ts --tokens 1024 --rows 4 --steps 3 [--batch 1] [--rank 16] [--targets all] [--epochs 1]`
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { createRandom } from "../src/random.ts";
import type { BatchExample } from "../src/data/batches.ts";
import { groupsOf, loraPlan, openModel, runAsTrainer, TrainingBench, workOf } from "./training-bench.ts";

runAsTrainer();

const { values: options } = parseArgs({
  options: {
    model: { type: "string", default: "smollm2-135m-instruct" },
    tokens: { type: "string", default: "128" },
    rows: { type: "string", default: "8" },
    batch: { type: "string", default: "1" },
    epochs: { type: "string", default: "1" },
    rank: { type: "string", default: "8" },
    targets: { type: "string", default: "q_proj,v_proj" },
    threads: { type: "string", default: String(availableParallelism()) },
  },
});
/** Of each row's tokens, those at its end: about what chat data has. */
const LOSS_SHARE = 0.5;

const length = Number(options.tokens);
const { model } = await openModel(options.model);
const { config } = model;
const random = createRandom(1);
const rows: BatchExample[] = Array.from({ length: Number(options.rows) }, () => ({
  tokens: Int32Array.from({ length }, () => random.below(config.vocabSize)),
  supervised: Uint8Array.from({ length }, (_, i) => (i >= length * (1 - LOSS_SHARE) ? 1 : 0)),
}));
const bench = new TrainingBench(model, loraPlan(options.targets, Number(options.rank)), {
  maxLength: length,
  threads: Number(options.threads),
});
await model.close();
const epoch = groupsOf(rows, Number(options.batch));
const steps = Array.from({ length: Number(options.epochs) }, () => epoch).flat();
await bench.step(epoch[0] ?? []);

const warmRss = residentBytes();
const cpuStart = process.cpuUsage();
let seconds = 0;
for (const step of steps) seconds += (await bench.step(step)).seconds;
const cpu = process.cpuUsage(cpuStart);
const work = workOf(config, steps);
const examples = steps.flat().length;
process.stdout.write(
  `${JSON.stringify({
    examples_per_second: examples / seconds,
    // Of all threads: what a shared machine's other work hardly moves.
    examples_per_cpu_second: examples / ((cpu.user + cpu.system) / 1e6),
    tokens_per_second: work.tokens / seconds,
    gflops: (work.operations / seconds) * 1e-9,
    rss_growth_bytes: residentBytes() - warmRss,
    peak_rss_bytes: process.resourceUsage().maxRSS * 1024,
    steps: steps.length,
    seconds,
  })}\n`,
);
await bench.release();

/** What the process holds now; after one step already all that a step needs. */
function residentBytes(): number {
  const found = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"));
  return found === null ? process.memoryUsage().rss : Number(found[1]) * 1024;
}

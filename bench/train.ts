// Training speed: SmolLM2-135M-Instruct, LoRA r=8 alpha=16 on q and v, f32, on the first rows of a JSONL in OpenAI's chat
// format. Prints one JSON object on the last line. `npm run bench:train -- --json [--data FILE] [--rows 64] [--targets all]`
import { spawnSync } from "node:child_process";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadConfig, trainerEnvironment } from "../src/config.ts";
import { splitIntoPasses, supervisedPass } from "../src/data/batches.ts";
import { createChatTemplate } from "../src/data/chat-template.ts";
import { readDataset } from "../src/data/dataset.ts";
import { encodeExample } from "../src/data/supervised-example.ts";
import { createTokenizer } from "../src/data/tokenizer.ts";
import { openBaseModel } from "../src/model/base-model.ts";
import { loadDecoderWeights } from "../src/model/decoder-weights.ts";
import { LORA_TARGETS } from "../src/model/lora-targets.ts";
import { resolveBaseModel } from "../src/model/resolve-base-model.ts";
import { DecoderRunner } from "../src/training/decoder-runner.ts";
import { LoraParameters } from "../src/training/lora-parameters.ts";
import type { LoraPlan } from "../src/training/lora-parameters.ts";
import { AdamW } from "../src/training/optimizer.ts";
import { SUPERVISED_LOSS } from "../src/training/loss.ts";
import { trainStep } from "../src/training/train-step.ts";

// As jobs run: in a process with a trainer's environment.
if (trainerEnvironment() !== process.env) {
  const again = spawnSync(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    env: trainerEnvironment(),
    stdio: "inherit",
  });
  process.exit(again.status ?? 1);
}

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    data: { type: "string", default: join(import.meta.dirname, "../examples/ticket-triage/train.jsonl") },
    model: { type: "string", default: "smollm2-135m-instruct" },
    rows: { type: "string", default: "64" },
    batch: { type: "string", default: "8" },
    targets: { type: "string", default: "q_proj,v_proj" },
    threads: { type: "string", default: String(availableParallelism()) },
    "max-length": { type: "string", default: "1024" },
  },
});
const say = (line: string): void => void (options.json ? process.stderr : process.stdout).write(`${line}\n`);

const maxLength = Number(options["max-length"]);
const threads = Number(options.threads);
const lora: LoraPlan = {
  rank: 8,
  alpha: 16,
  dropout: 0,
  targetModules:
    options.targets === "all" ? LORA_TARGETS : LORA_TARGETS.filter((one) => options.targets.includes(one)),
};

const resolved = await resolveBaseModel(options.model, loadConfig());
const model = await openBaseModel(resolved.path);
const examples = await encodedRows();
const weights = loadDecoderWeights(model, maxLength);
await model.close();
const { config } = model;
const parameters = new LoraParameters(config, lora);
parameters.initialize(1);
const optimizer = new AdamW(parameters.data.length, {
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0,
});
const runner = new DecoderRunner({ config, weights, parameters, lora, threads });

// Rows of like length share a step, as a peer's "group by length" does.
const batchSize = Number(options.batch);
const sorted = [...examples].sort((a, b) => a.tokens.length - b.tokens.length);
const steps = Array.from({ length: Math.ceil(sorted.length / batchSize) }, (_, i) =>
  sorted.slice(i * batchSize, (i + 1) * batchSize),
);
const stepOptions = { learningRate: 1e-4, clipNorm: 1, dropoutStream: [] };
// The first step compiles the graphs.
await trainStep(SUPERVISED_LOSS, runner, parameters, optimizer, steps[0] ?? [], stepOptions);

const started = performance.now();
for (const [i, step] of steps.entries()) {
  const { loss } = await trainStep(SUPERVISED_LOSS, runner, parameters, optimizer, step, stepOptions);
  say(`step ${i + 1}/${steps.length}: ${step.length} rows, loss ${loss.toFixed(3)}`);
}
const seconds = (performance.now() - started) / 1000;
await runner.release();

const tokens = examples.reduce((sum, example) => sum + example.tokens.length, 0);
/** What the decoder computes: tokens that a pass's rows share count once. */
const passes = steps.flatMap((step) => splitIntoPasses(step));
const computedTokens = passes.reduce((sum, pass) => sum + supervisedPass(pass).layout.tokens.length, 0);
const lossTokens = examples.reduce((sum, example) => sum + example.supervisedTokens, 0);
const result = {
  tokens_per_second: tokens / seconds,
  examples_per_second: examples.length / seconds,
  peak_rss_bytes: process.resourceUsage().maxRSS * 1024,
  gflops: (floatingPointOperations() / seconds) * 1e-9,
  seconds,
  tokens,
  loss_tokens: lossTokens,
  rows: examples.length,
  computed_tokens: computedTokens,
  passes: passes.length,
  model: resolved.id,
  targets: lora.targetModules,
  threads,
  cpu: cpus()[0]?.model ?? "unknown",
  node: process.version,
};
process.stdout.write(
  options.json
    ? `${JSON.stringify(result)}\n`
    : `${result.tokens_per_second.toFixed(0)} tokens/s, peak ${(result.peak_rss_bytes / 1e9).toFixed(2)} GB\n`,
);

/** Encodes the first rows of the data file; through a copy, because the reader takes whole files. */
async function encodedRows() {
  const folder = await mkdtemp(join(tmpdir(), "tunesmith-bench-"));
  try {
    const lines = (await readFile(options.data, "utf8")).split("\n").filter((line) => line !== "");
    const file = join(folder, "rows.jsonl");
    await writeFile(
      file,
      lines
        .slice(0, Number(options.rows))
        .map((line) => `${line}\n`)
        .join(""),
    );
    const { examples: rows } = await readDataset(file, { param: "training_file" });
    const tokenizer = createTokenizer(model.tokenizer);
    const template = createChatTemplate(model.tokenizer);
    return rows.map(({ messages, tools }) =>
      encodeExample(messages, tools, { tokenizer, template, maxLength }),
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * What the matrix products of one pass over the data need: two operations per weight and computed token forward and two backward for
 * the frozen linears, four per weight and loss token for the head, scores and context forward and backward with two
 * recomputed products for attention. Adapters and element-wise work are left out.
 */
function floatingPointOperations(): number {
  const {
    hiddenSize: D,
    mlpWidth: F,
    queryHeads: H,
    keyValueHeads: K,
    headWidth: E,
    vocabSize: V,
    layerCount,
  } = config;
  const linears = layerCount * (2 * D * H * E + 2 * D * K * E + 3 * D * F);
  const attention = examples.reduce(
    (sum, { tokens: row }) => sum + 2 * row.length ** 2 * H * E * layerCount * 7,
    0,
  );
  return 4 * linears * computedTokens + 4 * V * D * lossTokens + attention;
}

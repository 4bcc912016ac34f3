// Decoding speed of SmolLM2-135M-Instruct in f32: 1, 8 and 16 sequences at a time, greedy, contexts growing from 64 tokens,
// sampling included; and reading a prompt of 512 tokens. Prints one JSON object on the last line.
// `npm run bench:decode -- --json [--steps 64] [--adapter FOLDER]`
import { availableParallelism, cpus } from "node:os";
import { parseArgs } from "node:util";
import { loadConfig } from "../src/config.ts";
import { openBaseModel } from "../src/model/base-model.ts";
import { loadDecoderWeights } from "../src/model/decoder-weights.ts";
import { resolveBaseModel } from "../src/model/resolve-base-model.ts";
import { createRandom } from "../src/random.ts";
import { AdapterPool } from "../src/serving/adapter-pool.ts";
import { Generator, NO_ADAPTER } from "../src/serving/generator.ts";
import { mostLikely } from "../src/serving/sampler.ts";

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    model: { type: "string", default: "smollm2-135m-instruct" },
    steps: { type: "string", default: "64" },
    adapter: { type: "string" },
    threads: { type: "string", default: String(availableParallelism()) },
  },
});
const say = (line: string): void => void (options.json ? process.stderr : process.stdout).write(`${line}\n`);

const SEQUENCES = [1, 8, 16] as const;
const CONTEXT_TOKENS = 64;
const PROMPT_TOKENS = 512;
const WARM_UP_STEPS = 4;
const steps = Number(options.steps);
const threads = Number(options.threads);

const resolved = await resolveBaseModel(options.model, loadConfig());
const model = await openBaseModel(resolved.path);
const { config } = model;
const generator = new Generator({ config, weights: loadDecoderWeights(model, 2048), threads });
await model.close();
const adapter =
  options.adapter === undefined ? NO_ADAPTER : await new AdapterPool(config).get(options.adapter);

const random = createRandom(1);
const tokens = (count: number): number[] =>
  Array.from({ length: count }, () => random.below(config.vocabSize));

await generator.readPrompt(tokens(CONTEXT_TOKENS), adapter);
const promptStart = performance.now();
await generator.readPrompt(tokens(PROMPT_TOKENS), adapter);
const promptTokensPerSecond = PROMPT_TOKENS / ((performance.now() - promptStart) / 1000);
say(`prompt of ${PROMPT_TOKENS} tokens: ${promptTokensPerSecond.toFixed(0)} tokens/s`);

const decode: Record<string, number> = {};
for (const count of SEQUENCES) {
  const cache = generator.newCache();
  let pending: number[] = [];
  for (let row = 0; row < count; row++) {
    const prompt = await generator.readPrompt(tokens(CONTEXT_TOKENS), adapter);
    cache.addRow(prompt.cache);
    pending.push(mostLikely(prompt.logits));
  }
  let started = 0;
  for (let step = 0; step < steps + WARM_UP_STEPS; step++) {
    if (step === WARM_UP_STEPS) started = performance.now();
    const logits = await generator.step(cache, pending, adapter);
    pending = pending.map((_, row) =>
      mostLikely(logits.subarray(row * config.vocabSize, (row + 1) * config.vocabSize)),
    );
  }
  const tokensPerSecond = (count * steps) / ((performance.now() - started) / 1000);
  decode[`decode_${count}`] = tokensPerSecond;
  say(`${count} sequences: ${tokensPerSecond.toFixed(0)} tokens/s`);
}
await generator.release();

const result = {
  ...decode,
  prompt_tokens_per_second: promptTokensPerSecond,
  peak_rss_bytes: process.resourceUsage().maxRSS * 1024,
  steps,
  model: resolved.id,
  adapter: options.adapter ?? null,
  threads,
  cpu: cpus()[0]?.model ?? "unknown",
  node: process.version,
};
if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);

// Training speed: SmolLM2-135M-Instruct, LoRA r=8 alpha=16 on q and v, f32, on the first rows of a JSONL in OpenAI's chat
// format, beside the machine's own rate of matrix products; what steps of one length and long runs take. With --peers also TRL and
// PEFT, side by side. Prints one JSON object on the last line.
// `npm run bench:train -- --json [--peers] [--data FILE] [--rows 64] [--targets all] [--parts speed,gemm,shapes,growth]
//   [--peer-rows 16] [--settings f32-1,f32-8,bf16-1,prefix-1]`
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import type { BatchExample } from "../src/data/batches.ts";
import { measureGemm } from "./gemm.ts";
import type { GemmRates } from "./gemm.ts";
import { comparePeers, SETTINGS } from "./peers/compare.ts";
import type { PeerResult } from "./peers/compare.ts";
import { prefixRows } from "./peers/prefix-rows.ts";
import {
  encodeRows,
  groupsOf,
  loraPlan,
  openModel,
  runAsTrainer,
  TrainingBench,
  workOf,
} from "./training-bench.ts";

runAsTrainer();

const PARTS = ["speed", "gemm", "shapes", "growth"] as const;
const MIX = join(import.meta.dirname, "../../shared/data/mix/mix-1000.jsonl");
const TICKETS = join(import.meta.dirname, "../examples/ticket-triage/train.jsonl");

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    data: { type: "string" },
    model: { type: "string", default: "smollm2-135m-instruct" },
    rows: { type: "string", default: "64" },
    batch: { type: "string", default: "8" },
    targets: { type: "string", default: "q_proj,v_proj" },
    threads: { type: "string", default: String(availableParallelism()) },
    "max-length": { type: "string", default: "1024" },
    parts: { type: "string" },
    peers: { type: "boolean", default: false },
    "peer-rows": { type: "string", default: "16" },
    settings: { type: "string" },
  },
});
const say = (line: string): void => void (options.json ? process.stderr : process.stdout).write(`${line}\n`);

const data = options.data ?? (options.peers && existsSync(MIX) ? MIX : TICKETS);
const parts = namesAmong(options.parts, PARTS, options.peers ? PARTS : ["speed"]);
const settings =
  options.settings === undefined
    ? null
    : namesAmong(
        options.settings,
        SETTINGS.map(({ name }) => name),
        [],
      );
const maxLength = Number(options["max-length"]);
const threads = Number(options.threads);
const lora = loraPlan(options.targets);

// The machine's rate first and last: half way through a long run it may be another.
const opened = await openModel(options.model);
const { config } = opened.model;
const gemm = parts.includes("gemm") ? await gemmRates() : null;
const examples = await encodeRows(opened.model, data, Number(options.rows), maxLength);
const needsBench = parts.includes("speed") || options.peers;
const bench = needsBench ? new TrainingBench(opened.model, lora, { maxLength, threads }) : null;
const speed = bench !== null && parts.includes("speed") ? await measureSpeed(bench) : {};
const peers = bench !== null && options.peers ? await measurePeers(bench) : null;
await bench?.release();
await opened.model.close();
const shapes = parts.includes("shapes") ? await measureShapes() : null;
const growth = parts.includes("growth") ? await measureGrowth() : null;

const result = {
  ...speed,
  // Beyond the number of threads there was other work, and the peer, whose threads wait by spinning, has lost more by it than we.
  load_average: loadavg()[0],
  ...(gemm === null ? {} : { gemm_gflops: gemm.best, gemm }),
  ...(shapes === null ? {} : { shapes }),
  ...(gemm === null || shapes === null
    ? {}
    : {
        gemm_share: {
          tokens_128: shapes.tokens_128.gflops / gemm.best,
          tokens_1024: shapes.tokens_1024.gflops / gemm.best,
        },
      }),
  ...(growth === null ? {} : { growth }),
  ...(peers === null ? {} : { ratios: peers.ratios, peers: { trl: peers } }),
  model: opened.id,
  data: data === MIX ? "mix-1000.jsonl" : data === TICKETS ? "ticket-triage" : data,
  targets: lora.targetModules,
  threads,
  cpu: cpus()[0]?.model ?? "unknown",
  node: process.version,
};
if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);

function namesAmong<Name extends string>(
  given: string | undefined,
  known: readonly Name[],
  otherwise: readonly Name[],
): readonly Name[] {
  if (given === undefined) return otherwise;
  const names = given.split(",").filter((name) => name !== "");
  const unknown = names.find((name) => !known.includes(name as Name));
  if (unknown !== undefined) throw new Error(`"${unknown}" is none of ${known.join(", ")}.`);
  return names as Name[];
}

/** On rows of like length a step, as a peer's "group by length" does. */
async function measureSpeed(bench: TrainingBench): Promise<object> {
  const sorted = [...examples].sort((a, b) => a.tokens.length - b.tokens.length);
  const steps: BatchExample[][] = groupsOf(sorted, Number(options.batch));
  await bench.warmUp(examples);
  let seconds = 0;
  for (const [i, step] of steps.entries()) {
    const done = await bench.step(step);
    seconds += done.seconds;
    say(`step ${i + 1}/${steps.length}: ${step.length} rows, loss ${done.loss.toFixed(3)}`);
  }
  const work = workOf(config, steps);
  const tokensPerSecond = work.tokens / seconds;
  const peakRssBytes = process.resourceUsage().maxRSS * 1024;
  say(`${tokensPerSecond.toFixed(0)} tokens/s, peak ${(peakRssBytes / 1e9).toFixed(2)} GB`);
  return {
    tokens_per_second: tokensPerSecond,
    examples_per_second: examples.length / seconds,
    peak_rss_bytes: peakRssBytes,
    gflops: (work.operations / seconds) * 1e-9,
    seconds,
    tokens: work.tokens,
    loss_tokens: work.lossTokens,
    rows: examples.length,
    computed_tokens: work.computedTokens,
    passes: work.passes,
  };
}

async function gemmRates(): Promise<GemmRates> {
  const rates = await measureGemm(config, threads);
  say(
    `matrix products: ${rates.model_shapes.toFixed(0)} GFLOP/s at the model's shapes, ${rates.square.toFixed(0)} square`,
  );
  return rates;
}

async function measurePeers(bench: TrainingBench): Promise<PeerResult> {
  const count = Number(options["peer-rows"]);
  return comparePeers({
    opened,
    bench,
    lora,
    rows: {
      mix: examples.slice(0, count),
      prefix: await prefixRows(opened.model, count, maxLength),
    },
    threads,
    settings,
    say,
  });
}

interface Shape {
  examples_per_second: number;
  examples_per_cpu_second: number;
  tokens_per_second: number;
  gflops: number;
  rss_growth_bytes: number;
  peak_rss_bytes: number;
}

/** Training on made-up rows of one length, in a process of its own. */
async function shape(flags: Readonly<Record<string, string | number>>): Promise<Shape> {
  const program = join(import.meta.dirname, "train-shape.ts");
  const given = Object.entries({ model: options.model, threads, ...flags });
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...["--import", "tsx", program],
    ...given.flatMap(([name, value]) => [`--${name}`, String(value)]),
  ]);
  const found = JSON.parse(stdout) as Shape;
  say(`${JSON.stringify(flags)}: ${found.tokens_per_second.toFixed(0)} tokens/s`);
  return found;
}

/** Passes of 256 to 384 tokens of short rows, and rows that are passes of their own; memory with as much adapted as anybody does. */
async function measureShapes() {
  return {
    tokens_128: await shape({ tokens: 128, rows: 24, batch: 3 }),
    tokens_1024: await shape({ tokens: 1024, rows: 3 }),
    tokens_1024_rank_16_all: await shape({ tokens: 1024, rows: 3, rank: 16, targets: "all" }),
  };
}

/** Ten times the rows, and ten times the steps on the same rows: neither may slow a step down or keep memory. */
async function measureGrowth(): Promise<object> {
  const base = await shape({ tokens: 64, rows: 16, batch: 2 });
  const rows = await shape({ tokens: 64, rows: 160, batch: 2 });
  const steps = await shape({ tokens: 64, rows: 16, batch: 2, epochs: 10 });
  const against = (one: Shape) => ({
    examples_per_second: one.examples_per_second / base.examples_per_second,
    examples_per_cpu_second: one.examples_per_cpu_second / base.examples_per_cpu_second,
    rss_growth_bytes: one.rss_growth_bytes,
    peak_rss: one.peak_rss_bytes / base.peak_rss_bytes,
  });
  return { rows_10: against(rows), steps_10: against(steps) };
}

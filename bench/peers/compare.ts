// Training speed side by side with TRL and PEFT: the same weights, rows, loss rows and LoRA, each setting of the peer in a process of
// its own that takes turns with ours, block of rows by block of rows, so that whatever else the machine does hits both alike.
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BatchExample } from "../../src/data/batches.ts";
import { createRandom, shuffle } from "../../src/random.ts";
import type { LoraPlan } from "../../src/training/lora-parameters.ts";
import { groupsOf, OPTIMIZER, STEP_OPTIONS } from "../training-bench.ts";
import type { OpenedModel, TrainingBench } from "../training-bench.ts";
import { writeHuggingFaceFolder } from "./hugging-face-folder.ts";
import { makeEnvironment, PeerOutOfMemory, trlRow, TrlRun } from "./trl-run.ts";
import type { TrlPlan } from "./trl-run.ts";

/** TRL's default batch size is 8; the best of all is looked for among these. */
export const TRL_DEFAULT_BATCH = 8;
const BATCH_SIZES = [1, 2, 4, TRL_DEFAULT_BATCH] as const;
/** Rows after which it is the other's turn; a multiple of every batch size, and one step of ours. */
export const BLOCK_ROWS = 8;

/** What the peer is measured at. `data`: "mix", the rows of the data file; "prefix", rows under one long system prompt. */
interface Setting {
  name: string;
  data: "mix" | "prefix";
  dtype: TrlPlan["dtype"];
  batch: number;
}

export const SETTINGS: readonly Setting[] = [
  ...BATCH_SIZES.map((batch) => ({ name: `f32-${batch}`, data: "mix", dtype: "float32", batch }) as const),
  { name: "bf16-1", data: "mix", dtype: "bfloat16", batch: 1 },
  ...BATCH_SIZES.map(
    (batch) => ({ name: `prefix-${batch}`, data: "prefix", dtype: "float32", batch }) as const,
  ),
];

interface Rates {
  examples_per_second: number;
  /** Unpadded. */
  tokens_per_second: number;
}

interface Measured {
  name: string;
  batch_size: number;
  dtype: TrlPlan["dtype"];
  rows: number;
  tokens: number;
  trl: Rates & { peak_rss_bytes: number };
  /** Ours, in turns with it. */
  tunesmith: Rates;
  /** Examples/s, ours over the peer's. */
  ratio: number;
}

interface Unmeasured {
  name: string;
  batch_size: number;
  dtype: TrlPlan["dtype"];
  reason: string;
}

export interface PeerResult {
  versions: Record<string, string> | null;
  settings: (Measured | Unmeasured)[];
  /** Examples/s, ours over the peer's; null with a reason beside it where nothing was measured. */
  ratios: Record<string, number | string | null>;
}

interface CompareOptions {
  opened: OpenedModel;
  bench: TrainingBench;
  lora: LoraPlan;
  rows: Readonly<Record<Setting["data"], readonly BatchExample[]>>;
  threads: number;
  /** Names of settings; null: all that this processor can do well. */
  settings: readonly string[] | null;
  say: (line: string) => void;
}

export async function comparePeers(options: CompareOptions): Promise<PeerResult> {
  const { opened, say } = options;
  const wanted = SETTINGS.map((setting) => ({ setting, reason: reasonAgainst(setting, options.settings) }));
  const missing = wanted.some(({ reason }) => reason === null) ? makeEnvironment() : null;
  if (missing !== null) {
    say(missing);
    const settings = SETTINGS.map((setting) => unmeasured(setting, missing));
    return { versions: null, settings, ratios: ratiosOf(settings) };
  }
  const folder = await mkdtemp(join(tmpdir(), "tunesmith-peers-"));
  const settings: (Measured | Unmeasured)[] = [];
  let versions: PeerResult["versions"] = null;
  try {
    const base = join(folder, "base");
    await writeHuggingFaceFolder(base, opened.model);
    for (const { setting, reason } of wanted) {
      if (reason !== null) {
        settings.push(unmeasured(setting, reason));
        continue;
      }
      try {
        const measured = await measure(setting, base, join(folder, `${setting.name}.json`), options);
        versions = measured.versions;
        settings.push(measured.result);
        const { trl, tunesmith, ratio } = measured.result;
        say(
          `${setting.name}: TRL ${trl.examples_per_second.toFixed(3)}, here ${tunesmith.examples_per_second.toFixed(3)} examples/s, ratio ${ratio.toFixed(2)}`,
        );
      } catch (error) {
        if (!(error instanceof PeerOutOfMemory)) throw error;
        const text = `TRL needs more memory than this machine has: ${error.message}`;
        say(`${setting.name}: ${text}`);
        settings.push(unmeasured(setting, text));
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return { versions, settings, ratios: ratiosOf(settings) };
}

function reasonAgainst({ name, dtype }: Setting, settings: readonly string[] | null): string | null {
  if (settings !== null) return settings.includes(name) ? null : "not asked for with --settings";
  if (dtype === "bfloat16" && !hasBrainFloats())
    return "the processor has no AVX512_BF16, so the peer would run bf16 far slower than f32; --settings measures it all the same";
  return null;
}

function hasBrainFloats(): boolean {
  if (process.platform !== "linux") return false;
  return /\bavx512_bf16\b/.test(readFileSync("/proc/cpuinfo", "utf8"));
}

function unmeasured({ name, dtype, batch }: Setting, reason: string): Unmeasured {
  return { name, batch_size: batch, dtype, reason };
}

async function measure(
  setting: Setting,
  base: string,
  planFile: string,
  { bench, lora, rows: allRows, threads }: CompareOptions,
): Promise<{ result: Measured; versions: Record<string, string> }> {
  const { batch, dtype, data } = setting;
  const usable = allRows[data].length - (allRows[data].length % BLOCK_ROWS);
  // As a job would meet them: in random order.
  const rows = shuffle(allRows[data].slice(0, usable), createRandom(1));
  // One step before the clock starts: on the shortest rows, because all it has to do is to be the first.
  const first = [...rows].sort((a, b) => a.tokens.length - b.tokens.length).slice(0, batch);
  const run = await TrlRun.start(planFile, {
    method: "sft",
    model: base,
    dtype,
    lora: { rank: lora.rank, alpha: lora.alpha, target_modules: lora.targetModules },
    seed: 1,
    threads,
    batch_size: batch,
    optimizer: {
      learning_rate: STEP_OPTIONS.learningRate,
      schedule: "constant",
      warmup_steps: 0,
      clip_norm: STEP_OPTIONS.clipNorm,
      weight_decay: OPTIMIZER.weightDecay,
      beta1: OPTIMIZER.beta1,
      beta2: OPTIMIZER.beta2,
      epsilon: OPTIMIZER.epsilon,
    },
    training: [...first, ...rows].map(trlRow),
    paced: true,
  });
  try {
    await run.step();
    await bench.warmUp(rows);
    let [theirs, ours] = [0, 0];
    const takeTurns = [
      async () => {
        for (let step = 0; step < BLOCK_ROWS / batch; step++) theirs += await run.step();
      },
      async (block: readonly BatchExample[]) => void (ours += (await bench.step(block)).seconds),
    ];
    for (const block of groupsOf(rows, BLOCK_ROWS)) {
      for (const turn of takeTurns) await turn(block);
      takeTurns.reverse();
    }
    const { peak_rss_bytes } = await run.expect("end");
    const tokens = rows.reduce((sum, row) => sum + row.tokens.length, 0);
    const rates = (seconds: number): Rates => ({
      examples_per_second: rows.length / seconds,
      tokens_per_second: tokens / seconds,
    });
    return {
      versions: run.versions,
      result: {
        name: setting.name,
        batch_size: batch,
        dtype,
        rows: rows.length,
        tokens,
        trl: { ...rates(theirs), peak_rss_bytes },
        tunesmith: rates(ours),
        ratio: theirs / ours,
      },
    };
  } finally {
    await run.stop();
  }
}

/** Against the peer's fastest setting where there are several: the ratio taken in turns with that one. */
function ratiosOf(settings: readonly (Measured | Unmeasured)[]): PeerResult["ratios"] {
  const ratios: PeerResult["ratios"] = {};
  const add = (name: string, pattern: RegExp): void => {
    const all = settings.filter((setting) => pattern.test(setting.name));
    const measured = all.filter((setting): setting is Measured => "ratio" in setting);
    const [best] = measured.sort((a, b) => b.trl.examples_per_second - a.trl.examples_per_second);
    ratios[name] = best?.ratio ?? null;
    if (best === undefined) ratios[`${name}_reason`] = (all as Unmeasured[])[0]?.reason ?? "not measured";
  };
  add("trl_f32_best", /^f32-/);
  add("trl_default", new RegExp(`^f32-${TRL_DEFAULT_BATCH}$`));
  add("trl_bf16", /^bf16-/);
  add("shared_prefix", /^prefix-/);
  return ratios;
}

// A training run of TRL and PEFT in a process of its own (trl_train.py): its environment, its plan, and the messages it sends.
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { BatchExample } from "../../src/data/batches.ts";

const REPOSITORY = join(import.meta.dirname, "../..");
const PYTHON = join(REPOSITORY, ".venv-peers/bin/python");
/** What a peer leaves free of the machine's memory. */
const SPARE_BYTES = 1.5e9;

export interface TrlPlan {
  method: "sft" | "dpo";
  /** A Hugging Face folder. */
  model: string;
  dtype: "float32" | "bfloat16";
  lora: { rank: number; alpha: number; target_modules: readonly string[] };
  /** A PEFT folder to start from, instead of a fresh adapter. */
  initial_adapter?: string;
  seed: number;
  threads: number;
  batch_size: number;
  optimizer: {
    learning_rate: number;
    schedule: "constant" | "linear";
    warmup_steps: number;
    clip_norm: number;
    weight_decay: number;
    beta1: number;
    beta2: number;
    epsilon: number;
  };
  beta?: number;
  /** In the order to train in; several epochs stand one after the other. */
  training: readonly object[];
  validation?: readonly object[];
  /** Each step waits to be asked for. */
  paced: boolean;
  /** Where the trained adapter is put. */
  adapter?: string;
}

/** Makes the environment where it is missing; null, or why it cannot be made. */
export function makeEnvironment(): string | null {
  const script = join(REPOSITORY, "bench/peers/make-env.sh");
  const made = spawnSync("bash", [script], { stdio: ["ignore", "inherit", "pipe"], encoding: "utf8" });
  if (made.status === 0) return null;
  return made.error?.message ?? made.stderr.trim();
}

/** A row as TRL takes token ids: a label of -100 carries no loss. */
export function trlRow({ tokens, supervised }: BatchExample): { input_ids: number[]; labels: number[] } {
  const input_ids = [...tokens];
  return { input_ids, labels: input_ids.map((token, i) => (supervised[i] === 1 ? token : -100)) };
}

/** The peer's run needs more memory than there is. */
export class PeerOutOfMemory extends Error {}

type Message =
  | { event: "ready"; versions: Record<string, string>; threads: number }
  | { event: "step"; seconds: number }
  | { event: "evaluation"; metrics: Record<string, number> }
  | { event: "end"; peak_rss_bytes: number }
  | { event: "out_of_memory"; message: string };

export class TrlRun {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #exited: Promise<unknown[]>;
  versions: Record<string, string> = {};

  private constructor(planFile: string) {
    this.#child = spawn(PYTHON, [join(REPOSITORY, "bench/peers/trl_train.py"), planFile], {
      stdio: ["pipe", "pipe", "inherit"],
      env: plainEnvironment(),
    });
    this.#exited = once(this.#child, "exit");
    this.#lines = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream })[
      Symbol.asyncIterator
    ]();
  }

  /** Starts a run whose plan is written to `planFile`; resolves when its first step could begin. */
  static async start(planFile: string, plan: TrlPlan): Promise<TrlRun> {
    await writeFile(planFile, JSON.stringify({ ...plan, memory_limit_bytes: memoryLimit() }));
    const run = new TrlRun(planFile);
    run.versions = (await run.expect("ready")).versions;
    return run;
  }

  /** Seconds of the next step. */
  async step(): Promise<number> {
    this.#child.stdin?.write("\n");
    return (await this.expect("step")).seconds;
  }

  /** The next message of this kind; steps that nobody asked about are passed over. */
  async expect<E extends Message["event"]>(event: E): Promise<Extract<Message, { event: E }>> {
    for (;;) {
      const { value, done } = (await this.#lines.next()) as IteratorResult<string, undefined>;
      if (done === true) throw new Error(`TRL ended before its "${event}": ${String(await this.#exited)}.`);
      const message = JSON.parse(value) as Message;
      if (message.event === event) return message as Extract<Message, { event: E }>;
      if (message.event === "out_of_memory") throw new PeerOutOfMemory(message.message);
      if (message.event !== "step")
        throw new Error(`TRL sent "${message.event}" where "${event}" was expected.`);
    }
  }

  /** Ends the process, done or not. */
  async stop(): Promise<void> {
    this.#child.stdin?.end();
    if (this.#child.exitCode === null) this.#child.kill();
    await this.#exited;
  }
}

/** Without what a trainer of ours is given (config.ts, trainerEnvironment): the peer runs as its users start it. */
function plainEnvironment(): NodeJS.ProcessEnv {
  const { GLIBC_TUNABLES: tunables = "", ...rest } = process.env;
  const others = tunables.split(":").filter((one) => one !== "" && !one.startsWith("glibc.malloc.hugetlb="));
  return others.length === 0 ? rest : { ...rest, GLIBC_TUNABLES: others.join(":") };
}

/** What the machine has to give, in bytes; undefined where the system does not say. */
function memoryLimit(): number | undefined {
  if (process.platform !== "linux") return undefined;
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"));
  return available === null ? undefined : Number(available[1]) * 1024 - SPARE_BYTES;
}

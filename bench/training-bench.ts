// What the training benchmarks share: a base model opened once, rows of a data file encoded as a job encodes them, a runner that
// takes steps, and what a step computes.
import { spawnSync } from "node:child_process";
import { loadConfig, trainerEnvironment } from "../src/config.ts";
import { splitIntoPasses, supervisedPass } from "../src/data/batches.ts";
import type { BatchExample } from "../src/data/batches.ts";
import { createChatTemplate } from "../src/data/chat-template.ts";
import { CHAT_FORMAT, checkLines } from "../src/data/dataset.ts";
import { encodeExample } from "../src/data/supervised-example.ts";
import type { SupervisedExample } from "../src/data/supervised-example.ts";
import { createTokenizer } from "../src/data/tokenizer.ts";
import type { TrainingExample } from "../src/data/training-example.ts";
import { openBaseModel } from "../src/model/base-model.ts";
import type { BaseModel } from "../src/model/base-model.ts";
import { loadDecoderWeights } from "../src/model/decoder-weights.ts";
import { LORA_TARGETS } from "../src/model/lora-targets.ts";
import type { ModelConfig } from "../src/model/model-config.ts";
import { resolveBaseModel } from "../src/model/resolve-base-model.ts";
import { DecoderRunner } from "../src/training/decoder-runner.ts";
import { LoraParameters } from "../src/training/lora-parameters.ts";
import type { LoraPlan } from "../src/training/lora-parameters.ts";
import { SUPERVISED_LOSS } from "../src/training/loss.ts";
import { AdamW } from "../src/training/optimizer.ts";
import { trainStep } from "../src/training/train-step.ts";

/** The optimizer of every benchmark and of the peers. */
export const OPTIMIZER = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 } as const;
export const STEP_OPTIONS = { learningRate: 1e-4, clipNorm: 1, dropoutStream: [] } as const;

/** Runs the program again with a trainer's environment, which is what jobs run in, unless it already has it. */
export function runAsTrainer(): void {
  if (trainerEnvironment() === process.env) return;
  const again = spawnSync(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    env: trainerEnvironment(),
    stdio: "inherit",
  });
  process.exit(again.status ?? 1);
}

/** "all", or names of linear layers separated by commas. */
export function loraPlan(targets: string, rank = 8): LoraPlan {
  const targetModules =
    targets === "all" ? LORA_TARGETS : LORA_TARGETS.filter((one) => targets.split(",").includes(one));
  return { rank, alpha: 2 * rank, dropout: 0, targetModules };
}

export interface OpenedModel {
  id: string;
  path: string;
  model: BaseModel;
}

export async function openModel(name: string): Promise<OpenedModel> {
  const { id, path } = await resolveBaseModel(name, loadConfig());
  return { id, path, model: await openBaseModel(path) };
}

/** Encodes the first rows of a JSONL in OpenAI's chat format, as a job does. */
export async function encodeRows(
  model: BaseModel,
  file: string,
  rows: number,
  maxLength: number,
): Promise<SupervisedExample[]> {
  const conversations: TrainingExample[] = [];
  const report = await checkLines(file, CHAT_FORMAT, undefined, (example) => {
    if (conversations.length < rows) conversations.push(example);
  });
  if (report.badLineCount > 0) throw new Error(`${file} has ${report.badLineCount} lines that are no chats.`);
  return encodeConversations(model, conversations, maxLength);
}

export function encodeConversations(
  model: BaseModel,
  conversations: readonly Pick<TrainingExample, "messages" | "tools">[],
  maxLength: number,
): SupervisedExample[] {
  const tokenizer = createTokenizer(model.tokenizer);
  const template = createChatTemplate(model.tokenizer);
  return conversations.map(({ messages, tools }) =>
    encodeExample(messages, tools, { tokenizer, template, maxLength }),
  );
}

/** A training run without a job around it. */
export class TrainingBench {
  readonly parameters: LoraParameters;
  readonly #optimizer: AdamW;
  readonly #runner: DecoderRunner;

  constructor(model: BaseModel, lora: LoraPlan, options: { maxLength: number; threads: number }) {
    const { config } = model;
    this.parameters = new LoraParameters(config, lora);
    this.parameters.initialize(1);
    this.#optimizer = new AdamW(this.parameters.data.length, OPTIMIZER);
    this.#runner = new DecoderRunner({
      config,
      weights: loadDecoderWeights(model, options.maxLength),
      parameters: this.parameters,
      lora,
      threads: options.threads,
    });
  }

  /** One optimizer step on these rows. */
  async step(examples: readonly BatchExample[]): Promise<{ seconds: number; loss: number }> {
    const start = performance.now();
    const { loss } = await trainStep(
      SUPERVISED_LOSS,
      this.#runner,
      this.parameters,
      this.#optimizer,
      examples,
      STEP_OPTIONS,
    );
    return { seconds: (performance.now() - start) / 1000, loss };
  }

  /** Compiles the graphs that rows of these lengths need. */
  async warmUp(examples: readonly BatchExample[]): Promise<void> {
    const [shortest, longest] = extremes(examples);
    await this.step([shortest]);
    await this.step([longest]);
  }

  release(): Promise<void> {
    return this.#runner.release();
  }
}

function extremes(examples: readonly BatchExample[]): [BatchExample, BatchExample] {
  const sorted = [...examples].sort((a, b) => a.tokens.length - b.tokens.length);
  return [sorted[0] as BatchExample, sorted.at(-1) as BatchExample];
}

/** Consecutive groups of `size`. */
export function groupsOf<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) =>
    items.slice(i * size, (i + 1) * size),
  );
}

export interface Work {
  /** Unpadded, shared beginnings counted in every row. */
  tokens: number;
  lossTokens: number;
  /** What the decoder computes: tokens that a pass's rows share count once. */
  computedTokens: number;
  passes: number;
  /** See `operationsOf`. */
  operations: number;
}

/** What the steps compute. */
export function workOf(config: ModelConfig, steps: readonly (readonly BatchExample[])[]): Work {
  const passes = steps.flatMap((step) => splitIntoPasses(step));
  const examples = steps.flat();
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const computedTokens = sum(passes.map((pass) => supervisedPass(pass).layout.tokens.length));
  const lossTokens = sum(examples.map(({ supervised }) => sum([...supervised])));
  const scores = sum(examples.map(({ tokens }) => (tokens.length * (tokens.length + 1)) / 2));
  return {
    tokens: sum(examples.map(({ tokens }) => tokens.length)),
    lossTokens,
    computedTokens,
    passes: passes.length,
    operations: operationsOf(config, computedTokens, lossTokens, scores),
  };
}

/**
 * What the matrix products of a step need: two operations per weight and computed token forward and two backward for the frozen
 * linears, four per weight and loss token for the head, and for attention two products forward and four backward over the scores
 * on and below the diagonal. Adapters, element-wise work and whatever is computed twice or masked away are left out.
 */
function operationsOf(
  config: ModelConfig,
  computedTokens: number,
  lossTokens: number,
  scores: number,
): number {
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
  return 4 * linears * computedTokens + 4 * V * D * lossTokens + 6 * 2 * scores * H * E * layerCount;
}

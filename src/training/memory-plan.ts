// How a run fits into the memory there is: at full speed, in smaller passes, or computing each layer twice. The choice is made once
// and kept in the job directory, because it shows in the last bits of what is trained. What a run takes is an estimate.
import { PASS_TOKENS, passBudget } from "../data/batches.ts";
import { TunesmithError } from "../errors.ts";
import { writeFileAtomically } from "../model/atomic-write.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { loraShapes, tensorShapes } from "../model/tensor-shapes.ts";
import { WHOLE_STEP_TOKENS } from "./decoder-runner.ts";
import { HEAD_ROWS } from "./head-graphs.ts";
import type { LoraPlan } from "./lora-parameters.ts";
import { readOwnJson } from "./own-files.ts";

export interface PassPlan {
  /** Tokens that short rows may share a pass up to; a longer row is a pass of its own. */
  passTokens: number;
  /** Longest pass that runs as one graph; longer ones run layer by layer, each layer twice. */
  wholeStepTokens: number;
}

/** From the fastest to the one that takes least. */
export const PASS_PLANS: readonly [PassPlan, ...PassPlan[]] = [
  { passTokens: PASS_TOKENS, wholeStepTokens: WHOLE_STEP_TOKENS },
  { passTokens: PASS_TOKENS, wholeStepTokens: PASS_TOKENS },
  { passTokens: 128, wholeStepTokens: 128 },
  { passTokens: 128, wholeStepTokens: 0 },
];

/** Process, runtime and compiled graphs, before weights and activations. */
const PROCESS_BYTES = 250e6;
/** Activations of a token, by layer and hidden width: 1.6 MB at 30 layers of 576 (docs/log.md). */
const ACTIVATION_BYTES = 1.6e6 / (30 * 576);
/** Logits, their exponentials and their gradient are in memory together. */
const LOGIT_COPIES = 3;

export function baseParameterCount(config: ModelConfig): number {
  return [...tensorShapes(config).values()]
    .map((shape) => shape.reduce((product, size) => product * size, 1))
    .reduce((sum, count) => sum + count, 0);
}

export function loraParameterCount(config: ModelConfig, lora: LoraPlan): number {
  return (
    config.layerCount *
    lora.targetModules
      .map((target) => loraShapes(config, target, lora.rank))
      .reduce((sum, { a, b }) => sum + a[0] * a[1] + b[0] * b[1], 0)
  );
}

export interface RunSize {
  config: ModelConfig;
  lora: LoraPlan;
  /** Tokens of the longest example, of a pair both of its rows. */
  longest: number;
  /** Leading tokens that examples share: what a pass of several of them may have beyond its own. */
  sharedTokens: number;
  /** Examples of a step. */
  batchSize: number;
}

/** Tokens of the largest pass there may be. */
function largestPass({ longest, sharedTokens, batchSize }: RunSize, { passTokens }: PassPlan): number {
  return Math.max(longest, Math.min(passBudget(sharedTokens, passTokens), batchSize * longest));
}

/** Bytes of the trainer process at its peak: weights, parameters with gradient and two moments, and the largest pass. */
export function trainingBytes(size: RunSize, plan: PassPlan): number {
  const { config, lora } = size;
  const { layerCount, hiddenSize, vocabSize } = config;
  const largest = largestPass(size, plan);
  const whole = Math.min(largest, plan.wholeStepTokens);
  const wholeBytes =
    whole * ACTIVATION_BYTES * layerCount * hiddenSize + LOGIT_COPIES * 4 * whole * vocabSize;
  // The inputs of all layers, and one layer forward and backward.
  const layerBytes =
    largest * hiddenSize * (4 * layerCount + 2 * ACTIVATION_BYTES) + LOGIT_COPIES * 4 * HEAD_ROWS * vocabSize;
  const passBytes = Math.max(wholeBytes, largest > plan.wholeStepTokens ? layerBytes : 0);
  const stateBytes = 4 * baseParameterCount(config) + 16 * loraParameterCount(config, lora);
  return Math.round(PROCESS_BYTES + stateBytes + passBytes);
}

export interface ChosenPlan extends PassPlan {
  neededBytes: number;
  /** At full speed. */
  fullBytes: number;
  availableBytes: number;
}

/** The fastest plan that fits; null where none does. */
export function fittingPlan(size: RunSize, availableBytes: number): ChosenPlan | null {
  const fullBytes = trainingBytes(size, PASS_PLANS[0]);
  for (const plan of PASS_PLANS) {
    const neededBytes = trainingBytes(size, plan);
    if (neededBytes <= availableBytes) return { ...plan, neededBytes, fullBytes, availableBytes };
  }
  return null;
}

export const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

export function isFullSpeed(plan: PassPlan): boolean {
  const [full] = PASS_PLANS;
  return plan.passTokens === full.passTokens && plan.wholeStepTokens === full.wholeStepTokens;
}

/** What a plan does for its memory, in a clause. */
export function describePlan({ wholeStepTokens }: PassPlan): string {
  if (wholeStepTokens === 0)
    return "computes each layer twice, in small passes, which takes about half as long again";
  if (wholeStepTokens < PASS_TOKENS) return "trains in smaller passes, which takes somewhat longer";
  return "computes the layers of long rows twice, which takes somewhat longer";
}

/**
 * The plan of a job: the one its directory holds, or a new one, which is written there. What the run is like is asked for only where
 * `most`, which it does not exceed in anything, does not fit at full speed; its bytes then stand in the plan. Throws TunesmithError
 * (insufficient_memory).
 */
export async function takePlan(
  path: string,
  most: RunSize,
  measure: () => Promise<RunSize>,
  available: number,
): Promise<ChosenPlan> {
  const earlier = await readOwnJson(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (earlier !== null) return earlier as ChosenPlan;
  const planned = fittingPlan(most, available);
  const plan = planned !== null && isFullSpeed(planned) ? planned : await fitted(measure, available);
  await writeFileAtomically(path, [`${JSON.stringify(plan)}\n`]);
  return plan;
}

async function fitted(measure: () => Promise<RunSize>, available: number): Promise<ChosenPlan> {
  const size = await measure();
  const plan = fittingPlan(size, available);
  if (plan === null) throw tooLittleMemory(size, available);
  return plan;
}

function tooLittleMemory(size: RunSize, availableBytes: number): TunesmithError {
  const least = trainingBytes(size, PASS_PLANS.at(-1) ?? PASS_PLANS[0]);
  return new TunesmithError(
    `Training needs about ${gigabytes(least)} of memory even in small passes and layer by layer, and ${gigabytes(availableBytes)} are available. Free some or raise the limit, take a smaller base model, or shorten the longest of the rows (${size.longest} tokens), then create the job again.`,
    { code: "insufficient_memory" },
  );
}

// What a run would need before it starts: the model's own tokenizer and template for counting tokens, and the figures of the
// run. Times come from training steps on a few of the rows, or, unmeasured, from an assumed speed, and say which.
import { totalmem } from "node:os";
import type { Example } from "../data/dataset.ts";
import { createChatTemplate } from "../data/chat-template.ts";
import type { CostEstimate, TokenFacts } from "../data/preflight/report.ts";
import type { RowEncoding } from "../data/preflight/token-facts.ts";
import { encodeExample } from "../data/supervised-example.ts";
import type { SupervisedExample } from "../data/supervised-example.ts";
import { createTokenizer } from "../data/tokenizer.ts";
import { openBaseModel } from "../model/base-model.ts";
import { loadDecoderWeights } from "../model/decoder-weights.ts";
import { InvalidRequest } from "../errors.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { DecoderRunner } from "./decoder-runner.ts";
import { LoraParameters, type LoraPlan } from "./lora-parameters.ts";
import type { TrainingMethod } from "./job-directory.ts";
import {
  baseParameterCount,
  describePlan,
  fittingPlan,
  isFullSpeed,
  loraParameterCount,
  PASS_PLANS,
  trainingBytes,
} from "./memory-plan.ts";
import { AdamW } from "./optimizer.ts";
import { SUPERVISED_LOSS } from "./loss.ts";
import { trainStep } from "./train-step.ts";

export interface PreflightModel {
  encoding: RowEncoding;
  config: ModelConfig;
}

/** Reads headers, tokenizer and template; no weights. Throws UnsupportedModel. */
export async function openPreflightModel(path: string, maxLength: number): Promise<PreflightModel> {
  const model = await openBaseModel(path);
  try {
    return {
      config: model.config,
      encoding: {
        tokenizer: createTokenizer(model.tokenizer),
        template: createChatTemplate(model.tokenizer),
        maxLength: Math.min(maxLength, model.config.maxPositions),
      },
    };
  } finally {
    await model.close();
  }
}

/** Throws InvalidRequest where the model reads fewer tokens than an example is to have: cutting at less than was asked for would be silent. */
export async function requireContext(
  baseModel: { id?: string; path: string },
  maxLength: number,
  method: TrainingMethod,
): Promise<void> {
  const model = await openBaseModel(baseModel.path);
  await model.close();
  const { maxPositions } = model.config;
  if (maxLength <= maxPositions) return;
  throw new InvalidRequest(
    `The base model at ${baseModel.path} reads at most ${maxPositions} tokens, and the job asks for a max_length of ${maxLength}. Ask for ${maxPositions} or fewer.`,
    { code: "max_length_above_context", param: `method.${method}.hyperparameters.max_length` },
  );
}

/** Multiplications and additions a second of an ordinary desktop's processor in matrix products. */
const ASSUMED_FLOPS = 120e9;
/** A token costs 2 operations a parameter forward and 2 backward: frozen weights need no gradient of their own. */
const FLOPS_A_PARAMETER = 4;
/** Loading the weights and compiling the graphs where it was not measured: on an ordinary desktop, for a model of 135M parameters. Seconds. */
const ASSUMED_START_SECONDS = 4;
/** What a run does besides: its process starts, reads its data and writes checkpoint and adapter. Seconds. */
const AROUND_SECONDS = 2;
/** A token of validation runs forward only. */
const VALIDATION_TOKEN = 0.5;

/** Epochs' work beside the epochs: the reference's log-probabilities of preference data, once forward without backward. */
const EXTRA_EPOCHS: Readonly<Record<TrainingMethod, number>> = { supervised: 0, dpo: 0.5 };

export interface CostInputs {
  method: TrainingMethod;
  config: ModelConfig;
  lora: LoraPlan;
  tokens: TokenFacts;
  examples: number;
  /** Tokens of the validation file, which is measured whole at each epoch's end. */
  validationTokens: number;
  epochs: number;
  batchSize: number;
  learningRateMultiplier: number;
  /** As measured here; null: assumed. */
  speed: MeasuredSpeed | null;
  /** What a run may take. */
  availableBytes: number;
}

export function estimateCost(inputs: CostInputs): CostEstimate {
  const { config, lora, tokens, examples, epochs, batchSize, learningRateMultiplier } = inputs;
  const baseParameters = baseParameterCount(config);
  const trainableParameters = loraParameterCount(config, lora);
  const size = {
    ...{ config, lora },
    longest: tokens.longestPass,
    sharedTokens: inputs.method === "dpo" ? 0 : tokens.sharedTokens,
    batchSize,
  };
  const plan = fittingPlan(size, inputs.availableBytes);
  const [full] = PASS_PLANS;
  const { tokensPerSecond, startSeconds } = inputs.speed ?? {
    tokensPerSecond: ASSUMED_FLOPS / (FLOPS_A_PARAMETER * baseParameters),
    startSeconds: ASSUMED_START_SECONDS,
  };
  const computedTokens =
    tokens.tokens * (epochs + EXTRA_EPOCHS[inputs.method]) +
    inputs.validationTokens * epochs * VALIDATION_TOKEN;
  return {
    epochs,
    batchSize,
    learningRateMultiplier,
    steps: Math.ceil(examples / batchSize) * epochs,
    trainableParameters,
    baseParameters,
    // float32; the header with names and shapes is some kilobytes.
    adapterBytes: trainableParameters * 4,
    trainedTokens: tokens.trainedTokens * epochs,
    memoryBytes: plan?.neededBytes ?? trainingBytes(size, PASS_PLANS.at(-1) ?? full),
    fullSpeedMemoryBytes: trainingBytes(size, full),
    machineMemoryBytes: totalmem(),
    memoryPlan: plan === null ? null : isFullSpeed(plan) ? "full_speed" : describePlan(plan),
    seconds: Math.round(AROUND_SECONDS + startSeconds + computedTokens / tokensPerSecond),
    secondsFrom: inputs.speed === null ? "assumed" : "measured",
  };
}

const longestOf = (batch: readonly SupervisedExample[]) =>
  Math.max(...batch.map(({ tokens }) => tokens.length));

export interface MeasuredSpeed {
  /** Of training steps, tokens without loss included. */
  tokensPerSecond: number;
  /** Before the first step, and what the first steps take longer than others. */
  startSeconds: number;
}

/**
 * Trains a few steps on rows of the file and throws the result away. Loads the weights and takes the memory of a run. Null without
 * a row to train on.
 */
export async function measureSpeed(
  path: string,
  rows: readonly Example[],
  options: {
    encoding: RowEncoding;
    lora: LoraPlan;
    batchSize: number;
    threads: number;
    signal?: AbortSignal;
  },
): Promise<MeasuredSpeed | null> {
  const { encoding, lora, batchSize, threads, signal } = options;
  const examples = rows.flatMap(({ messages, tools }) => {
    try {
      const example = encodeExample(messages, tools, encoding);
      return example.supervisedTokens > 0 ? [example] : [];
    } catch {
      return []; // a fault of the report, and no row to train on
    }
  });
  if (examples.length === 0) return null;
  const began = performance.now();
  const model = await openBaseModel(path);
  const weights = loadDecoderWeights(model, encoding.maxLength);
  await model.close();
  const parameters = new LoraParameters(model.config, lora);
  parameters.initialize(0);
  const optimizer = new AdamW(parameters.data.length, {
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weightDecay: 0,
  });
  const runner = new DecoderRunner({ config: model.config, weights, parameters, lora, threads });
  try {
    return await timeSteps();
  } finally {
    await runner.release();
  }

  async function timeSteps(): Promise<MeasuredSpeed> {
    const warmUp = { tokens: 0, seconds: 0 };
    const steady = { tokens: 0, seconds: 0 };
    let since = began;
    const batches: SupervisedExample[][] = [];
    for (let start = 0; start < examples.length; start += batchSize)
      batches.push(examples.slice(start, start + batchSize));
    const byLength = [...batches].sort((a, b) => longestOf(b) - longestOf(a));
    // Rows of every kind are met before any is timed; all of them are timed then.
    const warmUps = byLength.length > 1 ? [...byLength.slice(0, 1), ...byLength.slice(-1)] : byLength;
    for (const [step, batch] of [...warmUps, ...batches].entries()) {
      await trainStep(SUPERVISED_LOSS, runner, parameters, optimizer, batch, {
        learningRate: 1e-6,
        clipNorm: 1,
        dropoutStream: [0, 0, step],
        ...(signal === undefined ? {} : { signal }),
      });
      const now = performance.now();
      const counted = step < warmUps.length ? warmUp : steady;
      counted.seconds += (now - since) / 1000;
      counted.tokens += batch.reduce((sum, example) => sum + example.tokens.length, 0);
      since = now;
    }
    const tokensPerSecond = steady.tokens / steady.seconds;
    return { tokensPerSecond, startSeconds: Math.max(0, warmUp.seconds - warmUp.tokens / tokensPerSecond) };
  }
}

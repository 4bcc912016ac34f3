// What "auto" means: OpenAI's observed rules for epochs and batch size, and our recipe per base model. It knows no data
// beyond the number of examples.
import type { JobRecipe, TrainingMethod } from "../training/job-directory.ts";

/** A hyperparameter as the client gave it. */
export type AutoNumber = number | "auto";

export interface RequestedHyperparameters {
  nEpochs: AutoNumber;
  batchSize: AutoNumber;
  learningRateMultiplier: AutoNumber;
  /** Of DPO alone. */
  beta?: AutoNumber | undefined;
}

export interface ResolvedHyperparameters {
  nEpochs: number;
  batchSize: number;
  learningRateMultiplier: number;
  beta?: number;
}

/** The part of a recipe that depends on the base model alone. */
export interface BaseModelRecipe {
  /** Of supervised training; multiplied by the learning-rate multiplier it gives the peak learning rate. */
  baseLearningRate: number;
  lora: JobRecipe["lora"];
  warmupRatio: number;
  weightDecay: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  clipNorm: number;
  /** Tokens; the trainer lowers it to the model's own context. */
  maxLength: number;
}

/** OpenAI's jobs resolve "auto" to 1.8-2; a user's explicit multiplier therefore means the same as it did there. */
const AUTO_LEARNING_RATE_MULTIPLIER = 2;

/** The paper's value for all but one of its tasks (arXiv:2305.18290, appendix B), TRL's default and the one in OpenAI's guide. */
const AUTO_BETA = 0.1;

/**
 * What the base model's learning rate is multiplied by for each method, so that a multiplier means "more" or "less" of what suits
 * the method. A preference loss needs no new text learned, only the odds of known text moved.
 */
const METHOD_RATES: Readonly<Record<TrainingMethod, number>> = { supervised: 1, dpo: 0.1 };

/** Wanted passes over the data when the data set is neither tiny nor huge. */
const TARGET_EPOCHS = 3;
/** Fewer seen examples than this teach little: tiny data sets get more epochs to reach it. */
const MIN_EXAMPLES_SEEN = 100;
/** More than this many epochs on a tiny set only memorises it. */
const MAX_AUTO_EPOCHS = 25;
/** More seen examples than this cost time without much gain: huge data sets get fewer epochs. */
const MAX_EXAMPLES_SEEN = 25_000;

/** Share of the data set in one optimizer step. */
const BATCH_SHARE = 0.002;
const MAX_AUTO_BATCH_SIZE = 256;

/**
 * The recipe of a base model that has no line of its own below: the peak rate is 2e-4 with the automatic multiplier of 2
 * (arXiv:2305.14314, table 9), and all seven linear layers are adapted, because that matters more than rank (its figure 2).
 */
const DEFAULT_RECIPE: BaseModelRecipe = {
  baseLearningRate: 1e-4,
  lora: {
    rank: 8,
    alpha: 16,
    dropout: 0,
    targetModules: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
  },
  warmupRatio: 0.05,
  weightDecay: 0,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  clipNorm: 1,
  // Twice the longest example of ordinary chat data, and still a few hundred MB of activations on the smallest machine.
  maxLength: 2048,
};

/** One line per base model of the catalogue that needs other values than the default, each with its reason. */
const RECIPES: Readonly<Record<string, Partial<BaseModelRecipe>>> = {
  // A small model takes, and on a few hundred examples needs, larger steps: 1e-3 with the automatic multiplier. Clipping
  // the gradient norm keeps that stable.
  "smollm2-135m-instruct": { baseLearningRate: 5e-4 },
};

export function recipeOf(baseModelId: string): BaseModelRecipe {
  return { ...DEFAULT_RECIPE, ...RECIPES[baseModelId] };
}

/** The peak learning rate. */
export function learningRateOf(
  { baseLearningRate }: BaseModelRecipe,
  method: TrainingMethod,
  multiplier: number,
): number {
  return baseLearningRate * METHOD_RATES[method] * multiplier;
}

/** Replaces each "auto" by the number it stands for with this many training examples. */
export function resolveHyperparameters(
  requested: RequestedHyperparameters,
  exampleCount: number,
): ResolvedHyperparameters {
  const value = (given: AutoNumber, automatic: number): number => (given === "auto" ? automatic : given);
  return {
    nEpochs: value(requested.nEpochs, autoEpochs(exampleCount)),
    batchSize: value(requested.batchSize, autoBatchSize(exampleCount)),
    learningRateMultiplier: value(requested.learningRateMultiplier, AUTO_LEARNING_RATE_MULTIPLIER),
    ...(requested.beta === undefined ? {} : { beta: value(requested.beta, AUTO_BETA) }),
  };
}

function autoEpochs(exampleCount: number): number {
  if (TARGET_EPOCHS * exampleCount < MIN_EXAMPLES_SEEN) {
    return Math.min(MAX_AUTO_EPOCHS, Math.floor(MIN_EXAMPLES_SEEN / exampleCount));
  }
  if (TARGET_EPOCHS * exampleCount > MAX_EXAMPLES_SEEN) {
    return Math.max(1, Math.floor(MAX_EXAMPLES_SEEN / exampleCount));
  }
  return TARGET_EPOCHS;
}

function autoBatchSize(exampleCount: number): number {
  return Math.min(MAX_AUTO_BATCH_SIZE, Math.max(1, Math.round(BATCH_SHARE * exampleCount)));
}

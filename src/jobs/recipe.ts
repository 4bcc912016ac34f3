// The recipe of a job: its hyperparameters, what its owner changed beside them, and the base model's own recipe, as job.json holds
// them. Also what cannot go together. It reads no file and knows no statuses.
import { InvalidRequest } from "../errors.ts";
import type { Job } from "../store/fine-tuning-rows.ts";
import { LORA_TARGETS, type JobRecipe } from "../training/job-directory.ts";
import type { RequestedHyperparameters as WireHyperparameters } from "../wire/fine-tuning.ts";
import { recipeAdditions, type RecipeAdditions } from "../wire/recipe.ts";
import {
  learningRateOf,
  recipeOf,
  resolveHyperparameters,
  type BaseModelRecipe,
  type RequestedHyperparameters,
} from "./hyperparameters.ts";

/** The base model's recipe with what the job's owner changed of it. */
export function recipeWith(baseModelId: string, additions: RecipeAdditions): BaseModelRecipe {
  const recipe = recipeOf(baseModelId);
  return {
    ...recipe,
    lora: loraWith(recipe.lora, additions.lora),
    maxLength: additions.max_length ?? recipe.maxLength,
    warmupRatio: additions.warmup_ratio ?? recipe.warmupRatio,
    weightDecay: additions.weight_decay ?? recipe.weightDecay,
  };
}

/** A LoRA plan with the given members changed; alpha keeps its ratio to the rank, so that a rank alone is no louder or quieter. */
export function loraWith(start: JobRecipe["lora"], wanted: RecipeAdditions["lora"] = {}): JobRecipe["lora"] {
  const rank = wanted.rank ?? start.rank;
  const modules = new Set<string>(wanted.target_modules ?? start.targetModules);
  return {
    rank,
    alpha: wanted.alpha ?? (start.alpha / start.rank) * rank,
    dropout: wanted.dropout ?? start.dropout,
    targetModules: LORA_TARGETS.filter((target) => modules.has(target)),
  };
}

/**
 * The plan of a run that goes on from an adapter: the adapter's own, but for the dropout. Throws InvalidRequest where another one
 * was asked for, since its weights would not fit or would count differently.
 */
export function continuedLora(
  adapter: JobRecipe["lora"],
  wanted: RecipeAdditions["lora"] = {},
  { model, method }: Pick<Job, "model" | "method">,
): JobRecipe["lora"] {
  const lora = loraWith(adapter, { ...wanted, alpha: wanted.alpha ?? adapter.alpha });
  const members = [
    ["rank", adapter.rank, lora.rank],
    ["alpha", adapter.alpha, lora.alpha],
    ["target_modules", adapter.targetModules.join(", "), lora.targetModules.join(", ")],
  ] as const;
  for (const [name, has, asked] of members) {
    if (has === asked) continue;
    throw new InvalidRequest(
      `The job goes on from ${model}, whose adapter has ${name} ${has}, and asks for ${asked}. Leave 'lora.${name}' out, or start from the base model.`,
      { code: "lora_mismatch", param: `method.${method}.hyperparameters.lora.${name}` },
    );
  }
  return lora;
}

/** A job's hyperparameters as the rules for "auto" take them. */
export function toRequested(hyperparameters: WireHyperparameters): RequestedHyperparameters {
  return {
    nEpochs: hyperparameters.n_epochs,
    batchSize: hyperparameters.batch_size,
    learningRateMultiplier: hyperparameters.learning_rate_multiplier,
    beta: hyperparameters.beta,
  };
}

/** Numbers for every "auto"; additions stay as they were asked for, and a LoRA plan that was asked for gets all its members. */
export function resolved(job: Job, examples: number, lora: JobRecipe["lora"]): WireHyperparameters {
  const numbers = resolveHyperparameters(toRequested(job.hyperparameters), examples);
  const additions = recipeAdditions(job.hyperparameters);
  const { rank, alpha, dropout, targetModules } = lora;
  return {
    n_epochs: numbers.nEpochs,
    batch_size: numbers.batchSize,
    learning_rate_multiplier: numbers.learningRateMultiplier,
    ...(numbers.beta === undefined ? {} : { beta: numbers.beta }),
    ...additions,
    ...(additions.lora === undefined
      ? {}
      : { lora: { rank, alpha, dropout, target_modules: targetModules } }),
  };
}

/** The recipe of a job that has left validation. `initial`: what it goes on from. */
export function buildRecipe(
  job: Job,
  parts: Pick<JobRecipe, "baseModel" | "trainingData" | "validationData" | "threads"> & {
    initial: { lora: JobRecipe["lora"]; adapter: NonNullable<JobRecipe["initialAdapter"]> } | null;
  },
): JobRecipe {
  const { n_epochs, batch_size, learning_rate_multiplier, beta } = job.hyperparameters;
  if (
    n_epochs === "auto" ||
    batch_size === "auto" ||
    learning_rate_multiplier === "auto" ||
    beta === "auto"
  ) {
    throw new Error(`internal: job ${job.id} has left validation with hyperparameters still "auto"`);
  }
  const { initial, ...rest } = parts;
  const additions = recipeAdditions(job.hyperparameters);
  const model = recipeWith(job.baseModel, additions);
  return {
    version: 1,
    jobId: job.id,
    method: job.method,
    hyperparameters: {
      epochs: n_epochs,
      batchSize: batch_size,
      learningRateMultiplier: learning_rate_multiplier,
      learningRate: learningRateOf(model, job.method, learning_rate_multiplier),
      warmupRatio: model.warmupRatio,
      weightDecay: model.weightDecay,
      beta1: model.beta1,
      beta2: model.beta2,
      epsilon: model.epsilon,
      clipNorm: model.clipNorm,
      ...(beta === undefined ? {} : { beta }),
    },
    lora: initial === null ? model.lora : continuedLora(initial.lora, additions.lora, job),
    ...(initial === null ? {} : { initialAdapter: initial.adapter }),
    ...(additions.early_stopping === undefined ? {} : { earlyStopping: additions.early_stopping }),
    seed: job.seed,
    maxLength: model.maxLength,
    ...rest,
  };
}

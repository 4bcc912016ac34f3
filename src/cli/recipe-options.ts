// Options of the command line for what a job changes of its recipe beside OpenAI's hyperparameters, and the request's members they
// stand for. What the values may be is the schema's to say.
import { z } from "zod";
import {
  LORA_MODULES,
  recipeAdditions,
  recipeAdditionsRequest,
  type RecipeAdditions,
} from "../wire/recipe.ts";
import { parseRequest } from "../wire/validation.ts";

export interface RecipeOptions {
  loraRank?: number;
  loraAlpha?: number;
  loraDropout?: number;
  loraTargets?: string[];
  maxLength?: number;
  earlyStopping?: number;
  warmupRatio?: number;
  weightDecay?: number;
}

/** The layers, for the help text. */
export const LORA_TARGETS_HELP = `layers with an adapter, separated by commas: ${LORA_MODULES.join(", ")}`;

/** Only what was given. Throws InvalidRequest that names the member at fault, so that no file is uploaded for a job that is refused. */
export function recipeMembers(options: RecipeOptions): RecipeAdditions {
  const lora = {
    rank: options.loraRank,
    alpha: options.loraAlpha,
    dropout: options.loraDropout,
    target_modules: options.loraTargets,
  };
  const members = {
    lora: Object.values(lora).every((value) => value === undefined) ? undefined : lora,
    max_length: options.maxLength,
    early_stopping: options.earlyStopping === undefined ? undefined : { patience: options.earlyStopping },
    warmup_ratio: options.warmupRatio,
    weight_decay: options.weightDecay,
  };
  return recipeAdditions(parseRequest(z.strictObject(recipeAdditionsRequest), members));
}

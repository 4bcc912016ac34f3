// What a client may change of a job's recipe beside OpenAI's hyperparameters: additions of ours that ride next to them through the
// official clients' `extra_body`. A job that uses none of them shows none of them.
import { z } from "zod";
import { addFault, decimal, integer, onlyHarmless } from "./validation.ts";

/** The linear layers of a decoder that can be adapted, by PEFT's names. */
export const LORA_MODULES = [
  "q_proj",
  "k_proj",
  "v_proj",
  "o_proj",
  "gate_proj",
  "up_proj",
  "down_proj",
] as const;

/** A larger rank is full fine-tuning at LoRA's price: optimizer and checkpoints then outgrow a small base model. */
export const MAX_LORA_RANK = 256;
/** Four times the largest rank: what makes an adapter louder than that is the learning rate's to do. */
const MAX_LORA_ALPHA = 1024;
/** Above it hardly a token reaches the adapter. */
const MAX_LORA_DROPOUT = 0.9;
/** Fewer tokens hold no chat of any template. */
const MIN_TRAINED_LENGTH = 16;
/** Attention takes the square of it; what serving reads at once is as long. */
const MAX_TRAINED_LENGTH = 8192;
/** As many epochs as a job can have. */
const MAX_PATIENCE = 50;
/** A rate that still rises in the second half of a run has no time left to fall. */
const MAX_WARMUP_RATIO = 0.5;
/** At 1 and an ordinary rate a matrix already loses a tenth of itself in a hundred steps. */
const MAX_WEIGHT_DECAY = 1;

const modules = z
  .array(z.enum(LORA_MODULES))
  .min(1)
  .superRefine((names, context) => {
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice === undefined) return;
    addFault(context, {
      code: "invalid_value",
      message: `Invalid '{param}': expected each layer once, but got '${twice}' twice.`,
    });
  })
  .meta({ uniqueItems: true });

/** The members, to stand among a method's hyperparameters. */
export const recipeAdditionsRequest = {
  lora: z
    .strictObject({
      rank: integer({ min: 1, max: MAX_LORA_RANK }).optional(),
      alpha: decimal({ above: 0, max: MAX_LORA_ALPHA }).optional(),
      dropout: decimal({ min: 0, max: MAX_LORA_DROPOUT }).optional(),
      target_modules: modules.optional(),
    })
    .optional(),
  /** Tokens at which an example is cut. */
  max_length: integer({ min: MIN_TRAINED_LENGTH, max: MAX_TRAINED_LENGTH }).optional(),
  /** Ends the job after so many epochs without a lower full validation loss; its model is then the best epoch's. */
  early_stopping: z.strictObject({ patience: integer({ min: 1, max: MAX_PATIENCE }) }).optional(),
  /** Share of the steps in which the rate rises. */
  warmup_ratio: decimal({ min: 0, max: MAX_WARMUP_RATIO }).optional(),
  weight_decay: decimal({ min: 0, max: MAX_WEIGHT_DECAY }).optional(),
  packing: onlyHarmless(
    [false],
    "'{param}': rows of different lengths share a pass here without padding, so there is nothing to pack.",
  ),
};

const ADDITION_NAMES = ["lora", "max_length", "early_stopping", "warmup_ratio", "weight_decay"] as const;

/** What was asked for; once a job is validated, `lora` has all its members. */
export interface RecipeAdditions {
  lora?: {
    rank?: number;
    alpha?: number;
    dropout?: number;
    target_modules?: (typeof LORA_MODULES)[number][];
  };
  max_length?: number;
  early_stopping?: { patience: number };
  warmup_ratio?: number;
  weight_decay?: number;
}

/** The members of the first of several places that has them, and no others. */
export function recipeAdditions(...places: readonly object[]): RecipeAdditions {
  const given = ADDITION_NAMES.flatMap((name) => {
    const found = places.map((place) => (place as Record<string, unknown>)[name]);
    const first = found.find((value) => value !== undefined);
    return first === undefined ? [] : [[name, first] as const];
  });
  return Object.fromEntries(given);
}

/** The same members as a job shows them. */
export const recipeAdditionsShown = {
  lora: z
    .object({
      rank: z.int().optional(),
      alpha: z.number().optional(),
      dropout: z.number().optional(),
      target_modules: z.array(z.enum(LORA_MODULES)).optional(),
    })
    .optional(),
  max_length: z.int().optional(),
  early_stopping: z.object({ patience: z.int() }).optional(),
  warmup_ratio: z.number().optional(),
  weight_decay: z.number().optional(),
};

// OpenAI's job as a job of this server: what of its recipe carries over, what does not, and which jobs cannot be had here at all.
import { MAX_SUFFIX_LENGTH, type CreateJobRequest } from "../wire/fine-tuning.ts";
import { METADATA_MAX_PAIRS } from "../wire/validation.ts";
import { jobFailure, methodOf, type OpenAiHyperparameters, type OpenAiJob } from "./openai-objects.ts";

/** In a job's metadata here: what it repeats, and the hash by which a second run knows it again. */
export const ORIGIN_KEY = "openai_origin";
export const RECIPE_KEY = "openai_recipe_sha256";
const OWN_PAIRS = 2;

/** Why a job cannot be trained here, as a sentence; null when it can. */
export function refusalOf(job: OpenAiJob): string | null {
  const method = methodOf(job);
  if (method === "reinforcement")
    return "Its method is reinforcement, which this server does not train by; supervised and dpo it does.";
  if (method !== "supervised" && method !== "dpo")
    return `Its method "${method}" is not known here; supervised and dpo are.`;
  if (job.status === "succeeded") return null;
  const failure = jobFailure(job);
  return `It is ${job.status} at OpenAI${failure === null ? "" : ` (${failure})`}: only what succeeded there is repeated.`;
}

export interface CarriedRecipe {
  /** Without model and files. */
  request: Pick<CreateJobRequest, "method" | "seed" | "suffix" | "metadata">;
  /** One sentence for each thing of OpenAI's job that has no counterpart. */
  notCarried: string[];
}

/** Hyperparameters as OpenAI resolved them. The learning-rate multiplier scales the base model's own rate here as it does there. */
export function carriedRecipe(job: OpenAiJob): CarriedRecipe {
  const notCarried: string[] = [];
  const isPreference = methodOf(job) === "dpo";
  const given =
    (isPreference ? job.method?.dpo : job.method?.supervised)?.hyperparameters ?? job.hyperparameters;
  const hyperparameters = {
    n_epochs: given?.n_epochs ?? "auto",
    batch_size: given?.batch_size ?? "auto",
    learning_rate_multiplier: given?.learning_rate_multiplier ?? "auto",
    ...(isPreference ? { beta: given?.beta ?? "auto" } : {}),
  } as const;
  for (const name of unknownSettings(given, Object.keys(hyperparameters)))
    notCarried.push(`hyperparameter ${name}: nothing here corresponds to it.`);
  if ((job.integrations ?? []).length > 0)
    notCarried.push("integrations: metrics stay in the job's events and its result file.");
  const suffix = (job.user_provided_suffix ?? job.suffix ?? "").slice(0, MAX_SUFFIX_LENGTH);
  const room = METADATA_MAX_PAIRS - OWN_PAIRS;
  const pairs = Object.entries(job.metadata ?? {}).filter(
    ([key]) => key !== ORIGIN_KEY && key !== RECIPE_KEY,
  );
  if (pairs.length > room)
    notCarried.push(`metadata beyond ${room} pairs: ${OWN_PAIRS} say where the job is from.`);
  return {
    request: {
      method: isPreference
        ? { type: "dpo", dpo: { hyperparameters } }
        : { type: "supervised", supervised: { hyperparameters } },
      ...(typeof job.seed === "number" ? { seed: job.seed } : {}),
      ...(suffix === "" ? {} : { suffix }),
      metadata: Object.fromEntries([...pairs.slice(0, room), [ORIGIN_KEY, job.id]]),
    },
    notCarried,
  };
}

function unknownSettings(given: OpenAiHyperparameters, known: readonly string[]): string[] {
  return Object.entries(given ?? {})
    .filter(([name, value]) => !known.includes(name) && value !== null && name !== "beta")
    .map(([name]) => name);
}

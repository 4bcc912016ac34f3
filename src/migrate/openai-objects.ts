// OpenAI's objects as far as the way out reads them. Every member that OpenAI does not promise may be null or missing, and what is not
// named here is kept as it came: real answers differ from the published schemas.
import { z } from "zod";

export function openAiPage<Element extends { id: string }>(element: z.ZodType<Element>) {
  return z.looseObject({ data: z.array(element), has_more: z.boolean().nullish() });
}

export const openAiFile = z.looseObject({
  id: z.string().min(1),
  bytes: z.int().min(0).nullish(),
  created_at: z.int().nullish(),
  expires_at: z.int().nullish(),
  filename: z.string().nullish(),
  purpose: z.string().nullish(),
});
export type OpenAiFile = z.infer<typeof openAiFile>;

const setting = z.union([z.literal("auto"), z.number()]).nullish();
const hyperparameters = z
  .looseObject({
    n_epochs: setting,
    batch_size: setting,
    learning_rate_multiplier: setting,
    beta: setting,
  })
  .nullish();
export type OpenAiHyperparameters = z.infer<typeof hyperparameters>;

const methodPart = z.looseObject({ hyperparameters }).nullish();

export const openAiJob = z.looseObject({
  id: z.string().min(1),
  model: z.string().min(1),
  created_at: z.int(),
  finished_at: z.int().nullish(),
  fine_tuned_model: z.string().nullish(),
  status: z.string(),
  training_file: z.string(),
  validation_file: z.string().nullish(),
  result_files: z.array(z.string()).nullish(),
  hyperparameters,
  method: z
    .looseObject({ type: z.string(), supervised: methodPart, dpo: methodPart, reinforcement: methodPart })
    .nullish(),
  seed: z.int().nullish(),
  suffix: z.string().nullish(),
  user_provided_suffix: z.string().nullish(),
  metadata: z.record(z.string(), z.string()).nullish(),
  trained_tokens: z.int().nullish(),
  integrations: z.array(z.unknown()).nullish(),
  // {} on a job without an error today, null or all-null members before.
  error: z.unknown(),
});
export type OpenAiJob = z.infer<typeof openAiJob>;

export const openAiModel = z.looseObject({
  id: z.string().min(1),
  created: z.int().nullish(),
  owned_by: z.string().nullish(),
  shutdown_date: z.string().nullish(),
});
export type OpenAiModel = z.infer<typeof openAiModel>;

/** Whatever has an id and is kept as it is: events, checkpoints, runs of evals. */
export const openAiObject = z.looseObject({ id: z.string().min(1) });
export type OpenAiObject = z.infer<typeof openAiObject>;

/** Messages of a stored completion have no id when there are none, and a page of none needs none. */
export const openAiStoredMessage = z.looseObject({ id: z.string().min(1) });

export const openAiEval = z.looseObject({
  id: z.string().min(1),
  name: z.string().nullish(),
  created_at: z.int().nullish(),
});
export type OpenAiEval = z.infer<typeof openAiEval>;

/** A job in one of these never changes again. */
export function isEnded(status: string): boolean {
  return ["succeeded", "failed", "cancelled"].includes(status);
}

/** "code: message" of a job that failed; null for the empty objects and nulls of all others. */
export function jobFailure({ error }: OpenAiJob): string | null {
  if (typeof error !== "object" || error === null) return null;
  const { code, message } = error as { code?: unknown; message?: unknown };
  if (typeof message !== "string") return null;
  return typeof code === "string" ? `${code}: ${message}` : message;
}

/** OpenAI's name of the method; jobs from before there were methods are supervised. */
export function methodOf(job: OpenAiJob): string {
  return job.method?.type ?? "supervised";
}

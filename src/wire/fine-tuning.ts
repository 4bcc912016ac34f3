// Fine-tuning: the request that creates a job, and the job, event and checkpoint objects.
import { z } from "zod";
import {
  gatherMetadata,
  listSchema,
  listWithIdsSchema,
  MAX_PAGE_SIZE,
  metadataFilter,
  pageQuery,
} from "./list.ts";
import {
  recipeAdditions,
  recipeAdditionsRequest,
  recipeAdditionsShown,
  type RecipeAdditions,
} from "./recipe.ts";
import { addFault, decimal, integer, metadata, onlyHarmless, storedText } from "./validation.ts";

export const JOB_STATUSES = [
  "validating_files",
  "queued",
  "running",
  "paused",
  "succeeded",
  "failed",
  "cancelled",
] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

/** A job in one of these never changes again. */
export const TERMINAL_STATUSES = ["succeeded", "failed", "cancelled"] as const satisfies JobStatus[];

export const EVENT_LEVELS = ["info", "warn", "error"] as const;
export type EventLevel = (typeof EVENT_LEVELS)[number];
export const EVENT_TYPES = ["message", "metrics"] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/** Largest seed: a positive signed 32-bit integer, as OpenAI's. */
export const MAX_SEED = 2_147_483_647;
export const MAX_SUFFIX_LENGTH = 64;

const hyperparametersRequest = z
  .strictObject({
    n_epochs: z.union([z.literal("auto"), integer({ min: 1, max: 50 })]).optional(),
    batch_size: z.union([z.literal("auto"), integer({ min: 1, max: 256 })]).optional(),
    learning_rate_multiplier: z.union([z.literal("auto"), decimal({ above: 0 })]).optional(),
    ...recipeAdditionsRequest,
  })
  .meta({ id: "HyperparametersRequest" });
export type HyperparametersRequest = z.infer<typeof hyperparametersRequest>;

const MAX_BETA = 2;

const preferenceHyperparametersRequest = hyperparametersRequest
  .extend({
    /** How strongly the model is held to the one that training starts from. */
    beta: z.union([z.literal("auto"), decimal({ above: 0, max: MAX_BETA })]).optional(),
  })
  .meta({ id: "PreferenceHyperparametersRequest" });

const HYPERPARAMETER_NAMES = [
  "n_epochs",
  "batch_size",
  "learning_rate_multiplier",
  "lora",
  "max_length",
  "early_stopping",
  "warmup_ratio",
  "weight_decay",
] as const;

/** A member that `type` does not name: ignored, whatever it holds. OpenAI's own client's tests send all three. */
const ignored = z.unknown().optional();

const methodRequest = z
  .discriminatedUnion("type", [
    z.strictObject({
      type: z.literal("supervised"),
      supervised: z.strictObject({ hyperparameters: hyperparametersRequest.nullish() }).nullish(),
      dpo: ignored,
      reinforcement: ignored,
    }),
    z.strictObject({
      type: z.literal("dpo"),
      supervised: ignored,
      dpo: z.strictObject({ hyperparameters: preferenceHyperparametersRequest.nullish() }).nullish(),
      reinforcement: ignored,
    }),
    z
      .strictObject({
        type: z.literal("reinforcement").describe("Not implemented."),
        supervised: ignored,
        dpo: ignored,
        reinforcement: ignored,
      })
      .superRefine(({ type }, context) =>
        addFault(context, {
          code: "unsupported_value",
          path: ["type"],
          message: `Unsupported value: '{param}' does not support '${type}' on this server yet. Use 'supervised' or 'dpo'.`,
        }),
      ),
  ])
  .describe("Only the member that `type` names means anything; the others are ignored, whatever they hold.");

export const createJobRequest = z
  .strictObject({
    model: z.string().min(1),
    training_file: z.string(),
    validation_file: z.string().nullish(),
    suffix: storedText().min(1).max(MAX_SUFFIX_LENGTH).nullish(),
    seed: integer({ min: 0, max: MAX_SEED }).nullish(),
    method: methodRequest.nullish(),
    /** Deprecated: the same as method.supervised.hyperparameters. */
    hyperparameters: hyperparametersRequest.nullish(),
    integrations: onlyHarmless(
      [[]],
      "'{param}': this server has no Weights & Biases to send to. The metrics of every step are in the job's events and its result file.",
    ),
    metadata: metadata.nullish(),
  })
  .superRefine((request, context) => {
    const legacy = request.hyperparameters;
    const type = request.method?.type ?? "supervised";
    if (type !== "supervised" && legacy !== undefined && legacy !== null) {
      addFault(context, {
        code: "invalid_value",
        path: ["hyperparameters"],
        message: `Invalid '{param}': it is for supervised jobs alone, and this job's method is '${type}'. Send 'method.${type}.hyperparameters' in its place.`,
      });
      return;
    }
    const nested = methodHyperparameters(request);
    for (const name of HYPERPARAMETER_NAMES) {
      const [inMethod, atTop] = [written(nested?.[name]), written(legacy?.[name])];
      if (inMethod === undefined || atTop === undefined || inMethod === atTop) continue;
      addFault(context, {
        code: "invalid_value",
        path: ["hyperparameters", name],
        message: `Invalid '{param}': ${atTop} contradicts 'method.supervised.hyperparameters.${name}', which is ${inMethod}. Send only the latter.`,
      });
    }
  })
  .superRefine((request, context) => {
    if (typeof request.validation_file === "string") return;
    const method = request.method?.type ?? "supervised";
    const places = [
      { path: ["hyperparameters"], given: request.hyperparameters },
      { path: ["method", method, "hyperparameters"], given: methodHyperparameters(request) },
    ];
    for (const { path, given } of places) {
      if (given?.early_stopping === undefined) continue;
      addFault(context, {
        code: "invalid_value",
        path: [...path, "early_stopping"],
        message:
          "Invalid '{param}': it watches the full validation loss, and this job has no 'validation_file'. Send one, or leave it out.",
      });
    }
  })
  .meta({ id: "CreateFineTuningJobRequest" });

function methodHyperparameters({ method }: { method?: z.infer<typeof methodRequest> | null | undefined }) {
  if (method?.type === "dpo") return method.dpo?.hyperparameters;
  return method?.type === "supervised" ? method.supervised?.hyperparameters : undefined;
}

/** As it stands in a message; undefined stays. */
function written(value: number | string | object | undefined): string | undefined {
  return value === undefined || typeof value === "string" ? value : JSON.stringify(value);
}

export type CreateJobRequest = z.infer<typeof createJobRequest>;

/** The methods that this server trains by. */
export const JOB_METHODS = ["supervised", "dpo"] as const;
export type JobMethod = (typeof JOB_METHODS)[number];

export interface RequestedHyperparameters extends RecipeAdditions {
  n_epochs: number | "auto";
  batch_size: number | "auto";
  learning_rate_multiplier: number | "auto";
  /** Of method dpo, and of no other. */
  beta?: number | "auto";
}

export function requestedMethod(request: CreateJobRequest): JobMethod {
  return request.method?.type === "dpo" ? "dpo" : "supervised";
}

/** What was asked for, from either place, "auto" where nothing was. */
export function requestedHyperparameters(request: CreateJobRequest): RequestedHyperparameters {
  if (request.method?.type === "dpo") {
    const given = request.method.dpo?.hyperparameters ?? {};
    return {
      n_epochs: given.n_epochs ?? "auto",
      batch_size: given.batch_size ?? "auto",
      learning_rate_multiplier: given.learning_rate_multiplier ?? "auto",
      beta: given.beta ?? "auto",
      ...recipeAdditions(given),
    };
  }
  const nested = methodHyperparameters(request) ?? {};
  const legacy = request.hyperparameters ?? {};
  return {
    n_epochs: nested.n_epochs ?? legacy.n_epochs ?? "auto",
    batch_size: nested.batch_size ?? legacy.batch_size ?? "auto",
    learning_rate_multiplier: nested.learning_rate_multiplier ?? legacy.learning_rate_multiplier ?? "auto",
    ...recipeAdditions(nested, legacy),
  };
}

const hyperparameters = z.object({
  n_epochs: z.union([z.literal("auto"), z.int()]),
  batch_size: z.union([z.literal("auto"), z.int()]),
  learning_rate_multiplier: z.union([z.literal("auto"), z.number()]),
  ...recipeAdditionsShown,
});
const preferenceHyperparameters = hyperparameters.extend({
  beta: z.union([z.literal("auto"), z.number()]),
});

export const jobObject = z
  .object({
    object: z.literal("fine_tuning.job"),
    id: z.string(),
    model: z.string(),
    created_at: z.int(),
    finished_at: z.int().nullable(),
    fine_tuned_model: z.string().nullable(),
    organization_id: z.string(),
    result_files: z.array(z.string()),
    status: z.enum(JOB_STATUSES),
    validation_file: z.string().nullable(),
    training_file: z.string(),
    /** Of a supervised job; null for any other method. */
    hyperparameters: hyperparameters.nullable(),
    trained_tokens: z.int().nullable(),
    /** Null or {} on a job without an error, by a setting of the server. */
    error: z
      .union([
        z.object({ code: z.string(), param: z.string().nullable(), message: z.string() }),
        z.strictObject({}),
      ])
      .nullable(),
    user_provided_suffix: z.string().nullable(),
    seed: z.int(),
    estimated_finish: z.int().nullable(),
    integrations: z.array(z.never()),
    metadata: z.record(z.string(), z.string()).nullable(),
    usage_metrics: z.null(),
    shared_with_openai: z.boolean(),
    eval_id: z.string().nullable(),
    method: z.discriminatedUnion("type", [
      z.object({ type: z.literal("supervised"), supervised: z.object({ hyperparameters }) }),
      z.object({ type: z.literal("dpo"), dpo: z.object({ hyperparameters: preferenceHyperparameters }) }),
    ]),
  })
  .meta({ id: "FineTuningJob" });
export const jobList = listSchema(jobObject).meta({ id: "FineTuningJobList" });
export type FineTuningJob = z.infer<typeof jobObject>;

export const jobEventObject = z
  .object({
    object: z.literal("fine_tuning.job.event"),
    id: z.string(),
    created_at: z.int(),
    level: z.enum(EVENT_LEVELS),
    message: z.string(),
    data: z.record(z.string(), z.unknown()),
    type: z.enum(EVENT_TYPES),
  })
  .meta({ id: "FineTuningJobEvent" });
export const jobEventList = listSchema(jobEventObject).meta({ id: "FineTuningJobEventList" });
export type FineTuningJobEvent = z.infer<typeof jobEventObject>;

/** Metrics of one step, as they stand in events and checkpoints: accuracies of tokens are a supervised job's, rewards a DPO job's. */
export const checkpointMetrics = z.object({
  step: z.number(),
  train_loss: z.number().optional(),
  train_mean_token_accuracy: z.number().optional(),
  train_reward_margin: z.number().optional(),
  train_reward_accuracy: z.number().optional(),
  train_chosen_logps: z.number().optional(),
  train_rejected_logps: z.number().optional(),
  valid_loss: z.number().optional(),
  valid_mean_token_accuracy: z.number().optional(),
  valid_reward_margin: z.number().optional(),
  valid_reward_accuracy: z.number().optional(),
  valid_chosen_logps: z.number().optional(),
  valid_rejected_logps: z.number().optional(),
  full_valid_loss: z.number().optional(),
  full_valid_mean_token_accuracy: z.number().optional(),
  full_valid_reward_margin: z.number().optional(),
  full_valid_reward_accuracy: z.number().optional(),
  full_valid_chosen_logps: z.number().optional(),
  full_valid_rejected_logps: z.number().optional(),
});
export type CheckpointMetrics = z.infer<typeof checkpointMetrics>;

export const jobCheckpointObject = z
  .object({
    object: z.literal("fine_tuning.job.checkpoint"),
    id: z.string(),
    created_at: z.int(),
    fine_tuned_model_checkpoint: z.string(),
    fine_tuning_job_id: z.string(),
    metrics: checkpointMetrics,
    step_number: z.int(),
    /** Ours. `best`: of the lowest full validation loss among the job's; false for all without a validation file. */
    tunesmith: z.object({ best: z.boolean() }),
  })
  .meta({ id: "FineTuningJobCheckpoint" });
export const jobCheckpointList = listWithIdsSchema(jobCheckpointObject).meta({
  id: "FineTuningJobCheckpointList",
});
export type FineTuningJobCheckpoint = z.infer<typeof jobCheckpointObject>;

/** Projects that one request may give permissions to. */
export const MAX_PERMISSION_PROJECTS = 1000;

export const createPermissionsRequest = z
  .strictObject({
    project_ids: z.array(z.string().min(1)).min(1).max(MAX_PERMISSION_PROJECTS),
  })
  .meta({ id: "CreateCheckpointPermissionsRequest" });

export const permissionObject = z
  .object({
    object: z.literal("checkpoint.permission"),
    id: z.string(),
    created_at: z.int(),
    project_id: z.string(),
  })
  .meta({ id: "CheckpointPermission" });
export const permissionList = listWithIdsSchema(permissionObject).meta({ id: "CheckpointPermissionList" });
export type CheckpointPermission = z.infer<typeof permissionObject>;

export const permissionDeleted = z
  .object({ id: z.string(), object: z.literal("checkpoint.permission"), deleted: z.literal(true) })
  .meta({ id: "CheckpointPermissionDeleted" });
export type CheckpointPermissionDeleted = z.infer<typeof permissionDeleted>;

export const listPermissionsQuery = pageQuery({ defaultLimit: 10, maxLimit: MAX_PAGE_SIZE }).extend({
  /** Spelled out, here alone in the protocol. */
  order: z.enum(["ascending", "descending"]).default("descending"),
  project_id: z.string().min(1).optional(),
});

export const listJobsQuery = z.preprocess(
  (query) => gatherMetadata(query as Record<string, unknown>),
  pageQuery({ defaultLimit: 20, maxLimit: MAX_PAGE_SIZE }).extend({ metadata: metadataFilter }),
);
export const listEventsQuery = pageQuery({ defaultLimit: 20, maxLimit: MAX_PAGE_SIZE });
export const listCheckpointsQuery = pageQuery({ defaultLimit: 10, maxLimit: MAX_PAGE_SIZE });

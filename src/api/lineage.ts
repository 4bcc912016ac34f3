// /tunesmith/models/{model}: where a model comes from and what became of it, and POST …/rebase, its training once more on another base.
import type { FastifyRequest } from "fastify";
import { Conflict, InvalidRequest } from "../errors.ts";
import type { AliasStore } from "../store/aliases.ts";
import type { FileStore } from "../store/files.ts";
import type { Job } from "../store/fine-tuning-rows.ts";
import type { FineTuningStore } from "../store/fine-tuning.ts";
import type { ModelExportStore } from "../store/model-exports.ts";
import type { Model, ModelStore } from "../store/models.ts";
import type { CreateJobRequest, FineTuningJob } from "../wire/fine-tuning.ts";
import { REBASED_FROM, rebaseRequest } from "../wire/lineage.ts";
import type { LineageObject } from "../wire/lineage.ts";
import { parseModelName } from "../wire/model-names.ts";
import { recipeAdditions } from "../wire/recipe.ts";
import { METADATA_MAX_PAIRS, parseRequest } from "../wire/validation.ts";
import type { ModelDirectory } from "./model-directory.ts";
import { ownModel } from "./models.ts";

export function lineageRoutes(parts: {
  models: ModelStore;
  jobs: FineTuningStore;
  files: FileStore;
  aliases: AliasStore;
  exported: ModelExportStore;
  directory: ModelDirectory;
  /** As POST /v1/fine_tuning/jobs does. */
  createJob: (projectId: string, body: CreateJobRequest) => Promise<FineTuningJob>;
}) {
  const { jobs, files, aliases, exported, directory, createJob } = parts;

  const jobOf = async (model: Model): Promise<Job | null> =>
    model.jobId === null ? null : jobs.get(model.projectId, model.jobId);

  async function fileOf(
    job: Job | null,
    id: string | null,
    member: "trainingData" | "validationData",
  ): Promise<LineageObject["training_file"]> {
    if (job === null || id === null) return null;
    const file = await files.get(job.projectId, id);
    const trained = (job.recipe as Record<typeof member, { sha256: string } | null> | null)?.[member];
    return {
      id,
      filename: file?.filename ?? null,
      sha256: trained?.sha256 ?? null,
      available: file !== null,
    };
  }

  return {
    show: async (request: FastifyRequest): Promise<LineageObject> => {
      const model = await ownModel(request, parts);
      const job = await jobOf(model);
      const checkpoints = job === null ? [] : (await jobs.listCheckpoints(job.id, { limit: 1000 })).data;
      const named = await aliases.list(request.project);
      const step = parseModelName(model.id)?.checkpointStep ?? null;
      return {
        id: model.id,
        object: "tunesmith.model",
        created_at: model.createdAt,
        kind: job === null ? "imported" : step === null ? "fine_tuned" : "checkpoint",
        base_model: model.baseModel,
        parent: job !== null && parseModelName(job.model) !== null ? job.model : null,
        rebased_from: job?.metadata?.[REBASED_FROM] ?? null,
        job: job?.id ?? null,
        method: job?.method ?? null,
        seed: job?.seed ?? null,
        hyperparameters: job === null ? null : { ...job.hyperparameters },
        recipe: job === null || job.recipe === null ? null : withoutPaths(job.recipe),
        trained_tokens: job?.trainedTokens ?? null,
        training_file: await fileOf(job, job?.trainingFileId ?? null, "trainingData"),
        validation_file: await fileOf(job, job?.validationFileId ?? null, "validationData"),
        metrics: { ...checkpoints.find((checkpoint) => checkpoint.model === model.id)?.metrics },
        exports: (await exported.list(model.id)).map(({ createdAt, ...rest }) => ({
          created_at: createdAt,
          ...rest,
        })),
        aliases: named.flatMap(({ name, model: leadsTo, candidate }) => [
          ...(leadsTo === model.id ? [{ id: name, role: "model" as const }] : []),
          ...(candidate?.model === model.id ? [{ id: name, role: "candidate" as const }] : []),
        ]),
      };
    },

    rebase: async (request: FastifyRequest): Promise<FineTuningJob> => {
      const { base, suffix, seed } = parseRequest(rebaseRequest, request.body);
      const model = await ownModel(request, parts);
      const job = await jobOf(model);
      if (job === null) {
        throw new InvalidRequest(
          `The model '${model.id}' was imported, so its data and recipe are not here. Create a job with the data it was trained on.`,
          { param: "model" },
        );
      }
      if (parseModelName(job.model) !== null) {
        throw new InvalidRequest(
          `The model '${model.id}' goes on from '${job.model}', whose weights belong to their base. Rebase that one first, then create a job with this one's data (${job.trainingFileId}) on the result.`,
          { param: "model" },
        );
      }
      if (directory.resolveBase(base) === null) {
        throw new InvalidRequest(
          `Invalid 'base': '${base}' is no base model of this server. GET /v1/models lists them; tunesmith models pull fetches more.`,
          { code: "invalid_value", param: "base" },
        );
      }
      for (const id of [job.trainingFileId, job.validationFileId]) {
        if (id === null || (await files.get(job.projectId, id)) !== null) continue;
        throw new Conflict(
          `The model '${model.id}' was trained on ${id}, which was deleted or has expired. GET /tunesmith/models/${model.id} has its sha256: upload the file again and create a job with it.`,
          { code: "data_gone" },
        );
      }
      return createJob(request.project, againOn(job, { base, suffix, seed, from: model.id }));
    },
  };
}

/**
 * The job's request on another base. What belongs to the data stays: epochs, batch, lengths, weights of regularization. What belongs to the
 * base is chosen anew: the learning rate, the adapter's shape, the template.
 */
function againOn(
  job: Job,
  to: { base: string; suffix: string | null | undefined; seed: number | null | undefined; from: string },
): CreateJobRequest {
  const { n_epochs, batch_size, beta } = job.hyperparameters;
  const { lora, ...additions } = recipeAdditions(job.hyperparameters);
  const hyperparameters = {
    ...{ n_epochs, batch_size, learning_rate_multiplier: "auto" as const },
    ...(job.method === "dpo" && beta !== undefined ? { beta } : {}),
    ...additions,
    ...(lora?.dropout === undefined ? {} : { lora: { dropout: lora.dropout } }),
  };
  const pairs = Object.entries(job.metadata ?? {}).filter(([key]) => key !== REBASED_FROM);
  if (pairs.length >= METADATA_MAX_PAIRS) {
    throw new InvalidRequest(
      `The job ${job.id} has ${pairs.length} pairs of metadata, and the new job needs one more to say where it comes from. Create the job yourself, with fewer.`,
    );
  }
  return {
    model: to.base,
    training_file: job.trainingFileId,
    ...(job.validationFileId === null ? {} : { validation_file: job.validationFileId }),
    ...((to.suffix ?? job.suffix) === null ? {} : { suffix: to.suffix ?? job.suffix }),
    seed: to.seed ?? job.seed,
    method:
      job.method === "dpo"
        ? { type: "dpo", dpo: { hyperparameters } }
        : { type: "supervised", supervised: { hyperparameters } },
    metadata: { ...Object.fromEntries(pairs), [REBASED_FROM]: to.from },
  };
}

/** Where files lie on the server is nobody else's business. */
function withoutPaths(recipe: object): Record<string, unknown> {
  const { baseModel, ...rest } = recipe as { baseModel?: { id: string; path?: string; sha256: string } };
  return {
    ...(baseModel === undefined ? {} : { baseModel: { id: baseModel.id, sha256: baseModel.sha256 } }),
    ...rest,
  };
}

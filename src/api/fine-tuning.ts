// /v1/fine_tuning/jobs: creating, reading, cancelling, pausing and resuming jobs. It writes the job row and wakes whoever works on jobs; how a
// job is trained it does not know.
import { randomInt } from "node:crypto";
import type { FastifyRequest } from "fastify";
import { InvalidRequest, NotFound } from "../errors.ts";
import type { FileStore, StoredFile } from "../store/files.ts";
import type { FineTuningStore } from "../store/fine-tuning.ts";
import type { Job, JobCheckpoint, JobEvent } from "../store/fine-tuning-rows.ts";
import type { ModelStore } from "../store/models.ts";
import {
  createJobRequest,
  listCheckpointsQuery,
  listEventsQuery,
  listJobsQuery,
  MAX_SEED,
  requestedHyperparameters,
  requestedMethod,
} from "../wire/fine-tuning.ts";
import type {
  CreateJobRequest,
  FineTuningJob,
  FineTuningJobCheckpoint,
  FineTuningJobEvent,
} from "../wire/fine-tuning.ts";
import { listOf, listWithIds } from "../wire/list.ts";
import type { List, ListWithIds } from "../wire/list.ts";
import { parseModelName } from "../wire/model-names.ts";
import { recipeAdditions } from "../wire/recipe.ts";
import { parseRequest } from "../wire/validation.ts";
import type { ModelDirectory, ResolvedBase } from "./model-directory.ts";

export function fineTuningRoutes(parts: {
  jobs: FineTuningStore;
  files: FileStore;
  models: ModelStore;
  directory: ModelDirectory;
  organization: string;
  /** What a job without an error carries as `error`. */
  emptyJobError: "null" | "object";
  /** Called after a job was created, cancelled, paused or resumed, so that nobody has to wait for a poll. */
  onJobsChanged: () => void;
}) {
  const { jobs, files, models, directory, organization, emptyJobError, onJobsChanged } = parts;

  const toWire = (job: Job) => toJobObject(job, organization, emptyJobError);

  async function existingJob(request: FastifyRequest): Promise<Job> {
    const { job: id } = request.params as { job: string };
    const job = await jobs.get(request.project, id);
    if (job === null) throw unknownJob(id);
    return job;
  }

  async function trainingFile(
    projectId: string,
    id: string,
    param: "training_file" | "validation_file",
  ): Promise<StoredFile> {
    const file = await files.get(projectId, id);
    if (file === null) throw new InvalidRequest(`invalid ${param}: ${id}`, { param });
    if (file.purpose !== "fine-tune") {
      throw new InvalidRequest(
        `invalid ${param}: ${id} was uploaded with purpose '${file.purpose}'. Upload it with purpose 'fine-tune'.`,
        { param },
      );
    }
    return file;
  }

  /** A base model, a fine-tuned model or checkpoint to go on from, or what an alias leads to. */
  async function trainableModel(
    projectId: string,
    name: string,
  ): Promise<ResolvedBase & { adapterDirectory: string | null }> {
    const model = await directory.leadsTo(projectId, name);
    const base = directory.resolveBase(model);
    if (base !== null) return { ...base, adapterDirectory: null };
    const fineTuned = await models.usable(projectId, model);
    if (fineTuned !== null) {
      const { id: name, baseModel, adapterDirectory } = fineTuned;
      return { name, baseModel, adapterDirectory };
    }
    throw new InvalidRequest(
      `Model ${model} is not available for fine-tuning or does not exist. GET /v1/models lists the models there are; TUNESMITH_MODEL_ALIASES gives one of them another name.`,
      { code: "model_not_available" },
    );
  }

  async function resolveJob(projectId: string, body: CreateJobRequest) {
    return {
      training: await trainingFile(projectId, body.training_file, "training_file"),
      validation:
        typeof body.validation_file === "string"
          ? await trainingFile(projectId, body.validation_file, "validation_file")
          : null,
      base: await trainableModel(projectId, body.model),
    };
  }

  async function createJob(projectId: string, body: CreateJobRequest): Promise<FineTuningJob> {
    const { training, validation, base } = await resolveJob(projectId, body);
    const job = await jobs.create(
      {
        projectId,
        model: base.name,
        baseModel: base.baseModel,
        trainingFileId: training.id,
        validationFileId: validation?.id ?? null,
        suffix: body.suffix ?? null,
        seed: body.seed ?? randomInt(MAX_SEED + 1),
        method: requestedMethod(body),
        hyperparameters: requestedHyperparameters(body),
        metadata: body.metadata ?? null,
      },
      firstEvents,
    );
    onJobsChanged();
    return toWire(job);
  }

  return {
    /** The files and the model that a request names, or the refusal that its creation would get. */
    resolveJob,

    /** For requests of other routes that end in a job. */
    createJob,

    create: async (request: FastifyRequest): Promise<FineTuningJob> =>
      createJob(request.project, parseRequest(createJobRequest, request.body)),

    list: async (request: FastifyRequest): Promise<List<FineTuningJob>> => {
      const page = await jobs.list(request.project, parseRequest(listJobsQuery, request.query));
      return listOf(page.data.map(toWire), page.hasMore);
    },

    retrieve: async (request: FastifyRequest): Promise<FineTuningJob> => {
      return toWire(await existingJob(request));
    },

    cancel: async (request: FastifyRequest): Promise<FineTuningJob> => {
      const { id } = await existingJob(request);
      const job = await jobs.cancel(request.project, id, { message: "Fine-tuning job cancelled" });
      if (job === null) throw unknownJob(id);
      onJobsChanged();
      return toWire(job);
    },

    pause: async (request: FastifyRequest): Promise<FineTuningJob> => {
      const { id } = await existingJob(request);
      const job = await jobs.pause(request.project, id, { message: "Fine-tuning job paused" });
      if (job === null) throw unknownJob(id);
      onJobsChanged();
      return toWire(job);
    },

    resume: async (request: FastifyRequest): Promise<FineTuningJob> => {
      const { id } = await existingJob(request);
      const job = await jobs.resume(request.project, id, { message: "Fine-tuning job resumed" });
      if (job === null) throw unknownJob(id);
      onJobsChanged();
      return toWire(job);
    },

    events: async (request: FastifyRequest): Promise<List<FineTuningJobEvent>> => {
      const query = parseRequest(listEventsQuery, request.query);
      const page = await jobs.listEvents((await existingJob(request)).id, query);
      return listOf(page.data.map(toEventObject), page.hasMore);
    },

    checkpoints: async (request: FastifyRequest): Promise<ListWithIds<FineTuningJobCheckpoint>> => {
      const query = parseRequest(listCheckpointsQuery, request.query);
      const { id } = await existingJob(request);
      const page = await jobs.listCheckpoints(id, query);
      return listWithIds(
        page.data.map((checkpoint) => toCheckpointObject(checkpoint, id)),
        page.hasMore,
      );
    },
  };
}

/** Scripts look for the wording of the first; which model is really trained stands in its data, and plainly in the second. */
function firstEvents(job: Job) {
  const created = {
    message: `Created fine-tuning job: ${job.id}`,
    data: { base_model: job.baseModel, ...recipeAdditions(job.hyperparameters) },
  };
  if (job.baseModel === job.model) return [created];
  return [
    created,
    {
      message:
        parseModelName(job.model) === null
          ? `Training ${job.baseModel} in place of ${job.model}`
          : `Going on from ${job.model}, an adapter of ${job.baseModel}`,
      data: { base_model: job.baseModel },
    },
  ];
}

function toJobObject(job: Job, organization: string, emptyJobError: "null" | "object"): FineTuningJob {
  return {
    object: "fine_tuning.job",
    id: job.id,
    model: job.model,
    created_at: job.createdAt,
    finished_at: job.finishedAt,
    fine_tuned_model: job.fineTunedModel,
    organization_id: `org-${organization}`,
    result_files: job.resultFileId === null ? [] : [job.resultFileId],
    status: job.status,
    validation_file: job.validationFileId,
    training_file: job.trainingFileId,
    hyperparameters: job.method === "supervised" ? job.hyperparameters : null,
    trained_tokens: job.trainedTokens,
    error: job.error ?? (emptyJobError === "null" ? null : {}),
    user_provided_suffix: job.suffix,
    seed: job.seed,
    estimated_finish: job.estimatedFinish,
    integrations: [],
    metadata: job.metadata,
    usage_metrics: null,
    shared_with_openai: false,
    eval_id: null,
    method: toMethodObject(job),
  };
}

function toMethodObject({ method, hyperparameters }: Job): FineTuningJob["method"] {
  if (method === "supervised") return { type: method, supervised: { hyperparameters } };
  // Every job of this method was stored with one.
  return {
    type: method,
    dpo: { hyperparameters: { ...hyperparameters, beta: hyperparameters.beta ?? "auto" } },
  };
}

function toEventObject(event: JobEvent): FineTuningJobEvent {
  return {
    object: "fine_tuning.job.event",
    id: event.id,
    created_at: event.createdAt,
    level: event.level,
    message: event.message,
    data: event.data,
    type: event.type,
  };
}

function toCheckpointObject(checkpoint: JobCheckpoint, jobId: string): FineTuningJobCheckpoint {
  return {
    object: "fine_tuning.job.checkpoint",
    id: checkpoint.id,
    created_at: checkpoint.createdAt,
    fine_tuned_model_checkpoint: checkpoint.model,
    fine_tuning_job_id: jobId,
    metrics: checkpoint.metrics,
    step_number: checkpoint.step,
    tunesmith: { best: checkpoint.best },
  };
}

function unknownJob(id: string): NotFound {
  return new NotFound(`Could not find fine tune: ${id}`, {
    code: "fine_tune_not_found",
    param: "fine_tune_id",
  });
}

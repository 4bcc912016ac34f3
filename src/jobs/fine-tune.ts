// The fine-tuning job from claim to end: validate, queue, prepare the job directory, train, settle. Each phase can be
// repeated after a crash, so a job is taken up wherever its status says. It knows no HTTP and no tensor.
import { join } from "node:path";
import type { Finding } from "../data/preflight/report.ts";
import { DatasetError, messageOf, OutOfSpace, TunesmithError } from "../errors.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { FileStore } from "../store/files.ts";
import type { FineTuningQueue } from "../store/fine-tuning-queue.ts";
import type { Job, JobError, NewEvent } from "../store/fine-tuning-rows.ts";
import type { Lease } from "../store/leases.ts";
import type { ModelStore } from "../store/models.ts";
import { loraOf } from "../training/checkpoint.ts";
import type { JobRecipe } from "../training/job-directory.ts";
import { requireContext } from "../training/preflight.ts";
import { parseModelName } from "../wire/model-names.ts";
import { recipeAdditions } from "../wire/recipe.ts";
import {
  DATA_FILES,
  readRecipe,
  takeDataFile,
  takeInitialAdapter,
  writeRecipe,
  type DataFile,
  type DataParam,
} from "./job-files.ts";
import { cleanUpEnded } from "./clean-up.ts";
import { createJudge, type JudgeData } from "./judge-data.ts";
import { LeaseLost } from "./lease-lost.ts";
import { buildRecipe, continuedLora, recipeWith, resolved } from "./recipe.ts";
import { settleSucceeded } from "./settle.ts";
import { SPARE_ROOM_BYTES } from "./space-watch.ts";
import { NoRoom, train } from "./train.ts";
import { embeddedTrainer, type TrainerProgram } from "./trainer-process.ts";
import { SYSTEM_CLOCK, type Clock, type Logger, type RunJob } from "./worker.ts";

/** A local base model, ready to be trained. */
export interface ResolvedBaseModel {
  /** A Hugging Face folder or a GGUF file. */
  path: string;
  /** As `JobRecipe.baseModel.sha256`. */
  sha256: string;
}

export interface FineTuneDependencies {
  queue: FineTuningQueue;
  files: FileStore;
  blobs: BlobStore;
  models: ModelStore;
  /** Job directories are made in its folder `jobs`. */
  homeDirectory: string;
  /** The third part of a fine-tuned model's name. */
  organization: string;
  /** Threads the trainer computes with; written into each new recipe. */
  threads: number;
  /** Finds a base model on disk, or fetches it. Throws TunesmithError with a message for the job's owner. */
  resolveBaseModel: (id: string, signal: AbortSignal) => Promise<ResolvedBaseModel>;
  logger: Logger;
  /** Judges the data files; replaced by tests that need a slow or a broken judge. */
  judgeData?: JudgeData;
  /** What trains; the embedded trainer unless a test or a cluster says otherwise. */
  trainer?: TrainerProgram;
  clock?: Clock;
}

/**
 * A job that has been begun this often without being given back in order takes the server down with it each time: it is
 * failed, so that the others behind it get their turn. High, because power cuts and restarts by force count too.
 */
const MAX_ATTEMPTS = 20;

/** Makes the function that a worker runs for each fine-tuning job. */
export function createFineTune(dependencies: FineTuneDependencies): RunJob<Job> {
  const { queue, logger } = dependencies;
  const trainer = dependencies.trainer ?? embeddedTrainer();
  const clock = dependencies.clock ?? SYSTEM_CLOCK;
  const judgeData = dependencies.judgeData ?? createJudge(logger);

  return async (job, lease, signal) => {
    let { status, hyperparameters } = job;
    try {
      if (job.attempts > MAX_ATTEMPTS) throw tooManyAttempts(job);
      if (status === "validating_files") {
        hyperparameters = await validate(job, lease, signal);
        status = "queued";
      }
      const recipe = await prepare({ ...job, hyperparameters }, signal);
      if (status === "queued") {
        const events = [{ key: "started", message: "Fine-tuning job started" }];
        const moved = await queue.moveTo(lease, {
          from: ["queued"],
          to: "running",
          changes: { recipe },
          events,
        });
        if (!moved) throw new LeaseLost();
      }
      const directory = directoryOf(job.id);
      const outcome = await train({ ...dependencies, trainer, clock, lease, directory, signal });
      if (outcome === null) return signal.throwIfAborted();
      await settleSucceeded({ ...dependencies, job, lease, directory, outcome });
      logger.info({ job: job.id }, "Job succeeded.");
      await cleanUp({ ...job, status: "succeeded" });
    } catch (error) {
      if (error instanceof LeaseLost || signal.aborted) {
        logger.info({ job: job.id, reason: String(signal.reason ?? "lease-lost") }, "Job stopped.");
        if ((await queue.status(job.id)) === "cancelled") await cleanUp({ ...job, status: "cancelled" });
        return;
      }
      if (error instanceof OutOfSpace && status !== "validating_files") {
        await pauseForSpace(lease, error);
        return;
      }
      const jobError = toJobError(error);
      if (error instanceof DatasetError) {
        // Its message quotes the file, whose content is the job's to show and not the log's.
        logger.info({ job: job.id, code: jobError.code, param: jobError.param }, "Job failed by its data.");
      } else {
        // The message of a fault in this program stays in the log; the job says only where to look.
        logger.error({ job: job.id, error: error instanceof Error ? error.stack : error }, "Job failed.");
      }
      if (await queue.failJob(lease, jobError)) await cleanUp({ ...job, status: "failed" });
    }
  };

  /** Nothing is lost on a full disk: what has been trained is kept, and goes on when there is room. */
  async function pauseForSpace(lease: Lease, error: OutOfSpace): Promise<void> {
    // Adapter and optimizer's state of one checkpoint, and the final adapter.
    const neededBytes = SPARE_ROOM_BYTES + (error instanceof NoRoom ? 16 * error.trainableParameters : 0);
    const toError = (bytes: number): JobError => ({
      code: "out_of_space",
      param: error.param,
      message: `${error.message} The job is paused and goes on by itself once there is room, about ${Math.ceil(bytes / 1e6)} MB; resuming it tries at once.`,
    });
    logger.warn({ job: lease.jobId, error: error.message }, "The disk is full; the job is paused.");
    await queue.pauseForSpace(lease, neededBytes, toError);
  }

  function cleanUp(job: Job): Promise<boolean> {
    return cleanUpEnded({ ...dependencies, clock }, job);
  }

  function directoryOf(jobId: string): string {
    return join(dependencies.homeDirectory, "jobs", jobId);
  }

  /** Reads every data file, replaces "auto" by numbers and moves the job to queued. */
  async function validate(job: Job, lease: Lease, signal: AbortSignal): Promise<Job["hyperparameters"]> {
    const andValidation =
      job.validationFileId === null ? "" : ` and validation file: ${job.validationFileId}`;
    const message = `Validating training file: ${job.trainingFileId}${andValidation}`;
    if (!(await queue.appendEvents(lease, [{ key: "validating", message }]))) throw new LeaseLost();
    // First of all: whoever deletes the model now no longer disturbs the job.
    const initial = await initialAdapterOf(job);
    const additions = recipeAdditions(job.hyperparameters);
    const lora =
      initial === null
        ? recipeWith(job.baseModel, additions).lora
        : continuedLora(loraOf(initial.path), additions.lora, job);
    const training = await takeData(job, "training_file", job.trainingFileId);
    const validation =
      job.validationFileId === null ? null : await takeData(job, "validation_file", job.validationFileId);
    const { examples, warnings } = await judgeData({
      jobId: job.id,
      method: job.method,
      trainingFile: training.path,
      validationFile: validation?.path ?? null,
      signal,
    });
    const hyperparameters = resolved(job, examples, lora);
    const moved = await queue.moveTo(lease, {
      from: ["validating_files"],
      to: "queued",
      changes: { hyperparameters },
      events: [
        ...warnings.map(toEvent),
        { key: "validated", message: "Files validated, moving job to queued state" },
      ],
    });
    if (!moved) throw new LeaseLost();
    return hyperparameters;
  }

  /** Throws DatasetError where the file was deleted before the job had it. */
  function takeData(job: Job, param: DataParam, fileId: string): Promise<DataFile> {
    return takeDataFile(dependencies, directoryOf(job.id), param, { projectId: job.projectId, fileId });
  }

  /** What the job starts from; null: from nothing. */
  async function initialAdapterOf(job: Job) {
    if (parseModelName(job.model) === null) return null;
    return takeInitialAdapter(dependencies.models, directoryOf(job.id), {
      projectId: job.projectId,
      modelId: job.model,
    });
  }

  /** Completes the job directory; one that an earlier server completed is kept as it is. */
  async function prepare(job: Job, signal: AbortSignal): Promise<JobRecipe> {
    const directory = directoryOf(job.id);
    const earlier = await readRecipe(directory);
    if (earlier !== null) return earlier;
    const baseModel = await dependencies.resolveBaseModel(job.baseModel, signal);
    signal.throwIfAborted();
    const data = async (param: DataParam, fileId: string): Promise<JobRecipe["trainingData"]> => {
      const { sha256 } = await takeData(job, param, fileId);
      return { file: DATA_FILES[param], sha256 };
    };
    const { max_length } = recipeAdditions(job.hyperparameters);
    if (max_length !== undefined) await requireContext(baseModel, max_length, job.method);
    const initial = await initialAdapterOf(job);
    const recipe = buildRecipe(job, {
      baseModel: { id: job.baseModel, path: baseModel.path, sha256: baseModel.sha256 },
      trainingData: await data("training_file", job.trainingFileId),
      validationData:
        job.validationFileId === null ? null : await data("validation_file", job.validationFileId),
      threads: dependencies.threads,
      initial: initial === null ? null : { lora: loraOf(initial.path), adapter: initial.recipe },
    });
    await writeRecipe(directory, recipe);
    return recipe;
  }
}

function toEvent({ kind, file, message, fix, count, places }: Finding): NewEvent {
  return {
    key: `finding-${file}-${kind}`,
    level: "warn",
    message: `${file === "training_file" ? "Training" : "Validation"} file: ${message}. ${fix}`,
    data: { kind, param: file, count, lines: places.map(({ line }) => line) },
  };
}

function tooManyAttempts(job: Job): TunesmithError {
  return new TunesmithError(
    `The server went down ${job.attempts - 1} times while working on this job, so it was given up. Look for the cause in the server's log (often too little memory), then create the job again.`,
    { code: "server_error" },
  );
}

function toJobError(error: unknown): JobError {
  if (error instanceof DatasetError) {
    const { param, message } = error;
    const code =
      error.code ?? (param === "validation_file" ? "invalid_validation_file" : "invalid_training_file");
    return { code, param, message };
  }
  if (error instanceof OutOfSpace) {
    const message = `${error.message} Then create the job again.`;
    return { code: error.code ?? "out_of_space", param: error.param, message };
  }
  if (error instanceof TunesmithError) {
    return { code: error.code ?? "server_error", param: error.param, message: error.message };
  }
  // A system error (disk, permissions) is the operator's own; anything else is a bug whose text would not help.
  const isSystemError = error instanceof Error && "syscall" in error;
  return {
    code: "server_error",
    param: null,
    message: isSystemError
      ? `The server could not work on this job: ${messageOf(error)}. Mend the cause, then create the job again.`
      : "The server failed on this job for a reason of its own. The server's log has the details; create the job again once the cause is mended.",
  };
}

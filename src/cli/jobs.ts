// `tunesmith jobs`: create, list, get, events, checkpoints, pause, resume, cancel. Following a job is in follow.ts.
import { existsSync } from "node:fs";
import { InvalidRequest, messageOf } from "../errors.ts";
import type { FineTuningJob, FineTuningJobCheckpoint, FineTuningJobEvent } from "../wire/fine-tuning.ts";
import type { List, ListWithIds } from "../wire/list.ts";
import { ApiError } from "./client.ts";
import { uploadFile } from "./files.ts";
import { followJob } from "./follow.ts";
import { describeJob, eventLine, jobPath } from "./job-text.ts";
import { moreNote, noneNote } from "./list-text.ts";
import { recipeMembers, type RecipeOptions } from "./recipe-options.ts";
import { EXIT, formatTable, formatTime, printAnswer, printNote, type CommandContext } from "./terminal.ts";

export interface CreateOptions extends RecipeOptions {
  model: string;
  trainingFile: string;
  validationFile?: string;
  suffix?: string;
  seed?: number;
  method?: "supervised" | "dpo";
  epochs?: number | "auto";
  batchSize?: number | "auto";
  learningRateMultiplier?: number | "auto";
  beta?: number | "auto";
  metadata?: Record<string, string>;
  follow?: boolean;
}

/** Creates a job; training and validation files may be file ids or local paths, which are uploaded first. */
export async function jobsCreate(context: CommandContext, options: CreateOptions): Promise<number> {
  const job = await postJob(context, options);
  if (options.follow === true) {
    printNote(context, `Created ${job.id}`);
    return followJob(context, job.id);
  }
  printAnswer(context, job, () => `${job.id}\n`);
  printNote(context, `Follow it with "tunesmith jobs follow ${job.id}".`);
  return EXIT.success;
}

async function postJob(context: CommandContext, options: CreateOptions): Promise<FineTuningJob> {
  const additions = recipeMembers(options);
  const hyperparameters = {
    n_epochs: options.epochs,
    batch_size: options.batchSize,
    learning_rate_multiplier: options.learningRateMultiplier,
    beta: options.beta,
    ...additions,
  };
  const method = options.method ?? "supervised";
  const uploaded: string[] = [];
  try {
    const { validationFile } = options;
    return await context.client.post<FineTuningJob>("/fine_tuning/jobs", {
      model: options.model,
      training_file: await fileId(context, options.trainingFile, uploaded),
      validation_file:
        validationFile === undefined ? undefined : await fileId(context, validationFile, uploaded),
      suffix: options.suffix,
      seed: options.seed,
      method: { type: method, [method]: { hyperparameters } },
      metadata: options.metadata,
    });
  } catch (error) {
    // After any other failure the job may be there after all, and need them.
    const isRefused = error instanceof InvalidRequest || (error instanceof ApiError && error.status < 500);
    if (isRefused) await removeUploads(context, uploaded);
    throw error;
  }
}

/** An existing path wins over an id: ids begin with "file-", and hardly any path does. */
async function fileId(context: CommandContext, idOrPath: string, uploaded: string[]): Promise<string> {
  if (!existsSync(idOrPath) && /^file-[A-Za-z0-9]+$/.test(idOrPath)) return idOrPath;
  const file = await uploadFile(context, idOrPath, "fine-tune");
  uploaded.push(file.id);
  printNote(context, `Uploaded ${idOrPath} as ${file.id}`);
  return file.id;
}

/** Copies made for a job that there is not. What stays after all is named; why the job was refused matters more. */
async function removeUploads({ client, terminal }: CommandContext, ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    try {
      await client.delete(`/files/${id}`);
    } catch (error) {
      terminal.stderr.write(`The uploaded copy ${id} could not be deleted: ${messageOf(error)}\n`);
    }
  }
}

export async function jobsList(
  context: CommandContext,
  options: { limit?: number; after?: string },
): Promise<void> {
  const list = await context.client.get<List<FineTuningJob>>("/fine_tuning/jobs", { ...options });
  printAnswer(context, list, () => {
    if (list.data.length === 0) {
      return noneNote("jobs", { after: options.after }, 'Create one with "tunesmith jobs create".');
    }
    const columns = [
      { heading: "ID" },
      { heading: "STATUS" },
      { heading: "MODEL" },
      { heading: "FINE-TUNED MODEL" },
      { heading: "CREATED" },
    ];
    const rows = list.data.map((job) => [
      job.id,
      job.status,
      job.model,
      job.fine_tuned_model ?? "-",
      formatTime(job.created_at),
    ]);
    return formatTable(columns, rows) + moreNote(list.has_more, list.data.at(-1)?.id, "jobs list");
  });
}

export async function jobsGet(context: CommandContext, id: string): Promise<void> {
  const job = await context.client.get<FineTuningJob>(jobPath(id));
  printAnswer(context, job, () => describeJob(job));
}

export async function jobsEvents(
  context: CommandContext,
  id: string,
  options: { limit?: number; after?: string },
): Promise<void> {
  const list = await context.client.get<List<FineTuningJobEvent>>(`${jobPath(id)}/events`, { ...options });
  // Oldest first for people, who read a log downwards; the JSON keeps the API's order.
  printAnswer(
    context,
    list,
    () =>
      moreNote(list.has_more, list.data.at(-1)?.id, `jobs events ${id}`) +
      list.data.toReversed().map(eventLine).join(""),
  );
}

export async function jobsCheckpoints(context: CommandContext, id: string): Promise<void> {
  const list = await context.client.get<ListWithIds<FineTuningJobCheckpoint>>(`${jobPath(id)}/checkpoints`);
  const loss = (value: number | undefined): string => (value === undefined ? "-" : value.toFixed(4));
  printAnswer(context, list, () => {
    if (list.data.length === 0) return "No checkpoints: a job has them once it has succeeded.\n";
    const columns = [
      { heading: "STEP", align: "right" as const },
      { heading: "TRAIN LOSS", align: "right" as const },
      { heading: "FULL VALID LOSS", align: "right" as const },
      { heading: "BEST" },
      { heading: "MODEL" },
    ];
    const rows = list.data.map((checkpoint) => [
      String(checkpoint.step_number),
      loss(checkpoint.metrics.train_loss),
      loss(checkpoint.metrics.full_valid_loss),
      checkpoint.tunesmith.best ? "*" : "",
      checkpoint.fine_tuned_model_checkpoint,
    ]);
    return formatTable(columns, rows);
  });
}

/** Sends the verb to the job and says how it stands then. */
const changingJob =
  (verb: "cancel" | "pause" | "resume") =>
  async (context: CommandContext, id: string): Promise<void> => {
    const job = await context.client.post<FineTuningJob>(`${jobPath(id)}/${verb}`);
    printAnswer(context, job, () => `${job.id} is ${job.status}\n`);
  };

export const jobsCancel = changingJob("cancel");
export const jobsPause = changingJob("pause");
export const jobsResume = changingJob("resume");

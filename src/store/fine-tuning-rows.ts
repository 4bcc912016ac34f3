// Fine-tuning jobs, events and checkpoints as the other rooms see them, and their way out of and into table rows.
import type { Insertable, Selectable } from "kysely";
import type {
  CheckpointMetrics,
  EventLevel,
  EventType,
  JobMethod,
  JobStatus,
  RequestedHyperparameters,
} from "../wire/fine-tuning.ts";
import { newId } from "../wire/ids.ts";
import type { DatabaseTransaction } from "./database.ts";
import type { FineTuningCheckpointsTable, FineTuningEventsTable, FineTuningJobsTable } from "./tables.ts";
import type { NewFile } from "./files.ts";
import type { NewModel } from "./models.ts";

export interface JobError {
  code: string;
  param: string | null;
  message: string;
}

export interface NewJob {
  projectId: string;
  /** The name the job echoes: an alias is already resolved to its snapshot. */
  model: string;
  /** The local base model that is really trained. */
  baseModel: string;
  trainingFileId: string;
  validationFileId: string | null;
  /** As sent; the model's name holds `suffixInName` of it. */
  suffix: string | null;
  seed: number;
  method: JobMethod;
  hyperparameters: RequestedHyperparameters;
  metadata: Record<string, string> | null;
}

/** Times are Unix seconds. */
export interface Job extends NewJob {
  id: string;
  createdAt: number;
  finishedAt: number | null;
  status: JobStatus;
  trainedTokens: number | null;
  fineTunedModel: string | null;
  resultFileId: string | null;
  estimatedFinish: number | null;
  error: JobError | null;
  /** The resolved recipe, once the worker has stored it. */
  recipe: object | null;
  /** How many times a worker took the job and did not give it back in peace. */
  attempts: number;
}

export interface NewEvent {
  /** An event with a key is stored once per job, e.g. "metrics:12". */
  key?: string;
  message: string;
  level?: EventLevel;
  type?: EventType;
  data?: Record<string, unknown>;
  /** Unix seconds; left out: now. */
  createdAt?: number;
}

export interface JobEvent {
  id: string;
  createdAt: number;
  level: EventLevel;
  type: EventType;
  message: string;
  data: Record<string, unknown>;
}

export interface JobCheckpoint {
  id: string;
  createdAt: number;
  step: number;
  model: string;
  metrics: CheckpointMetrics;
  /** Of the lowest full validation loss among the job's. */
  best: boolean;
}

/** What a job that has succeeded leaves. */
export interface FinishedJob {
  model: NewModel;
  /** Its blob is already written. It belongs to the job's project, as the models do. */
  resultFile: Omit<NewFile, "projectId">;
  trainedTokens: number;
  /**
   * What the checkpoints list will show, oldest first. One is the final model under its own name; the others have names with
   * :ckpt-step- and become models too, from their adapterDirectory. `best`: of the lowest full validation loss.
   */
  checkpoints: {
    step: number;
    model: NewModel;
    metrics: CheckpointMetrics;
    best?: boolean;
    createdAt?: number;
  }[];
  events: NewEvent[];
}

export function toJob(row: Selectable<FineTuningJobsTable>): Job {
  return {
    id: row.id,
    projectId: row.projectId,
    createdAt: row.createdAt,
    finishedAt: row.finishedAt,
    status: row.status as JobStatus,
    model: row.model,
    baseModel: row.baseModel,
    trainingFileId: row.trainingFile,
    validationFileId: row.validationFile,
    suffix: row.suffix,
    seed: row.seed,
    method: row.method as JobMethod,
    hyperparameters: JSON.parse(row.hyperparameters) as RequestedHyperparameters,
    metadata: parsed<Record<string, string>>(row.metadata),
    trainedTokens: row.trainedTokens,
    fineTunedModel: row.fineTunedModel,
    resultFileId: row.resultFile,
    estimatedFinish: row.estimatedFinish,
    error: parsed<JobError>(row.error),
    recipe: parsed<object>(row.recipe),
    attempts: row.attempts,
  };
}

export function toEvent(
  row: Pick<Selectable<FineTuningEventsTable>, "id" | "createdAt" | "level" | "type" | "message" | "data">,
): JobEvent {
  return {
    id: row.id,
    createdAt: row.createdAt,
    level: row.level as EventLevel,
    type: row.type as EventType,
    message: row.message,
    data: JSON.parse(row.data) as Record<string, unknown>,
  };
}

export function toCheckpoint(row: Selectable<FineTuningCheckpointsTable>): JobCheckpoint {
  return {
    id: row.id,
    createdAt: row.createdAt,
    step: row.step,
    model: row.model,
    metrics: JSON.parse(row.metrics) as CheckpointMetrics,
    best: row.best === 1,
  };
}

/** Appends events to a job; one whose key the job already has is left out. */
export async function insertEvents(
  transaction: DatabaseTransaction,
  nowSeconds: number,
  jobId: string,
  events: readonly NewEvent[],
): Promise<void> {
  // One row a statement: SQLite bounds the bound values of one statement, and a chunk of events has no bound.
  for (const event of events) {
    await transaction
      .insertInto("fineTuningEvents")
      .values(eventRow(jobId, event, nowSeconds))
      .onConflict((conflict) => conflict.columns(["jobId", "eventKey"]).doNothing())
      .execute();
  }
}

function eventRow(jobId: string, event: NewEvent, nowSeconds: number): Insertable<FineTuningEventsTable> {
  return {
    id: newId("event"),
    jobId,
    eventKey: event.key ?? null,
    createdAt: event.createdAt ?? nowSeconds,
    level: event.level ?? "info",
    type: event.type ?? "message",
    message: event.message,
    data: JSON.stringify(event.data ?? {}),
  };
}

/** Columns hold only what this store wrote, so a parsed value has the type it was written with. */
function parsed<T>(text: string | null): T | null {
  return text === null ? null : (JSON.parse(text) as T);
}

// `plan`: what there is at OpenAI, what a pull would fetch and how long that takes, and what cannot be had and why. It changes nothing.
import type { OpenAiClient } from "./openai-client.ts";
import {
  isEnded,
  jobFailure,
  methodOf,
  openAiObject,
  type OpenAiFile,
  type OpenAiJob,
} from "./openai-objects.ts";
import { isPassingFault } from "./passing-faults.ts";
import { refusalOf } from "./recipe.ts";
import { DATES_FROM, EVALS_OFF } from "./shutdown-dates.ts";
import { surveyOpenAi, type FoundModel, type Survey } from "./survey.ts";
import { messageOf } from "../errors.ts";

export interface MigrationPlan {
  object: "tunesmith.migration_plan";
  base_url: string;
  /** The day the plan is for, YYYY-MM-DD (UTC): what has stopped and what goes on depends on it. */
  date: string;
  dates_from: string;
  jobs: PlannedJob[];
  files: PlannedFile[];
  /** Files for other things than fine-tuning and evals; no pull fetches them. */
  other_files: number;
  models: PlannedModel[];
  stored_completions: { count: number; more: boolean };
  evals: { id: string; name: string | null }[];
  totals: { objects: number; bytes: number; requests: number; seconds: number };
  cannot_be_had: { what: string; why: string }[];
}

export interface PlannedJob {
  id: string;
  status: string;
  method: string;
  model: string;
  fine_tuned_model: string | null;
  training_file: string;
  validation_file: string | null;
  error: string | null;
  /** Null when "retrain" can train it here; else why not. */
  not_retrainable: string | null;
}

export interface PlannedFile {
  id: string;
  filename: string | null;
  purpose: string | null;
  bytes: number | null;
  expires_at: number | null;
  jobs: string[];
  state: "there" | "expired" | "missing";
}

export interface PlannedModel {
  id: string;
  base: string | null;
  job: string | null;
  /** YYYY-MM-DD; null: nobody has said. */
  stops_on: string | null;
  stops_on_from: FoundModel["from"];
  state: "answers" | "stopped" | "deleted";
}

/** Stored completions that a plan counts; a pull fetches them all. */
const MAX_COUNTED_COMPLETIONS = 2_000;
/** Milliseconds a request is assumed to take, four at a time, and bytes a second of a download: for an order of magnitude. */
const ASSUMED_REQUEST_MS = 300;
const ASSUMED_BYTES_PER_SECOND = 4 * 1024 * 1024;

/** What training, validation and evals read, and what jobs wrote. */
export const PULLED_PURPOSES: readonly (string | null | undefined)[] = [
  "fine-tune",
  "evals",
  "fine-tune-results",
];

export async function planMigration(client: OpenAiClient, nowMs: number): Promise<MigrationPlan> {
  const survey = await surveyOpenAi(client);
  const completions = { count: 0, more: false };
  try {
    for await (const _each of client.list("/chat/completions", openAiObject, { limit: 100 })) {
      completions.more = completions.count === MAX_COUNTED_COMPLETIONS;
      if (completions.more) break;
      completions.count += 1;
    }
  } catch (error) {
    if (!isPassingFault(error)) throw error;
    survey.problems.push({ section: "stored completions", message: messageOf(error) });
  }
  const date = new Date(nowMs).toISOString().slice(0, 10);
  const models = survey.models.map((model) => plannedModel(model, date));
  const files = plannedFiles(survey, nowMs / 1000);
  const bytes = files.reduce((sum, file) => sum + (file.state === "there" ? (file.bytes ?? 0) : 0), 0);
  const requests =
    // A job itself, its events and its checkpoints; an eval and its runs.
    survey.jobs.length * 3 + files.length + completions.count + survey.evals.length * 2;
  return {
    object: "tunesmith.migration_plan",
    base_url: client.baseUrl,
    date,
    dates_from: DATES_FROM,
    jobs: survey.jobs.map(plannedJob),
    files,
    other_files: survey.files.filter(({ purpose }) => !PULLED_PURPOSES.includes(purpose)).length,
    models,
    stored_completions: completions,
    evals: survey.evals.map(({ id, name }) => ({ id, name: name ?? null })),
    totals: {
      objects: survey.jobs.length + files.length + completions.count + survey.evals.length,
      bytes,
      requests,
      seconds: Math.ceil((requests * ASSUMED_REQUEST_MS) / 1000 + bytes / ASSUMED_BYTES_PER_SECOND),
    },
    cannot_be_had: cannotBeHad(survey, files, models, date),
  };
}

function plannedJob(job: OpenAiJob): PlannedJob {
  return {
    id: job.id,
    status: job.status,
    method: methodOf(job),
    model: job.model,
    fine_tuned_model: job.fine_tuned_model ?? null,
    training_file: job.training_file,
    validation_file: job.validation_file ?? null,
    error: jobFailure(job),
    not_retrainable: refusalOf(job),
  };
}

/** Every file that a job names, and those for fine-tuning and evals that none does. */
function plannedFiles({ files, jobs, problems }: Survey, now: number): PlannedFile[] {
  const users = new Map<string, string[]>();
  for (const job of jobs) for (const id of filesOf(job)) users.set(id, [...(users.get(id) ?? []), job.id]);
  const listed = new Map(files.map((file) => [file.id, file]));
  const wanted = new Set([
    ...users.keys(),
    ...files.filter(({ purpose }) => PULLED_PURPOSES.includes(purpose)).map(({ id }) => id),
  ]);
  const isUnlisted = problems.some(({ section }) => section === "files");
  const stateOf = (file: OpenAiFile | undefined): PlannedFile["state"] => {
    if (file === undefined) return isUnlisted ? "there" : "missing";
    return typeof file.expires_at === "number" && file.expires_at <= now ? "expired" : "there";
  };
  return [...wanted].map((id) => {
    const file = listed.get(id);
    return {
      id,
      filename: file?.filename ?? null,
      purpose: file?.purpose ?? null,
      bytes: file?.bytes ?? null,
      expires_at: file?.expires_at ?? null,
      jobs: users.get(id) ?? [],
      state: stateOf(file),
    };
  });
}

/** Data and results, each once. */
export function filesOf(job: OpenAiJob): string[] {
  const { training_file, validation_file, result_files } = job;
  return [...new Set([training_file, validation_file, ...(result_files ?? [])])].filter(
    (id): id is string => typeof id === "string" && id !== "",
  );
}

function plannedModel({ id, base, job, date, from, listed }: FoundModel, today: string): PlannedModel {
  const hasStopped = date !== null && date <= today;
  return {
    id,
    base,
    job,
    stops_on: date,
    stops_on_from: from,
    state: listed ? (hasStopped ? "stopped" : "answers") : hasStopped ? "stopped" : "deleted",
  };
}

function cannotBeHad(
  { jobs, problems }: Survey,
  files: readonly PlannedFile[],
  models: readonly PlannedModel[],
  today: string,
): MigrationPlan["cannot_be_had"] {
  const list: MigrationPlan["cannot_be_had"] = [];
  const add = (what: string, why: string) => list.push({ what, why });
  if (models.length > 0 || jobs.length > 0)
    add(
      "the weights of the fine-tuned models",
      'OpenAI exports none. "retrain" trains a model of your own on the same data; "record" keeps what the old ones answer.',
    );
  for (const { id, state, jobs: users } of files) {
    if (state === "there") continue;
    const why =
      state === "expired"
        ? "It has expired; OpenAI has deleted its content."
        : "OpenAI no longer lists it: it was deleted or has expired.";
    add(`file ${id}`, users.length === 0 ? why : `${why} It belongs to ${users.join(", ")}.`);
  }
  for (const { id, state, stops_on: date } of models) {
    if (state === "deleted") add(`answers of ${id}`, "OpenAI no longer lists the model: it was deleted.");
    if (state === "stopped") add(`answers of ${id}`, `The model stopped answering on ${String(date)}.`);
  }
  for (const { section, message } of problems) add(section, message);
  if (today > EVALS_OFF) add("evals", `OpenAI has switched them off on ${EVALS_OFF}.`);
  if (jobs.some(({ status }) => !isEnded(status)))
    add("the rest of jobs that still run", "Pull again when they have ended.");
  return list;
}

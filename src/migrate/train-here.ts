// One job on the server: data uploaded, judged, trained, followed, and the old name pointed at the new model. A second run finds the job by
// the hash of its recipe and goes on with it, whatever became of the first.
import { createHash } from "node:crypto";
import { inAddress } from "../wire/model-names.ts";
import { messageOf } from "../errors.ts";
import type { CreateJobRequest, FineTuningJob } from "../wire/fine-tuning.ts";
import type { List } from "../wire/list.ts";
import type { PreflightObject } from "../wire/preflight.ts";
import { RECIPE_KEY } from "./recipe.ts";
import {
  findOrNull,
  isUnknownAddress,
  statusOf,
  uploadOnce,
  type TunesmithClient,
} from "./tunesmith-client.ts";

export interface DataFile {
  path: string;
  name: string;
  sha256: string;
}

export interface Training {
  /** OpenAI's job, or the recording. */
  origin: string;
  model: string;
  training: DataFile;
  validation: DataFile | null;
  request: Pick<CreateJobRequest, "method" | "seed" | "suffix" | "metadata">;
  /** The name that the new model is to answer to; null: none. */
  alias: string | null;
}

export type AliasOutcome = { state: "set" | "unwanted" | "not offered" | "failed"; reason: string | null };

export interface TrainedHere {
  origin: string;
  old_model: string | null;
  /** `skipped`: it cannot be trained here, and nobody asked for it by name. */
  state: "succeeded" | "refused" | "failed" | "skipped";
  /** Why it did not succeed. */
  reason: string | null;
  job: string | null;
  new_model: string | null;
  alias: AliasOutcome;
  preflight: PreflightObject | null;
  not_carried: string[];
}

export interface TrainingHooks {
  /** Says in a sentence what is done now. */
  note(text: string): void;
  preflight(training: Training, report: PreflightObject): void;
  /** Returns when the job has ended. */
  follow(jobId: string): Promise<void>;
}

/** Jobs of the same recipe that are looked at. */
const MAX_EARLIER = 100;

export type Judged =
  | { kind: "there"; job: FineTuningJob }
  | { kind: "new"; body: CreateJobRequest; attempt: number; report: PreflightObject | null }
  | { kind: "refused"; reason: string; report: PreflightObject | null };

/** Looks for the job of an earlier run; without one, uploads the data and has it judged. Nothing trains yet. */
export async function judge(
  client: TunesmithClient,
  training: Training,
  hooks: TrainingHooks,
): Promise<Judged> {
  const recipe = recipeHash(training);
  const earlier = await client.get<List<FineTuningJob>>("/fine_tuning/jobs", {
    [`metadata[${RECIPE_KEY}]`]: recipe,
    limit: MAX_EARLIER,
  });
  for (const job of earlier.data) {
    if (job.status === "failed" || job.status === "cancelled") continue;
    const model = job.fine_tuned_model;
    if (model === null || (await findOrNull(client, `/models/${inAddress(model)}`)) !== null)
      return { kind: "there", job };
  }
  hooks.note(`Uploading the data of ${training.origin}.`);
  const body = {
    model: training.model,
    training_file: await uploadOnce(client, training.training),
    ...(training.validation === null
      ? {}
      : { validation_file: await uploadOnce(client, training.validation) }),
    ...training.request,
    metadata: { ...training.request.metadata, [RECIPE_KEY]: recipe },
  } as CreateJobRequest;
  let report: PreflightObject | null = null;
  try {
    report = await client.post<PreflightObject>("/tunesmith/preflight", body);
    hooks.preflight(training, report);
    if (!report.trainable) return { kind: "refused", reason: faultsOf(report), report };
  } catch (error) {
    if (isUnknownAddress(error))
      hooks.note("This server has no preflight; its jobs check the data themselves.");
    else if (isRefusal(error)) return { kind: "refused", reason: messageOf(error), report };
    else throw error;
  }
  return { kind: "new", body, attempt: earlier.data.length, report };
}

/** Trains what was judged, and sets the alias. */
export async function trainJudged(
  client: TunesmithClient,
  training: Training,
  judged: Judged,
  hooks: TrainingHooks,
): Promise<TrainedHere> {
  const result: TrainedHere = {
    origin: training.origin,
    old_model: training.alias,
    state: "refused",
    reason: null,
    job: null,
    new_model: null,
    alias: { state: "unwanted", reason: null },
    preflight: judged.kind === "there" ? null : judged.report,
    not_carried: [],
  };
  if (judged.kind === "refused") return { ...result, reason: judged.reason };
  let job: FineTuningJob;
  if (judged.kind === "there") {
    job = judged.job;
    hooks.note(`${training.origin} is trained here as ${job.id} already (${job.status}).`);
  } else {
    const key = `migrate-job-${createHash("sha256")
      .update(JSON.stringify([judged.body, judged.attempt]))
      .digest("hex")}`;
    try {
      job = await client.post<FineTuningJob>("/fine_tuning/jobs", judged.body, { "idempotency-key": key });
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return { ...result, reason: messageOf(error) };
    }
    hooks.note(`${training.origin} is trained here as ${job.id}.`);
  }
  await hooks.follow(job.id);
  job = await client.get<FineTuningJob>(`/fine_tuning/jobs/${encodeURIComponent(job.id)}`);
  if (job.status !== "succeeded" || job.fine_tuned_model === null) {
    const said =
      job.error !== null && "message" in job.error ? `${job.error.code}: ${job.error.message}` : "";
    return { ...result, state: "failed", job: job.id, reason: `The job is ${job.status}. ${said}`.trim() };
  }
  return {
    ...result,
    state: "succeeded",
    job: job.id,
    new_model: job.fine_tuned_model,
    alias: await setAlias(client, training, job.fine_tuned_model),
  };
}

async function setAlias(
  client: TunesmithClient,
  { alias, origin }: Training,
  model: string,
): Promise<AliasOutcome> {
  if (alias === null) return { state: "unwanted", reason: null };
  try {
    await client.post(`/tunesmith/aliases/${inAddress(alias)}`, {
      model,
      reason: `trained again from ${origin}`,
    });
    return { state: "set", reason: null };
  } catch (error) {
    if (isUnknownAddress(error))
      return {
        state: "not offered",
        reason: "This server has no aliases: use the new model's name in your code.",
      };
    if (!isRefusal(error)) throw error;
    return { state: "failed", reason: messageOf(error) };
  }
}

/** The server's no to this request, which does not concern the next. */
function isRefusal(error: unknown): boolean {
  const status = statusOf(error);
  return status !== null && status >= 400 && status < 500 && status !== 401;
}

function faultsOf({ faults, fault_count: count, findings }: PreflightObject): string {
  const lines = faults
    .slice(0, 3)
    .map(({ line, message }) => (line === null ? message : `line ${line}: ${message}`));
  const errors = findings.filter(({ severity }) => severity === "error").map(({ message }) => message);
  const rest = count > lines.length ? ` and ${count - lines.length} more` : "";
  return `Its data would fail here: ${[...lines, ...errors].join("; ")}${rest}.`;
}

/** The same data, base and recipe have the same hash, whatever the files are called on the server. */
function recipeHash({ model, training, validation, request }: Training): string {
  return createHash("sha256")
    .update(JSON.stringify([model, training.sha256, validation?.sha256 ?? null, request]))
    .digest("hex");
}

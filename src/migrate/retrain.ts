// `retrain`: the jobs of a pull, again, on a base model of the user's server. All are judged before the first trains.
import { lstat, readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { InvalidRequest } from "../errors.ts";
import { faultOf, pathOf, requireManifest, type Item, type ItemKind, type Manifest } from "./manifest.ts";
import { openAiJob, type OpenAiJob } from "./openai-objects.ts";
import { carriedRecipe, refusalOf } from "./recipe.ts";
import {
  judge,
  trainJudged,
  type DataFile,
  type Judged,
  type TrainedHere,
  type Training,
  type TrainingHooks,
} from "./train-here.ts";
import type { TunesmithClient } from "./tunesmith-client.ts";

/** A job with its events. */
const MAX_JOB_FILE_BYTES = 256 * 1024 * 1024;

export interface RetrainOptions {
  base: string;
  /** Null: every job that can be had. */
  jobs: readonly string[] | null;
  alias: boolean;
}

interface Planned {
  job: OpenAiJob;
  /** OpenAI's job whose model this one goes on from; null: it starts from the base. */
  parent: string | null;
  training: Training;
  notCarried: string[];
}

export async function retrain(
  client: TunesmithClient,
  directory: string,
  options: RetrainOptions,
  hooks: TrainingHooks,
): Promise<TrainedHere[]> {
  const manifest = await requireManifest(directory);
  const jobs = await jobsOf(directory, manifest);
  const chosen = choose(jobs, options.jobs, directory);
  const results = new Map<string, TrainedHere>();
  const planned: Planned[] = [];
  for (const job of chosen) {
    const refused = refusalOf(job);
    const isNamed = options.jobs?.includes(job.id) ?? false;
    if (refused !== null && !isNamed) {
      results.set(job.id, { ...refusedResult(job, refused), state: "skipped" });
      continue;
    }
    const outcome = refused ?? (await planOf(directory, manifest, job, jobs, options));
    if (typeof outcome === "string") results.set(job.id, refusedResult(job, outcome));
    else planned.push(outcome);
  }
  const judged = new Map<string, Judged>();
  for (const { job, training, parent } of planned)
    // What goes on from another job is judged on the base, as the other's model is not there yet.
    if (parent === null) judged.set(job.id, await judge(client, training, hooks));
  for (const { job, parent, training, notCarried } of planned) {
    let verdict = judged.get(job.id);
    let final = training;
    if (parent !== null) {
      const model = results.get(parent)?.new_model ?? null;
      if (model === null) {
        results.set(
          job.id,
          refusedResult(job, `It goes on from the model of ${parent}, which is not trained here.`),
        );
        continue;
      }
      final = { ...training, model };
      verdict = await judge(client, final, hooks);
    }
    if (verdict === undefined) continue;
    results.set(job.id, {
      ...(await trainJudged(client, final, verdict, hooks)),
      old_model: job.fine_tuned_model ?? null,
      not_carried: notCarried,
    });
  }
  return chosen.flatMap(({ id }) => results.get(id) ?? []);
}

function refusedResult(job: OpenAiJob, reason: string): TrainedHere {
  return {
    origin: job.id,
    old_model: job.fine_tuned_model ?? null,
    state: "refused",
    reason,
    job: null,
    new_model: null,
    alias: { state: "unwanted", reason: null },
    preflight: null,
    not_carried: [],
  };
}

/** Oldest first, so that a job comes after the one it goes on from. */
async function jobsOf(directory: string, manifest: Manifest): Promise<OpenAiJob[]> {
  const jobs: OpenAiJob[] = [];
  for (const item of manifest.items.filter(({ kind, state }) => kind === "job" && state === "done"))
    jobs.push(await readJob(directory, item));
  return jobs.sort((a, b) => a.created_at - b.created_at);
}

async function readJob(directory: string, item: Item): Promise<OpenAiJob> {
  const fault = await faultOf(directory, item);
  if (fault !== null) throw new InvalidRequest(`${fault}. Pull again into ${directory}, which mends it.`);
  const path = join(directory, item.path);
  if ((await lstat(path)).size > MAX_JOB_FILE_BYTES)
    throw new InvalidRequest(`${path} is larger than ${MAX_JOB_FILE_BYTES} bytes, more than a job has.`);
  const json: unknown = JSON.parse(await readFile(path, "utf8"));
  const parsed = z.looseObject({ job: openAiJob }).safeParse(json);
  if (parsed.success && parsed.data.job.id === item.id) return parsed.data.job;
  throw new InvalidRequest(`${path} does not hold the job ${item.id}. Pull again into a new folder.`);
}

/** The jobs asked for, and those that they go on from. */
function choose(jobs: readonly OpenAiJob[], ids: readonly string[] | null, directory: string): OpenAiJob[] {
  if (jobs.length === 0)
    throw new InvalidRequest(
      `${directory} has no jobs. Pull first, or describe one by hand (docs/migrate.md).`,
    );
  if (ids === null) return [...jobs];
  const wanted = new Set<string>();
  const add = (id: string): void => {
    const job = jobs.find((each) => each.id === id);
    if (job === undefined)
      throw new InvalidRequest(
        `${directory} has no job "${id}". It has ${jobs.map((each) => each.id).join(", ")}.`,
      );
    if (wanted.has(id)) return;
    wanted.add(id);
    const parent = parentOf(job, jobs);
    if (parent !== undefined) add(parent.id);
  };
  for (const id of ids) add(id);
  return jobs.filter(({ id }) => wanted.has(id));
}

function parentOf(job: OpenAiJob, jobs: readonly OpenAiJob[]): OpenAiJob | undefined {
  const model = job.model.replace(/:ckpt-step-\d+$/, "");
  return jobs.find((each) => each.id !== job.id && each.fine_tuned_model === model);
}

/** What to train, or why not. */
async function planOf(
  directory: string,
  manifest: Manifest,
  job: OpenAiJob,
  jobs: readonly OpenAiJob[],
  { base, alias }: RetrainOptions,
): Promise<Planned | string> {
  let parent: OpenAiJob | undefined;
  if (job.model.startsWith("ft:")) {
    parent = parentOf(job, jobs);
    if (parent === undefined) return `It goes on from ${job.model}, whose job is not in ${directory}.`;
    if (/:ckpt-step-\d+$/.test(job.model))
      return `It goes on from the checkpoint ${job.model}, and only final models are made again.`;
  }
  const training = await dataFile(directory, manifest, job.training_file);
  if (typeof training === "string") return training;
  const validationId = job.validation_file ?? null;
  const validation = validationId === null ? null : await dataFile(directory, manifest, validationId);
  if (typeof validation === "string") return validation;
  const { request, notCarried } = carriedRecipe(job);
  return {
    job,
    parent: parent?.id ?? null,
    training: {
      origin: job.id,
      model: base,
      training,
      validation,
      request,
      alias: alias ? (job.fine_tuned_model ?? null) : null,
    },
    notCarried,
  };
}

/** The file, checked to the last bit; or why it cannot be used. */
async function dataFile(directory: string, manifest: Manifest, id: string): Promise<DataFile | string> {
  const item = findItem(manifest, "file", id);
  if (item === undefined) return `Its data ${id} is not in ${directory}. Pull again.`;
  if (item.state !== "done")
    return `Its data ${id} could not be had: ${item.reason ?? "it is not pulled yet"}`;
  const fault = await faultOf(directory, item);
  if (fault !== null) return `Its data was changed: ${fault}. Pull again, which mends it.`;
  const name = item.name !== null && /^[\w .-]{1,120}\.jsonl$/.test(item.name) ? item.name : `${id}.jsonl`;
  return { path: join(directory, item.path), name, sha256: item.sha256 ?? "" };
}

function findItem(manifest: Manifest, kind: ItemKind, id: string): Item | undefined {
  const path = pathOf(kind, id);
  return manifest.items.find((item) => item.path === path);
}

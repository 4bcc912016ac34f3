// `pull --from`: the folder of a pull made of files that a person saved, without a key. A data file is NAME.jsonl; a job is NAME.job.json,
// either as OpenAI shows it or the few members that a retraining needs.
import { createHash } from "node:crypto";
import { copyFile, lstat, readdir, readFile, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { InvalidRequest, messageOf } from "../errors.ts";
import { flushDirectory, flushFile, temporarySibling } from "../model/atomic-write.ts";
import { sha256OfFile } from "../model/file-hash.ts";
import { withFolder } from "./folder-lock.ts";
import type { Item } from "./manifest.ts";
import { isEnded, openAiJob, type OpenAiJob } from "./openai-objects.ts";
import { preparePullFolder, PullFolder } from "./pull-folder.ts";
import { summaryOf, type PullSummary } from "./pull.ts";
import { baseOf, shutDownOf } from "./shutdown-dates.ts";

/** A job as OpenAI shows it has some kilobytes. */
const MAX_JOB_BYTES = 4 * 1024 * 1024;
/** Files of the folder. */
const MAX_SAVED_FILES = 10_000;

const setting = z.union([z.literal("auto"), z.number().positive()]).optional();

/** The least that describes a job. What is misspelt is refused, so that no hyperparameter is lost in silence. */
const description = z
  .strictObject({
    training_file: z.string().min(1),
    validation_file: z.string().min(1).nullish(),
    model: z.string().min(1).optional(),
    fine_tuned_model: z.string().startsWith("ft:").nullish(),
    method: z.enum(["supervised", "dpo"]).default("supervised"),
    hyperparameters: z
      .strictObject({
        n_epochs: setting,
        batch_size: setting,
        learning_rate_multiplier: setting,
        beta: setting,
      })
      .optional(),
    seed: z.int().min(0).nullish(),
    suffix: z.string().nullish(),
  })
  .refine(({ model, fine_tuned_model }) => model !== undefined || typeof fine_tuned_model === "string", {
    message: 'it needs "model" or "fine_tuned_model", from which the base is known',
  });

export async function pullFromHand(from: string, directory: string): Promise<PullSummary> {
  const names = await namesIn(from);
  const jobs: { name: string; job: OpenAiJob }[] = [];
  for (const name of names.filter((each) => each.endsWith(".job.json")))
    jobs.push({ name, job: await jobOf(from, name) });
  // Everything is read before anything is written, so that a fault leaves nothing half-done.
  const data = new Map<string, Saved>();
  for (const name of names.filter((each) => each.endsWith(".jsonl")))
    data.set(name, { name, ...(await describe(join(from, name))) });
  if (data.size === 0)
    throw new InvalidRequest(
      `${from} has no data: expected training files as NAME.jsonl and jobs as NAME.job.json. See docs/migrate.md.`,
    );
  const resolved = jobs.map(({ name, job }) => withFiles(name, job, data));
  await preparePullFolder(directory);
  return withFolder(directory, async () => {
    const folder = await PullFolder.open(directory, { type: "hand" });
    for (const file of data.values()) await store(folder, join(from, file.name), file);
    for (const job of resolved) await storeJob(folder, job);
    const models = resolved.flatMap(({ id, fine_tuned_model: model }) =>
      typeof model === "string"
        ? [{ id: model, base: baseOf(model), job: id, stops_on: shutDownOf(model, null).date }]
        : [],
    );
    folder.describe(models, []);
    await folder.save();
    return summaryOf(folder, []);
  });
}

interface Saved {
  name: string;
  id: string;
  bytes: number;
  sha256: string;
}

async function namesIn(from: string): Promise<string[]> {
  const names = await readdir(from).catch((error: unknown) => {
    throw new InvalidRequest(`Cannot read the folder "${from}": ${messageOf(error)}. Check the path.`);
  });
  if (names.length > MAX_SAVED_FILES)
    throw new InvalidRequest(
      `${from} has ${names.length} entries, more than ${MAX_SAVED_FILES}. Put the data into a folder of its own.`,
    );
  return names.filter((name) => !name.startsWith(".")).sort();
}

/** An id from the content: the same file saved twice is one, and a second pull knows it again. */
async function describe(path: string): Promise<Omit<Saved, "name">> {
  const found = await lstat(path);
  if (!found.isFile()) throw new InvalidRequest(`${path} is no plain file. Copy the file itself there.`);
  const sha256 = await sha256OfFile(path);
  return { id: `file-${sha256.slice(0, 24)}`, bytes: found.size, sha256 };
}

async function jobOf(from: string, name: string): Promise<OpenAiJob> {
  const refuse = (what: string) =>
    new InvalidRequest(
      `${join(from, name)} describes no job: ${what}. See "Without a key" in docs/migrate.md.`,
    );
  const path = join(from, name);
  if ((await lstat(path)).size > MAX_JOB_BYTES) throw refuse(`it is larger than ${MAX_JOB_BYTES} bytes`);
  let json: unknown;
  try {
    json = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw refuse(`it is no JSON (${messageOf(error)})`);
  }
  if ((json as { object?: unknown } | null)?.object === "fine_tuning.job") {
    const parsed = openAiJob.safeParse(json);
    if (parsed.success) return parsed.data;
    throw refuse(issueText(parsed.error));
  }
  const parsed = description.safeParse(json);
  if (!parsed.success) throw refuse(issueText(parsed.error));
  const { method, hyperparameters = {}, model, fine_tuned_model: tuned, ...rest } = parsed.data;
  if (method === "supervised" && hyperparameters.beta !== undefined)
    throw refuse('"hyperparameters.beta" belongs to the method dpo, and this is supervised');
  const identity = createHash("sha256").update(JSON.stringify(parsed.data)).digest("hex").slice(0, 24);
  return openAiJob.parse({
    object: "fine_tuning.job",
    id: `ftjob-${identity}`,
    model: model ?? baseOf(tuned ?? ""),
    created_at: 0,
    status: "succeeded",
    fine_tuned_model: tuned ?? null,
    method: { type: method, [method]: { hyperparameters } },
    error: null,
    result_files: [],
    ...rest,
  });
}

function issueText(error: z.ZodError): string {
  const issue = error.issues[0];
  const place = issue?.path.map(String).join(".") ?? "";
  return place === "" ? (issue?.message ?? "") : `"${place}": ${issue?.message ?? ""}`;
}

/** The files by the ids they have in the folder. A job as OpenAI shows it names ids; the file is then saved as ID.jsonl. */
function withFiles(name: string, job: OpenAiJob, data: ReadonlyMap<string, Saved>): OpenAiJob {
  const find = (wanted: string): string => {
    const file = [basename(wanted), `${basename(wanted)}.jsonl`]
      .map((each) => data.get(each))
      .find((each) => each !== undefined);
    if (file !== undefined) return file.id;
    throw new InvalidRequest(
      `${name} names the data "${wanted}", which is not beside it: expected ${wanted}${wanted.endsWith(".jsonl") ? "" : ".jsonl"} in the same folder. Save it there.`,
    );
  };
  return {
    ...job,
    training_file: find(job.training_file),
    validation_file: typeof job.validation_file === "string" ? find(job.validation_file) : null,
    result_files: [],
  };
}

async function store(folder: PullFolder, from: string, file: Saved): Promise<void> {
  const item = folder.want({ kind: "file", id: file.id, name: file.name });
  if (item.state === "done") return;
  const target = folder.place(item);
  const temporary = temporarySibling(target);
  try {
    await copyFile(from, temporary);
    await flushFile(temporary);
    if ((await sha256OfFile(temporary)) !== file.sha256)
      throw new InvalidRequest(`${from} changed while it was copied. Run the command again.`);
    await rename(temporary, target);
    await flushDirectory(join(folder.directory, "files"));
  } finally {
    await rm(temporary, { force: true });
  }
  await folder.done(item, { bytes: file.bytes, sha256: file.sha256 });
}

async function storeJob(folder: PullFolder, job: OpenAiJob): Promise<void> {
  const item: Item = folder.want({
    kind: "job",
    id: job.id,
    name: job.fine_tuned_model ?? null,
    final: isEnded(job.status),
  });
  // A description that was corrected since has another id or another content: what is there is written anew.
  const content = { object: "tunesmith.pulled_job", job, events: [], all_events: false, checkpoints: [] };
  await folder.write(item, content);
}

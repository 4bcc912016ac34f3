// Filling a job directory before the trainer starts: the data files and job.json. Every file appears whole or not at all,
// so a server killed half-way just does it again. The data files go when the job has ended. It knows no statuses and no trainer.
import { createHash } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { copyFile, link, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { DatasetError, isFullDisk, OutOfSpace, TunesmithError } from "../errors.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { FileStore } from "../store/files.ts";
import type { ModelStore } from "../store/models.ts";
import { ADAPTER_FILES, jobPaths, type JobRecipe } from "../training/job-directory.ts";
import { readOwnJson } from "../training/own-files.ts";

/** The request members that name data files, and the name of each inside the job directory. */
export const DATA_FILES = {
  training_file: "training.jsonl",
  validation_file: "validation.jsonl",
} as const;
export type DataParam = keyof typeof DATA_FILES;

export interface DataFile {
  path: string;
  /** Lower-case hex of the content. */
  sha256: string;
}

/**
 * Puts an uploaded file into the job directory, unless it is there already. From then on the job no longer needs the upload.
 * Throws DatasetError (deleted_training_file) when the upload is gone.
 */
export async function takeDataFile(
  stores: { files: FileStore; blobs: BlobStore },
  jobDirectory: string,
  param: DataParam,
  { projectId, fileId }: { projectId: string; fileId: string },
): Promise<DataFile> {
  const taken = await takeFile(stores, join(jobDirectory, DATA_FILES[param]), { projectId, fileId, param });
  if (taken === null) throw deletedFile(param, fileId);
  return taken;
}

/** Puts an uploaded file at this path, whole, unless it is there already. Null when the upload is gone. */
export async function takeFile(
  stores: { files: FileStore; blobs: BlobStore },
  path: string,
  {
    projectId,
    fileId,
    param,
  }: { projectId: string; fileId: string; /** Which member of the request named it. */ param: string },
): Promise<DataFile | null> {
  if (await exists(path)) return { path, sha256: await sha256Of(path) };
  const file = await stores.files.get(projectId, fileId);
  if (file === null) return null;
  const source = stores.blobs.path(fileId);
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.part`;
  await rm(temporary, { force: true });
  try {
    await writing(dirname(path), () => linkOrCopy(source, temporary));
  } catch (error) {
    // Deleted since its row was read, or while it was copied.
    if (isNotFound(error) && !(await exists(source))) return null;
    throw error;
  }
  const sha256 = await sha256Of(temporary);
  if (sha256 !== file.sha256) {
    throw new TunesmithError(
      `The stored bytes of ${fileId} are damaged: expected sha256 ${file.sha256}, found ${sha256}. Upload the file again and create a new job; have the server's disk checked.`,
      { code: "server_error", param },
    );
  }
  await rename(temporary, path);
  return { path, sha256 };
}

function deletedFile(param: DataParam, fileId: string): DatasetError {
  const kind = param === "training_file" ? "training" : "validation";
  return new DatasetError(
    `The ${kind} file ${fileId} was deleted before the job could read it. Upload it again and create a new job.`,
    { code: `deleted_${param}`, param },
  );
}

/** The folder of a job directory that holds the adapter a run starts from. */
const INITIAL_ADAPTER = "initial-adapter";

/**
 * Copies a fine-tuned model's adapter into the job directory, unless it is there already. From then on the job no longer needs
 * the model. Throws TunesmithError (deleted_model) when the model is gone.
 */
export async function takeInitialAdapter(
  models: ModelStore,
  jobDirectory: string,
  { projectId, modelId }: { projectId: string; modelId: string },
): Promise<{ path: string; recipe: NonNullable<JobRecipe["initialAdapter"]> }> {
  const path = join(jobDirectory, INITIAL_ADAPTER);
  if (!(await exists(path))) await copyAdapter(models, projectId, modelId, path);
  const sha256 = await sha256Of(join(path, ADAPTER_FILES.weights));
  return { path, recipe: { model: modelId, folder: INITIAL_ADAPTER, sha256 } };
}

async function copyAdapter(
  models: ModelStore,
  projectId: string,
  modelId: string,
  path: string,
): Promise<void> {
  const model = await models.usable(projectId, modelId);
  if (model === null) throw deletedModel(modelId);
  const temporary = `${path}.part`;
  await rm(temporary, { recursive: true, force: true });
  await writing(dirname(path), async () => {
    await mkdir(temporary, { recursive: true });
    try {
      for (const name of Object.values(ADAPTER_FILES)) {
        await copyFile(join(model.adapterDirectory, name), join(temporary, name), constants.COPYFILE_FICLONE);
        await flush(join(temporary, name));
      }
    } catch (error) {
      // Deleted since its row was read, or while it was copied.
      if (isNotFound(error) && (await models.usable(projectId, modelId)) === null)
        throw deletedModel(modelId);
      throw error;
    }
    await flush(temporary);
    await rename(temporary, path);
  });
}

function deletedModel(modelId: string): TunesmithError {
  return new TunesmithError(
    `The model ${modelId} was deleted before the job could read it. Create a new job that starts from another model.`,
    { code: "deleted_model", param: "model" },
  );
}

/** A second name for the same bytes costs no space; across disks, or where links are not allowed, a copy must do. */
async function linkOrCopy(source: string, target: string): Promise<void> {
  try {
    await link(source, target);
  } catch {
    await copyFile(source, target, constants.COPYFILE_FICLONE);
    await flush(target);
  }
}

/** Writes job.json, whole and flushed. It is written last: a directory with it is complete. */
export async function writeRecipe(jobDirectory: string, recipe: JobRecipe): Promise<void> {
  const { recipe: path } = jobPaths(jobDirectory);
  await writing(jobDirectory, async () => {
    const temporary = `${path}.part`;
    const file = await open(temporary, "w");
    try {
      await file.writeFile(`${JSON.stringify(recipe, null, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    // The directory's entries too, or a power cut could take the renames back.
    await flush(dirname(path));
  });
}

/** The recipe of a directory that an earlier server completed, or null. Throws TunesmithError (damaged_job). */
export async function readRecipe(jobDirectory: string): Promise<JobRecipe | null> {
  try {
    return (await readOwnJson(jobPaths(jobDirectory).recipe)) as JobRecipe;
  } catch (error) {
    if (isNotFound(error)) return null;
    throw error;
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

async function writing(jobDirectory: string, write: () => Promise<void>): Promise<void> {
  try {
    await write();
  } catch (error) {
    if (isFullDisk(error)) {
      throw new OutOfSpace(
        `The disk that holds ${jobDirectory} is full, so the job could not be prepared. Free some space.`,
        { cause: error, code: "out_of_space" },
      );
    }
    throw error;
  }
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** Removes the data files and the initial adapter, also what was not whole yet: a hard link keeps the bytes of a deleted upload on the disk. */
export async function removeDataFiles(jobDirectory: string): Promise<void> {
  for (const name of [INITIAL_ADAPTER, `${INITIAL_ADAPTER}.part`]) {
    await rm(join(jobDirectory, name), { recursive: true, force: true });
  }
  for (const name of Object.values(DATA_FILES)) {
    for (const path of [join(jobDirectory, name), join(jobDirectory, `${name}.part`)]) {
      await rm(path, { force: true });
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Windows cannot open folders for this and does not need to. */
async function flush(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

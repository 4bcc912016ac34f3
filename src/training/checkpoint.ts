// Checkpoints of a training run: a PEFT adapter that can be served, and what the optimizer needs to go on to the same
// bytes. A checkpoint folder appears whole or not at all. Knows no data and no engine.
import { existsSync, readFileSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { UnsupportedModel } from "../errors.ts";
import {
  ADAPTER_CONFIG_FILE,
  ADAPTER_WEIGHTS_FILE,
  readAdapter,
  readAdapterConfig,
  writeAdapter,
  writeAdapterFiles,
} from "../model/adapter.ts";
import type { LoraAdapter } from "../model/adapter.ts";
import { writeDirectoryAtomically, writeFileAtomically } from "../model/atomic-write.ts";
import { catalogueEntry } from "../model/catalogue.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { SafetensorsFile, writeSafetensors } from "../model/safetensors.ts";
import { runtimeVersion } from "../runtime/session.ts";
import type { JobRecipe } from "./job-directory.ts";
import type { LoraParameters } from "./lora-parameters.ts";
import type { AdamW } from "./optimizer.ts";
import { readingOwn, readOwnJson } from "./own-files.ts";

const OPTIMIZER_FILE = "optimizer.safetensors";
const STATE_FILE = "state.json";

/** What a checkpoint was made with: other versions may round otherwise. */
export interface Versions {
  tunesmith: string;
  onnxruntime: string;
  node: string;
}

/** The rest of the state follows from the recipe: order, dropout and rates are functions of the seed and the step. */
interface CheckpointState {
  version: 1;
  step: number;
  /** Data hashes and seed are in it. */
  recipe: JobRecipe;
  versions: Versions;
}

export function currentVersions(): Versions {
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  return { tunesmith: version, onnxruntime: runtimeVersion(), node: process.version };
}

export interface TrainingState {
  parameters: LoraParameters;
  optimizer: AdamW;
}

/** The parameters as a PEFT adapter. */
export function toAdapter(parameters: LoraParameters, recipe: JobRecipe): LoraAdapter {
  const { rank, alpha, dropout, targetModules } = recipe.lora;
  const tensors: LoraAdapter["tensors"] = new Map();
  for (const { peftName, shape, offset, length } of parameters.slots) {
    tensors.set(peftName, { shape: [...shape], data: parameters.data.subarray(offset, offset + length) });
  }
  return {
    rank,
    alpha,
    dropout,
    targetModules: [...targetModules],
    // Where PEFT finds the original of a known model; the name of any other.
    baseModelId: catalogueEntry(recipe.baseModel.id)?.huggingFaceId ?? recipe.baseModel.id,
    tensors,
  };
}

/** Writes the final adapter; the same parameters give the same bytes. */
export async function saveAdapter(
  directory: string,
  parameters: LoraParameters,
  recipe: JobRecipe,
): Promise<void> {
  await writeAdapter(directory, toAdapter(parameters, recipe));
}

/** Writes `step-N` and gives back its path. */
export async function saveCheckpoint(
  folder: string,
  step: number,
  { parameters, optimizer }: TrainingState,
  recipe: JobRecipe,
): Promise<string> {
  const directory = checkpointPath(folder, step);
  await mkdir(folder, { recursive: true });
  await writeDirectoryAtomically(directory, async (temporary) => {
    await writeAdapterFiles(temporary, toAdapter(parameters, recipe));
    await writeSafetensors(
      join(temporary, OPTIMIZER_FILE),
      new Map([
        ["m", { shape: [optimizer.m.length], data: optimizer.m }],
        ["v", { shape: [optimizer.v.length], data: optimizer.v }],
      ]),
    );
    const state: CheckpointState = { version: 1, step, recipe, versions: currentVersions() };
    await writeFileAtomically(join(temporary, STATE_FILE), [`${JSON.stringify(state)}\n`]);
  });
  return directory;
}

/** Steps of the checkpoints in a folder, ascending; temporary leftovers of a killed trainer are not among them. */
export async function checkpointSteps(folder: string): Promise<number[]> {
  return (await namesIn(folder))
    .flatMap((name) => /^step-(\d+)$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

/**
 * Fills the state from `step-N`; gives back what it was made with. Throws UnsupportedModel where the checkpoint does not belong to
 * these parameters or to this recipe: going on from it would be another run.
 */
export async function loadCheckpoint(
  folder: string,
  step: number,
  { parameters, optimizer }: TrainingState,
  config: ModelConfig,
  recipe: JobRecipe,
): Promise<Versions> {
  const directory = checkpointPath(folder, step);
  const statePath = join(directory, STATE_FILE);
  const state = (await readingOwn(statePath, () => readOwnJson(statePath))) as CheckpointState;
  if (state.version !== 1 || state.step !== step) {
    throw new UnsupportedModel(
      `${directory} must hold step ${step} (version 1), says ${JSON.stringify(state)}.`,
    );
  }
  if (!isDeepStrictEqual(state.recipe, JSON.parse(JSON.stringify(recipe)))) {
    throw new UnsupportedModel(
      `${directory} was made with another recipe than job.json has now: ${firstDifference(state.recipe, recipe)}. Put job.json back as it was, or create the job again.`,
      { code: "changed_recipe" },
    );
  }
  await loadAdapter(directory, parameters, config);
  const momentsPath = join(directory, OPTIMIZER_FILE);
  const moments = await readingOwn(momentsPath, () => new SafetensorsFile(momentsPath));
  try {
    for (const name of ["m", "v"] as const) {
      const values = await readingOwn(momentsPath, () => moments.read(name));
      const expected = optimizer[name].length;
      if (values.length !== expected) {
        throw new UnsupportedModel(
          `${momentsPath} must hold ${name} with ${expected} values, has ${values.length}.`,
        );
      }
      optimizer[name].set(values);
    }
    optimizer.step = step;
  } finally {
    moments.close();
  }
  return state.versions;
}

function firstDifference(made: JobRecipe, now: JobRecipe): string {
  const names = [...new Set([...Object.keys(made), ...Object.keys(now)])] as (keyof JobRecipe)[];
  const name = names.find((each) => JSON.stringify(made[each]) !== JSON.stringify(now[each])) ?? "version";
  return `"${name}" was ${JSON.stringify(made[name])} and is ${JSON.stringify(now[name])}`;
}

/** Fills the parameters from a PEFT adapter. Throws UnsupportedModel where it does not belong to them. */
export async function loadAdapter(
  directory: string,
  parameters: LoraParameters,
  config: ModelConfig,
): Promise<void> {
  const [weights, description] = [ADAPTER_WEIGHTS_FILE, ADAPTER_CONFIG_FILE].map((name) =>
    join(directory, name),
  );
  const path = existsSync(description as string) ? weights : description;
  const adapter = await readingOwn(path as string, () => readAdapter(directory, config));
  for (const { peftName, offset, length } of parameters.slots) {
    const tensor = adapter.tensors.get(peftName);
    if (tensor?.data.length !== length) {
      throw new UnsupportedModel(`${directory} must hold ${peftName} with ${length} values; it does not.`);
    }
    parameters.data.set(tensor.data, offset);
  }
}

/** What a run that starts from this adapter inherits. Throws UnsupportedModel. */
export function loraOf(directory: string): JobRecipe["lora"] {
  const { rank, alpha, dropout, targetModules } = readAdapterConfig(directory);
  return { rank, alpha, dropout, targetModules };
}

/** Removes what a killed trainer left half-written, and every checkpoint but those to keep. */
export async function pruneCheckpoints(folder: string, keep: ReadonlySet<number>): Promise<void> {
  for (const name of await namesIn(folder)) {
    const step = /^step-(\d+)$/.exec(name)?.[1];
    if (step === undefined || !keep.has(Number(step)))
      await rm(join(folder, name), { recursive: true, force: true });
  }
}

/** Nothing in a folder that is not there yet; any other failure must not pass for an empty one. */
async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
}

export function checkpointPath(folder: string, step: number): string {
  return join(folder, `step-${step}`);
}

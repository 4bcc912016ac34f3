// Checkpoints: the same state comes back, half-written ones are never seen, others are refused.
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { smallConfig } from "../../test/engine/graph-families.ts";
import { UnsupportedModel } from "../errors.ts";
import { readAdapter } from "../model/adapter.ts";
import { writeSafetensors } from "../model/safetensors.ts";
import { createRandom } from "../random.ts";
import {
  checkpointSteps,
  currentVersions,
  loadCheckpoint,
  pruneCheckpoints,
  saveAdapter,
  saveCheckpoint,
} from "./checkpoint.ts";
import type { TrainingState } from "./checkpoint.ts";
import type { JobRecipe } from "./job-directory.ts";
import { LoraParameters } from "./lora-parameters.ts";
import { AdamW } from "./optimizer.ts";

const CONFIG = { ...smallConfig("qwen3"), layerCount: 2 };
const RECIPE: JobRecipe = {
  version: 1,
  jobId: "ftjob-1",
  baseModel: { id: "small", path: "/nowhere", sha256: "0" },
  method: "supervised",
  hyperparameters: {
    epochs: 1,
    batchSize: 1,
    learningRateMultiplier: 1,
    learningRate: 1,
    warmupRatio: 0,
    weightDecay: 0,
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    clipNorm: 1,
  },
  lora: { rank: 2, alpha: 4, dropout: 0, targetModules: ["q_proj", "v_proj"] },
  seed: 1,
  maxLength: 8,
  trainingData: { file: "training.jsonl", sha256: "0" },
  validationData: null,
  threads: 1,
};

let folder: string;
beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), "checkpoint-")), "checkpoints");
});
afterEach(() => rm(join(folder, ".."), { recursive: true }));

function state(seed: number, lora = RECIPE.lora): TrainingState {
  const parameters = new LoraParameters(CONFIG, lora);
  const optimizer = new AdamW(parameters.data.length, RECIPE.hyperparameters);
  const random = createRandom(seed);
  for (const array of [parameters.data, optimizer.m, optimizer.v]) {
    for (let i = 0; i < array.length; i++) array[i] = random.next();
  }
  optimizer.step = seed;
  return { parameters, optimizer };
}

async function save(...steps: number[]): Promise<void> {
  for (const step of steps) await saveCheckpoint(folder, step, state(step), RECIPE);
}

describe("a checkpoint", () => {
  it("gives back parameters, moments and step bit for bit", async () => {
    const saved = state(5);
    expect(await saveCheckpoint(folder, 5, saved, RECIPE)).toBe(join(folder, "step-5"));
    const loaded = state(99);
    expect(await loadCheckpoint(folder, 5, loaded, CONFIG, RECIPE)).toEqual(currentVersions());
    expect(loaded.parameters.data).toEqual(saved.parameters.data);
    expect(loaded.optimizer.m).toEqual(saved.optimizer.m);
    expect(loaded.optimizer.v).toEqual(saved.optimizer.v);
    expect(loaded.optimizer.step).toBe(5);
  });

  it("is a PEFT adapter, the same bytes as the final one", async () => {
    const saved = state(5);
    await saveCheckpoint(folder, 5, saved, RECIPE);
    await saveAdapter(join(folder, "adapter"), saved.parameters, RECIPE);
    for (const file of ["adapter_model.safetensors", "adapter_config.json"]) {
      const [checkpoint, final] = [join(folder, "step-5", file), join(folder, "adapter", file)];
      expect((await readFile(checkpoint)).equals(await readFile(final))).toBe(true);
    }
    const adapter = await readAdapter(join(folder, "step-5"), CONFIG);
    expect(adapter).toMatchObject({
      rank: 2,
      alpha: 4,
      baseModelId: "small",
      targetModules: ["q_proj", "v_proj"],
    });
  });

  it("replaces one of the same step", async () => {
    await saveCheckpoint(folder, 3, state(1), RECIPE);
    await saveCheckpoint(folder, 3, state(2), RECIPE);
    const loaded = state(99);
    await loadCheckpoint(folder, 3, loaded, CONFIG, RECIPE);
    expect(loaded.parameters.data).toEqual(state(2).parameters.data);
    expect(await readdir(folder)).toEqual(["step-3"]);
  });
});

describe("checkpointSteps", () => {
  it("is empty without a folder and sorts by number", async () => {
    expect(await checkpointSteps(folder)).toEqual([]);
    await save(10, 9, 2);
    expect(await checkpointSteps(folder)).toEqual([2, 9, 10]);
  });

  it("passes over what a killed trainer left half-written", async () => {
    await save(2);
    await mkdir(join(folder, ".step-3.1234-abcd.tmp"));
    await mkdir(join(folder, "step-4x"));
    expect(await checkpointSteps(folder)).toEqual([2]);
  });
});

describe("pruneCheckpoints", () => {
  it("removes all but those to keep, and half-written ones", async () => {
    await save(1, 2, 3);
    await mkdir(join(folder, ".step-4.1234-abcd.tmp"));
    await writeFile(join(folder, ".step-4.1234-abcd.tmp", "optimizer.safetensors"), "half");
    await pruneCheckpoints(folder, new Set([1, 3, 7]));
    expect((await readdir(folder)).sort()).toEqual(["step-1", "step-3"]);
  });

  it("does not take a folder that cannot be read for an empty one", async () => {
    await writeFile(folder, "no folder");
    await expect(pruneCheckpoints(folder, new Set([1]))).rejects.toThrow(/ENOTDIR/);
  });

  it("has nothing to do without a folder", async () => {
    await pruneCheckpoints(folder, new Set([1]));
  });
});

describe("loadCheckpoint refuses", () => {
  const load = (loaded = state(99), recipe = RECIPE) => loadCheckpoint(folder, 1, loaded, CONFIG, recipe);

  it("a checkpoint of another recipe: other data, another seed, another rate", async () => {
    await save(1);
    const others: Partial<JobRecipe>[] = [
      { trainingData: { file: "training.jsonl", sha256: "1" } },
      { seed: 2 },
      { hyperparameters: { ...RECIPE.hyperparameters, learningRate: 2 } },
    ];
    for (const other of others) {
      await expect(load(state(99), { ...RECIPE, ...other })).rejects.toThrow(UnsupportedModel);
    }
    await expect(load(state(99), { ...RECIPE, seed: 2 })).rejects.toThrow(
      `${folder}/step-1 was made with another recipe than job.json has now: "seed" was 1 and is 2. Put job.json back as it was, or create the job again.`,
    );
  });

  it("a checkpoint of other targets", async () => {
    await save(1);
    const other = state(99, { ...RECIPE.lora, targetModules: ["q_proj", "up_proj"] });
    await expect(load(other)).rejects.toThrow(UnsupportedModel);
    await expect(load(other)).rejects.toThrow(
      `${folder}/step-1 must hold base_model.model.model.layers.0.mlp.up_proj.lora_A.weight with 12 values; it does not.`,
    );
  });

  it("a checkpoint of more targets, whose moments belong to other parameters", async () => {
    await save(1);
    const fewer = state(99, { ...RECIPE.lora, targetModules: ["q_proj"] });
    await expect(load(fewer)).rejects.toThrow(UnsupportedModel);
    const { m } = state(1).optimizer;
    await expect(load(fewer)).rejects.toThrow(
      `${folder}/step-1/optimizer.safetensors must hold m with ${fewer.optimizer.m.length} values, has ${m.length}.`,
    );
  });

  it("moments that are too short", async () => {
    await save(1);
    const { m } = state(1).optimizer;
    const path = join(folder, "step-1", "optimizer.safetensors");
    await writeSafetensors(
      path,
      new Map([
        ["m", { shape: [m.length], data: m }],
        ["v", { shape: [3], data: new Float32Array(3) }],
      ]),
    );
    await expect(load()).rejects.toThrow(`${path} must hold v with ${m.length} values, has 3.`);
  });

  it("a checkpoint of another rank", async () => {
    await save(1);
    const other = state(99, { ...RECIPE.lora, rank: 4 });
    await expect(load(other)).rejects.toThrow("lora_A.weight with 24 values; it does not.");
  });

  it("a folder whose state is another step's, or of another version", async () => {
    await save(1);
    const path = join(folder, "step-1", "state.json");
    await writeFile(path, '{"version":1,"step":2}');
    await expect(load()).rejects.toThrow('must hold step 1 (version 1), says {"version":1,"step":2}.');
    await writeFile(path, '{"version":2,"step":1}');
    await expect(load()).rejects.toThrow('must hold step 1 (version 1), says {"version":2,"step":1}.');
  });

  it.each([
    ["state.json", "", "found an empty file."],
    ["state.json", "null", "found JSON that is no object."],
    ["state.json", null, "found none."],
    ["optimizer.safetensors", "\0\0\0", "found what cannot be read"],
    ["optimizer.safetensors", null, "found none."],
    ["adapter_model.safetensors", "\0\0\0", "found what cannot be read"],
    ["adapter_model.safetensors", null, "found none."],
    ["adapter_config.json", null, "found none."],
  ])("damaged files, with what to do about the job: %s %j", async (name, content, found) => {
    await save(1);
    const path = join(folder, "step-1", name);
    if (content === null) await rm(path);
    else await writeFile(path, content);
    const error: unknown = await load().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "damaged_job" });
    const { message } = error as Error;
    expect(message).toContain(`A file of the job is damaged: expected ${path} as it was written, ${found}`);
    expect(message).toMatch(/then create the job again\.$/);
  });
});

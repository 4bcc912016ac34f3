// Training by preference on a tiny model: the reference is computed once and kept, and a run that is interrupted anywhere, while it
// computes the reference too, ends in the same bytes as one that was not.
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { splitPairsIntoPasses } from "../../src/data/preference-batches.ts";
import type { BatchPair } from "../../src/data/preference-batches.ts";
import { createRandom } from "../../src/random.ts";
import { saveAdapter } from "../../src/training/checkpoint.ts";
import { DecoderRunner } from "../../src/training/decoder-runner.ts";
import { EventLog, readEvents } from "../../src/training/event-log.ts";
import { listed } from "../../src/training/examples.ts";
import type { JobRecipe } from "../../src/training/job-directory.ts";
import { LoraParameters } from "../../src/training/lora-parameters.ts";
import { AdamW } from "../../src/training/optimizer.ts";
import { preferenceLoss } from "../../src/training/preference-loss.ts";
import { referenceScores, withReference } from "../../src/training/reference.ts";
import { resultCsv } from "../../src/training/result-file.ts";
import { train } from "../../src/training/train.ts";
import { loadTinyModel } from "./goldens.ts";

const BETA = 0.5;
/** 40 pairs of training and validation: two chunks of the reference. */
const [TRAINING, VALIDATION] = [34, 6];

const RECIPE: JobRecipe = {
  version: 1,
  jobId: "ftjob-1",
  baseModel: { id: "tiny", path: "/nowhere", sha256: "0" },
  method: "dpo",
  hyperparameters: {
    epochs: 2,
    batchSize: 17,
    learningRateMultiplier: 1,
    learningRate: 0.02,
    warmupRatio: 0,
    weightDecay: 0.01,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    clipNorm: 1,
    beta: BETA,
  },
  lora: { rank: 2, alpha: 4, dropout: 0.1, targetModules: ["q_proj", "v_proj", "down_proj"] },
  seed: 11,
  maxLength: 32,
  trainingData: { file: "training.jsonl", sha256: "0" },
  validationData: null,
  threads: 1,
};

const { config, weights } = await loadTinyModel("tiny-llama");
const parameters = new LoraParameters(config, RECIPE.lora);
const runner = new DecoderRunner({ config, weights, parameters, lora: RECIPE.lora, threads: 1 });
const pairs = makePairs(TRAINING + VALIDATION);

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "preference-loop-"));
});
afterAll(async () => {
  await runner.release();
  await rm(root, { recursive: true });
});

/** The preferred answers are of low tokens, the others of high ones. */
function makePairs(count: number): BatchPair[] {
  const random = createRandom(5);
  const draw = (length: number, from: number, to: number): number[] =>
    Array.from({ length }, () => from + random.below(to - from));
  return Array.from({ length: count }, () => {
    const prompt = draw(3 + random.below(6), 3, config.vocabSize);
    const row = (answer: number[]) => ({
      tokens: Int32Array.of(...prompt, ...answer),
      supervised: Uint8Array.from([...prompt, ...answer], (_, i) => Number(i >= prompt.length)),
    });
    return {
      preferred: row(draw(1 + random.below(5), 3, 20)),
      rejected: row(draw(1 + random.below(5), 60, config.vocabSize)),
    };
  });
}

type PointKind = "train" | "evaluate" | "event";

interface Settings {
  /** Called before every pass, evaluation and event, with its number from 0. */
  atPoint?: (point: number, stop: AbortController, kind: PointKind) => void;
  saveIntervalMs?: number;
}

/** One trainer process: new state, the files of the folder. Resolves to how many pairs' reference it computed, and its points. */
async function runOnce(folder: string, settings: Settings = {}) {
  const { atPoint = () => undefined, saveIntervalMs = Infinity } = settings;
  parameters.data.fill(NaN);
  parameters.initialize(RECIPE.seed);
  const optimizer = new AdamW(parameters.data.length, RECIPE.hyperparameters);
  const stop = new AbortController();
  let points = 0;
  const point = (kind: PointKind): void => atPoint(points++, stop, kind);
  const log = await EventLog.open(join(folder, "events.jsonl"));
  const append = log.append.bind(log);
  log.append = (event) => (point("event"), append(event));
  runner.train = (...options) => (point("train"), DecoderRunner.prototype.train.apply(runner, options));
  runner.evaluate = (...options) => (
    point("evaluate"),
    DecoderRunner.prototype.evaluate.apply(runner, options)
  );
  let time = 0;
  const common = { runner, signal: stop.signal, now: () => (time += 10) };
  try {
    const path = join(folder, "reference.json");
    const { scores, computed } = await referenceScores(pairs, { ...common, path, saveIntervalMs });
    await train({
      ...common,
      recipe: RECIPE,
      loss: preferenceLoss(BETA),
      config,
      state: { parameters, optimizer },
      training: listed(withReference(pairs.slice(0, TRAINING), scores)),
      validation: listed(withReference(pairs.slice(TRAINING), scores.slice(TRAINING))),
      events: log,
      checkpointFolder: join(folder, "checkpoints"),
      checkpointIntervalMs: 0,
    });
    await saveAdapter(join(folder, "adapter"), parameters, RECIPE);
    return { computed, points };
  } finally {
    await log.close();
  }
}

async function report(folder: string) {
  const files: Record<string, string> = {};
  for (const name of await readdir(folder, { recursive: true })) {
    if (/\.(safetensors|json)$/.test(name))
      files[name] = (await readFile(join(folder, name))).toString("base64");
  }
  return { csv: resultCsv(await readEvents(join(folder, "events.jsonl")), "dpo"), files };
}

const newFolder = (): Promise<string> => mkdtemp(join(root, "run-"));

async function uninterrupted() {
  const folder = await newFolder();
  const { computed, points } = await runOnce(folder);
  expect(computed).toBe(pairs.length);
  return { folder, points, report: await report(folder) };
}

describe("a run by preference", () => {
  it("learns the preference, in pairs it has not seen too", async () => {
    const { folder } = await uninterrupted();
    const events = await readEvents(join(folder, "events.jsonl"));
    const metrics = events.flatMap((event) => (event.type === "metrics" ? [event] : []));
    expect(metrics).toHaveLength(4);
    expect(metrics[0]?.trainLoss).toBeCloseTo(Math.LN2, 1);
    const last = metrics.at(-1);
    expect(last?.trainLoss).toBeLessThan(0.6);
    expect(last?.fullValidRewardMargin).toBeGreaterThan(0);
    expect(last?.fullValidRewardAccuracy).toBeGreaterThan(0.5);
    expect(Object.keys(last ?? {})).not.toContain("trainMeanTokenAccuracy");
  });

  it("that was killed anywhere and started again ends in the same bytes", async () => {
    const whole = await uninterrupted();
    for (let killedAt = 0; killedAt < whole.points; killedAt++) {
      const folder = await newFolder();
      const atPoint = (point: number): void => {
        if (point >= killedAt) throw new Error("killed");
      };
      await expect(runOnce(folder, { atPoint, saveIntervalMs: 0 })).rejects.toThrow("killed");
      await runOnce(folder);
      expect(await report(folder), `killed at point ${killedAt}`).toEqual(whole.report);
    }
  });
});

describe("the reference", () => {
  it("is not computed again by a run that goes on, and what was asked to stop keeps whole chunks of it", async () => {
    const whole = await uninterrupted();
    expect((await runOnce(whole.folder)).computed).toBe(0);

    const folder = await newFolder();
    // In the last pass of the first chunk.
    let passes = splitPairsIntoPasses(pairs.slice(0, 32)).length;
    const atPoint = (_: number, stop: AbortController, kind: PointKind): void => {
      if (kind === "evaluate" && --passes === 0) stop.abort(new Error("asked to stop"));
    };
    await expect(runOnce(folder, { atPoint })).rejects.toThrow("asked to stop");
    expect((await runOnce(folder)).computed).toBe(pairs.length - 32);
    expect(await report(folder)).toEqual(whole.report);
  });

  it.each([
    ["cut short", (text: string) => text.slice(0, -20)],
    ["no object", () => "null"],
    ["changed in a number", (text: string) => text.replace(/\[\[-\d/, "[[-9")],
    ["of other pairs", (text: string) => text.replace("[[", "[[0,0],[")],
  ])("in a file that is %s is computed again, to the same numbers", async (_, damage) => {
    const whole = await uninterrupted();
    const path = join(whole.folder, "reference.json");
    const text = await readFile(path, "utf8");
    await writeFile(path, damage(text));
    const options = { runner, path, saveIntervalMs: 0, signal: new AbortController().signal, now: () => 0 };
    parameters.initialize(RECIPE.seed);
    expect((await referenceScores(pairs, options)).computed).toBe(pairs.length);
    expect(await readFile(path, "utf8")).toBe(text);
  });
});

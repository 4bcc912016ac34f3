// The training loop on a tiny model: killed or stopped anywhere and resumed, it ends in the same bytes and the same report as
// a run that was never interrupted. Clock and data are fakes, the files are real.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BatchExample } from "../../src/data/batches.ts";
import { createRandom } from "../../src/random.ts";
import { checkpointSteps, saveAdapter } from "../../src/training/checkpoint.ts";
import { DecoderRunner } from "../../src/training/decoder-runner.ts";
import { EventLog, readEvents } from "../../src/training/event-log.ts";
import { listed } from "../../src/training/examples.ts";
import type { JobRecipe, TrainerEvent } from "../../src/training/job-directory.ts";
import { LoraParameters } from "../../src/training/lora-parameters.ts";
import { AdamW } from "../../src/training/optimizer.ts";
import { resultCsv } from "../../src/training/result-file.ts";
import { train } from "../../src/training/train.ts";
import { SUPERVISED_LOSS } from "../../src/training/loss.ts";
import { evaluateLoss } from "../../src/training/train-step.ts";
import { loadTinyModel } from "./goldens.ts";

/** 5 examples in batches of 2: 3 steps an epoch. */
const RECIPE: JobRecipe = {
  version: 1,
  jobId: "ftjob-1",
  baseModel: { id: "tiny", path: "/nowhere", sha256: "0" },
  method: "supervised",
  hyperparameters: {
    epochs: 2,
    batchSize: 2,
    learningRateMultiplier: 1,
    learningRate: 0.01,
    warmupRatio: 0.2,
    weightDecay: 0.01,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    clipNorm: 1,
  },
  lora: { rank: 2, alpha: 4, dropout: 0.1, targetModules: ["q_proj", "v_proj"] },
  seed: 11,
  maxLength: 32,
  trainingData: { file: "training.jsonl", sha256: "0" },
  validationData: null,
  threads: 1,
};

const { config, weights } = await loadTinyModel("tiny-llama");
const parameters = new LoraParameters(config, RECIPE.lora);
const runner = new DecoderRunner({ config, weights, parameters, lora: RECIPE.lora, threads: 1 });
const training = makeExamples([9, 12, 5, 20, 7], 1);
const validation = makeExamples([6, 11, 8, 9, 7], 2);

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "train-loop-"));
});
afterAll(async () => {
  await runner.release();
  await rm(root, { recursive: true });
});

function makeExamples(lengths: readonly number[], seed: number): BatchExample[] {
  const random = createRandom(seed);
  return lengths.map((length) => ({
    tokens: Int32Array.from({ length }, () => random.below(config.vocabSize)),
    supervised: Uint8Array.from({ length }, (_, i) => (i >= 2 ? 1 : 0)),
  }));
}

interface Settings {
  recipe?: JobRecipe;
  validation?: readonly BatchExample[];
  checkpointIntervalMs?: number;
  /** Called before every step's turn of other work, pass, evaluation and event, with its number from 0. May throw, or abort the controller. */
  atPoint?: (point: number, stop: AbortController, kind: PointKind) => void;
  onMetrics?: () => void;
  betweenSteps?: (milliseconds: number) => Promise<void>;
}

type PointKind = "between steps" | "train" | "evaluate" | "event";

/** One trainer process: new state, the files of the folder. Resolves to its number of points, rejects as `train` does. */
async function runOnce(folder: string, settings: Settings = {}): Promise<number> {
  const { recipe = RECIPE, checkpointIntervalMs = Infinity, atPoint = () => undefined } = settings;
  parameters.data.fill(NaN);
  parameters.initialize(recipe.seed);
  const optimizer = new AdamW(parameters.data.length, recipe.hyperparameters);
  const stop = new AbortController();
  let points = 0;
  const point = (kind: PointKind): void => atPoint(points++, stop, kind);
  const log = await EventLog.open(join(folder, "events.jsonl"));
  const append = log.append.bind(log);
  log.append = async (event) => {
    point("event");
    await append(event);
    if (event.type === "metrics") settings.onMetrics?.();
  };
  runner.train = (...options) => (point("train"), DecoderRunner.prototype.train.apply(runner, options));
  runner.evaluate = (...options) => (
    point("evaluate"),
    DecoderRunner.prototype.evaluate.apply(runner, options)
  );
  let time = 0;
  try {
    await train({
      recipe,
      loss: SUPERVISED_LOSS,
      config,
      runner,
      state: { parameters, optimizer },
      training: listed(training),
      validation: listed(settings.validation ?? validation),
      betweenSteps: async (milliseconds) => {
        point("between steps");
        stop.signal.throwIfAborted();
        await settings.betweenSteps?.(milliseconds);
      },
      events: log,
      checkpointFolder: join(folder, "checkpoints"),
      checkpointIntervalMs,
      signal: stop.signal,
      now: () => (time += 10),
    });
    await saveAdapter(join(folder, "adapter"), parameters, recipe);
  } finally {
    await log.close();
  }
  return points;
}

/** Everything a finished job is judged by, bytes included. */
async function report(folder: string) {
  const events = await readEvents(join(folder, "events.jsonl"));
  const last = new Map<string, TrainerEvent>();
  for (const event of events) {
    if (event.type === "metrics")
      last.set(`metrics ${event.step}`, { ...event, at: 0, tokensPerSecond: 0, secondsLeft: 0 });
    if (event.type === "checkpoint" && event.epochEnd) {
      last.set(`checkpoint ${event.step}`, {
        ...event,
        at: 0,
        directory: event.directory.slice(folder.length),
      });
    }
  }
  const files: Record<string, string> = {};
  for (const name of await readdir(folder, { recursive: true })) {
    if (/\.(safetensors|json)$/.test(name))
      files[name] = (await readFile(join(folder, name))).toString("base64");
  }
  return { csv: resultCsv(events, RECIPE.method), events: Object.fromEntries([...last].sort()), files };
}

async function newFolder(name: string): Promise<string> {
  return mkdtemp(join(root, `${name}-`));
}

async function uninterrupted(settings: Settings = {}) {
  const folder = await newFolder("whole");
  const points = await runOnce(folder, settings);
  return { folder, points, report: await report(folder) };
}

describe("a run that was interrupted and resumed ends like one that was not", () => {
  it("wherever the trainer is killed", async () => {
    const whole = await uninterrupted();
    // Six steps of one turn of other work, one pass, one evaluation and one event; for each of two epochs the whole file and the checkpoint's event.
    expect(whole.points).toBe(6 * 4 + 2 * 2);
    for (let killedAt = 0; killedAt < whole.points; killedAt++) {
      const folder = await newFolder("killed");
      const atPoint = (point: number): void => {
        if (point >= killedAt) throw new Error("killed");
      };
      await expect(runOnce(folder, { atPoint })).rejects.toThrow("killed");
      await runOnce(folder);
      expect(await report(folder), `killed at point ${killedAt}`).toEqual(whole.report);
    }
  });

  it("wherever it is asked to stop; in the middle of a step it then loses no step before", async () => {
    const whole = await uninterrupted();
    for (let stoppedAt = 0; stoppedAt < whole.points; stoppedAt++) {
      const folder = await newFolder("stopped");
      const reason = new Error("asked to stop");
      const places: PointKind[] = [];
      const atPoint = (point: number, stop: AbortController, kind: PointKind): void => {
        if (point !== stoppedAt) return;
        places.push(kind);
        stop.abort(reason);
      };
      const outcome = await runOnce(folder, { atPoint }).catch((error: unknown) => error);
      if (outcome !== reason) {
        // It came after the last look at the signal: the run is whole.
        expect(await report(folder)).toEqual(whole.report);
        continue;
      }
      const steps = (await readEvents(join(folder, "events.jsonl"))).flatMap((event) =>
        event.type === "metrics" ? [event.step] : [],
      );
      const newest = (await checkpointSteps(join(folder, "checkpoints"))).at(-1) ?? 0;
      // A step whose validation was cut short has moved the parameters already: the newest earlier checkpoint stands.
      if (!places.includes("evaluate")) expect(newest).toBe(steps.at(-1) ?? 0);
      await runOnce(folder);
      expect(await report(folder), `stopped at point ${stoppedAt}`).toEqual(whole.report);
      const events = await readEvents(join(folder, "events.jsonl"));
      expect(events.filter(({ type }) => type === "resumed")).toMatchObject(
        newest === 0 ? [] : [{ step: newest }],
      );
    }
  });

  it("when it is killed again and again, with a checkpoint at every step", async () => {
    const whole = await uninterrupted({ checkpointIntervalMs: 0 });
    const folder = await newFolder("killed often");
    let runs = 0;
    for (let finished = false; !finished; runs++) {
      // Far enough for one step and its checkpoint each time.
      const atPoint = (point: number): void => {
        if (point >= 8) throw new Error("killed");
      };
      finished = await runOnce(folder, { checkpointIntervalMs: 0, atPoint }).then(
        () => true,
        () => false,
      );
      expect(runs).toBeLessThan(20);
    }
    expect(runs).toBeGreaterThan(2);
    expect(await report(folder)).toEqual(whole.report);
  });
});

it("gives work that no step waits for a quarter of each step's time, and none before the first", async () => {
  const given: number[] = [];
  await runOnce(await newFolder("work"), {
    betweenSteps: async (milliseconds) => void given.push(milliseconds),
  });
  // The clock of runOnce goes on by 10 ms each time it is read.
  expect(given).toEqual([0, 2.5, 2.5, 2.5, 2.5, 2.5]);
});

const FIVE_EPOCHS = { ...RECIPE, hyperparameters: { ...RECIPE.hyperparameters, epochs: 5 } };

describe("early stopping", () => {
  /** A rate that spoils the adapter: the loss over the validation file is lowest early on. */
  const SPOILING: JobRecipe = {
    ...RECIPE,
    hyperparameters: { ...RECIPE.hyperparameters, epochs: 8, learningRate: 0.05, warmupRatio: 0 },
  };
  const lossesOf = async (folder: string) =>
    (await readEvents(join(folder, "events.jsonl"))).flatMap((event) =>
      event.type === "metrics" && event.fullValidLoss !== undefined ? [event.fullValidLoss] : [],
    );
  const adapterOf = (folder: string, ...names: string[]) =>
    readFile(join(folder, ...names, "adapter_model.safetensors"));

  it("ends after so many epochs without a lower loss, with the best epoch's adapter; without it nothing ends early", async () => {
    const whole = await newFolder("patient");
    await runOnce(whole, { recipe: SPOILING });
    const losses = await lossesOf(whole);
    expect(losses).toHaveLength(8);
    const best = losses.indexOf(Math.min(...losses));
    const folder = await newFolder("early");
    const patience = 2;
    await runOnce(folder, { recipe: { ...SPOILING, earlyStopping: { patience } } });
    // Patience looks at the best so far, which the whole run may beat later.
    const expected = losses.findIndex(
      (_, i) => i - losses.indexOf(Math.min(...losses.slice(0, i + 1))) >= patience,
    );
    expect(expected).toBeGreaterThan(0);
    expect(await lossesOf(folder)).toEqual(losses.slice(0, expected + 1));
    const bestSoFar = expected - patience;
    const events = await readEvents(join(folder, "events.jsonl"));
    expect(events.find(({ type }) => type === "stopped")).toMatchObject({
      step: 3 * (expected + 1),
      totalSteps: 24,
      bestStep: 3 * (bestSoFar + 1),
    });
    const bestAdapter = await adapterOf(folder, "checkpoints", `step-${3 * (bestSoFar + 1)}`);
    expect((await adapterOf(folder, "adapter")).equals(bestAdapter)).toBe(true);
    // The run without it ends as it always did, and keeps its best all the same.
    expect((await adapterOf(whole, "adapter")).equals(await adapterOf(whole, "checkpoints", "step-24"))).toBe(
      true,
    );
    expect(await checkpointSteps(join(whole, "checkpoints"))).toContain(3 * (best + 1));
  });

  it("ends the same wherever the trainer is killed", async () => {
    const settings = { recipe: { ...SPOILING, earlyStopping: { patience: 1 } } };
    const whole = await uninterrupted(settings);
    for (let killedAt = 1; killedAt < whole.points; killedAt += 2) {
      const folder = await newFolder("killed early");
      const atPoint = (point: number): void => {
        if (point >= killedAt) throw new Error("killed");
      };
      await expect(runOnce(folder, { ...settings, atPoint })).rejects.toThrow("killed");
      await runOnce(folder, settings);
      expect(await report(folder), `killed at point ${killedAt}`).toEqual(whole.report);
    }
  });
});

describe("checkpoints", () => {
  const stepsOf = (folder: string): Promise<number[]> => checkpointSteps(join(folder, "checkpoints"));

  it("stand at the last three epochs' ends and at the newest step", async () => {
    const folder = await newFolder("epochs");
    // Without validation none is the best.
    const settings = { recipe: FIVE_EPOCHS, checkpointIntervalMs: 0, validation: [] };
    let metrics = 0;
    const killed = runOnce(folder, {
      ...settings,
      atPoint: (_point, _stop, kind) => {
        if (kind === "train" && metrics === 13) throw new Error("killed");
      },
      onMetrics: () => (metrics += 1),
    });
    await expect(killed).rejects.toThrow("killed");
    expect(await stepsOf(folder)).toEqual([6, 9, 12, 13]);
    await runOnce(folder, settings);
    expect(await stepsOf(folder)).toEqual([9, 12, 15]);
  });

  it("come between epochs only when the interval has passed", async () => {
    const reported = async (checkpointIntervalMs: number): Promise<number[]> => {
      const folder = await newFolder("interval");
      await runOnce(folder, { checkpointIntervalMs });
      const events = await readEvents(join(folder, "events.jsonl"));
      return events.flatMap((event) => (event.type === "checkpoint" ? [event.step] : []));
    };
    expect(await reported(Infinity)).toEqual([3, 6]);
    expect(await reported(0)).toEqual([1, 2, 3, 4, 5, 6]);
    // A step looks at the clock three times, 10 ms apart: after two steps the 60 ms have passed.
    expect(await reported(60)).toEqual([2, 3, 5, 6]);
  });
});

describe("metrics", () => {
  const metricsOf = async (settings: Settings) => {
    const folder = await newFolder("metrics");
    await runOnce(folder, settings);
    const events = await readEvents(join(folder, "events.jsonl"));
    return events.flatMap((event) => (event.type === "metrics" ? [event] : []));
  };

  it("hold a batch of the validation file at epoch ends, with the whole of it, and at about ten steps in all", async () => {
    const metrics = await metricsOf({ recipe: FIVE_EPOCHS });
    expect(metrics.map(({ step, totalSteps: total }) => [step, total])).toEqual(
      Array.from({ length: 15 }, (_, i) => [i + 1, 15]),
    );
    const having = (name: "validLoss" | "fullValidLoss"): number[] =>
      metrics.filter((one) => one[name] !== undefined).map(({ step }) => step);
    expect(having("fullValidLoss")).toEqual([3, 6, 9, 12, 15]);
    expect(having("validLoss")).toEqual([2, 3, 4, 6, 8, 9, 10, 12, 14, 15]);
    const last = metrics.at(-1);
    const found = await evaluateLoss(SUPERVISED_LOSS, runner, validation);
    expect([last?.fullValidLoss, last?.fullValidMeanTokenAccuracy]).toEqual([found.loss, found.accuracy]);
    expect(metrics.at(-1)?.trainLoss).toBeLessThan(metrics[0]?.trainLoss as number);
  });

  it("hold no validation without a validation file", async () => {
    const metrics = await metricsOf({ validation: [] });
    expect(metrics).toHaveLength(6);
    for (const one of metrics) expect(Object.keys(one).filter((name) => /valid/i.test(name))).toEqual([]);
  });

  it("measure speed over training steps alone", async () => {
    const [first, ...rest] = await metricsOf({});
    // Each step takes one tick of 10 ms between its two looks at the clock.
    expect(first?.secondsLeft).toBeCloseTo(0.05, 9);
    expect(rest.at(-1)?.secondsLeft).toBe(0);
    const tokens = 2 * training.reduce((sum, { tokens: one }) => sum + one.length, 0);
    expect(rest.at(-1)?.tokensPerSecond).toBeCloseTo(tokens / 0.06, 6);
  });
});

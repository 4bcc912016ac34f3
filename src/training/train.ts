// The training loop: steps, validation, checkpoints, events. Everything random is a function of the recipe's seed and the
// step, so a run that goes on from a checkpoint ends in the same bytes as one that was never interrupted.
import { epochBatches } from "../data/batches.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { createRandom, shuffle } from "../random.ts";
import { bestStep, hasStoppedImproving, validationLosses } from "./best-checkpoint.ts";
import {
  checkpointPath,
  checkpointSteps,
  currentVersions,
  loadAdapter,
  loadCheckpoint,
  pruneCheckpoints,
  saveCheckpoint,
} from "./checkpoint.ts";
import type { TrainingState, Versions } from "./checkpoint.ts";
import type { DecoderRunner } from "./decoder-runner.ts";
import type { EventLog } from "./event-log.ts";
import { allPlaces } from "./examples.ts";
import type { Examples } from "./examples.ts";
import { KEPT_EPOCHS } from "./job-directory.ts";
import type { JobRecipe, MetricScope, StepMetrics } from "./job-directory.ts";
import type { Loss, Measured } from "./loss.ts";
import { learningRateAt } from "./optimizer.ts";
import { STREAM } from "./random-streams.ts";
import { evaluateLoss, trainStep } from "./train-step.ts";

/** Validation batches over a run besides the full ones at epoch ends: enough for a curve, little enough to cost little. */
const VALIDATION_BATCHES = 10;

/** Examples of a validation batch when the training batch is smaller: a loss over fewer says little. */
const MIN_VALIDATION_BATCH = 4;

/** What may be done between two steps takes this share of the time of the step before: hardly felt, and soon over. */
const BETWEEN_STEPS_SHARE = 0.25;

export interface TrainingRun<Example, Metrics extends Measured> {
  recipe: JobRecipe;
  loss: Loss<Example, Metrics>;
  config: ModelConfig;
  runner: DecoderRunner;
  state: TrainingState;
  training: Examples<Example>;
  /** Empty without a validation file. */
  validation: Examples<Example>;
  /** Work that no step waits for, for so many milliseconds. */
  betweenSteps?: (milliseconds: number) => Promise<void>;
  events: EventLog;
  checkpointFolder: string;
  /** A killed run loses at most this much work and one step. */
  checkpointIntervalMs: number;
  signal: AbortSignal;
  /** Milliseconds, monotonic. */
  now: () => number;
}

export interface TrainingEnd {
  /** Epochs trained: the recipe's, or fewer after an early stop. */
  epochs: number;
  /** The step whose parameters are left: the last one, or the best epoch's where the recipe stops early. */
  finalStep: number;
}

export function totalSteps(recipe: JobRecipe, exampleCount: number): number {
  return recipe.hyperparameters.epochs * Math.ceil(exampleCount / recipe.hyperparameters.batchSize);
}

/**
 * Trains to the last step, or to an early stop, from the newest checkpoint where there is one. When the signal aborts it throws the signal's
 * reason. Between steps and inside one it first writes a checkpoint of the last finished step. While a step validates, its
 * update is made but its metrics are not: no checkpoint can stand for it, and a later run goes on from the newest one there is.
 */
export async function train<Example, Metrics extends Measured>(
  run: TrainingRun<Example, Metrics>,
): Promise<TrainingEnd> {
  const { recipe, loss, state, training, events, checkpointFolder: folder } = run;
  const { epochs, batchSize, learningRate: peak, warmupRatio, clipNorm } = recipe.hyperparameters;
  const stepsPerEpoch = Math.ceil(training.count / batchSize);
  const total = epochs * stepsPerEpoch;
  const warmupSteps = Math.round(warmupRatio * total);

  const start = (await checkpointSteps(folder)).at(-1) ?? 0;
  if (start > 0) {
    const made = await loadCheckpoint(folder, start, state, run.config, recipe);
    const now = currentVersions();
    const others = (Object.keys(now) as (keyof Versions)[]).filter((name) => made[name] !== now[name]);
    const changedVersions = others.map((name) => `${name} ${made[name]} to ${now[name]}`);
    await events.append({
      type: "resumed",
      at: Date.now(),
      step: start,
      ...(changedVersions.length === 0 ? {} : { changedVersions }),
    });
    if (start % stepsPerEpoch === 0) await reportAgain(events, folder, start);
  }
  const losses = start > 0 ? validationLosses(await events.read(), start) : new Map<number, number>();
  const prune = (step: number): Promise<void> =>
    pruneCheckpoints(folder, keptSteps(step, stepsPerEpoch, epochs, bestStep(losses)));
  await prune(start);

  const speed = new Speedometer(run.now);
  let lastCheckpoint = { step: start, at: run.now() };
  const checkpoint = async (step: number): Promise<void> => {
    await events.flush();
    await saveCheckpoint(folder, step, state, recipe);
    await prune(step);
    lastCheckpoint = { step, at: run.now() };
  };

  const patience = recipe.earlyStopping?.patience ?? Infinity;
  let last = start;
  let epoch = -1;
  let batches: number[][] = [];
  let lastStepMs = 0;
  for (let step = start + 1; step <= total; step++) {
    if (last % stepsPerEpoch === 0 && hasStoppedImproving(losses, patience)) break;
    if (Math.floor((step - 1) / stepsPerEpoch) !== epoch) {
      epoch = Math.floor((step - 1) / stepsPerEpoch);
      batches = epochBatches(training.count, batchSize, recipe.seed, epoch);
    }
    const batch = batches[(step - 1) % stepsPerEpoch] as number[];
    try {
      run.signal.throwIfAborted();
      await run.betweenSteps?.(lastStepMs * BETWEEN_STEPS_SHARE);
      const examples = await training.at(batch);
      speed.restart();
      const result = await trainStep(loss, run.runner, state.parameters, state.optimizer, examples, {
        learningRate: learningRateAt(step - 1, { peak, warmupSteps, totalSteps: total }),
        clipNorm,
        dropoutStream: [recipe.seed, STREAM.dropout, step],
        signal: run.signal,
      });
      lastStepMs = speed.add(examples.reduce((sum, example) => sum + loss.countTokens(example), 0));
      const metrics: StepMetrics = {
        step,
        totalSteps: total,
        trainLoss: result.loss,
        ...named(loss, "train", result),
        ...(await validate(run, step, total, stepsPerEpoch)),
      };
      const { tokensPerSecond, secondsPerStep } = speed.reading();
      const secondsLeft = secondsPerStep * (total - step);
      await events.append({ type: "metrics", at: Date.now(), ...metrics, tokensPerSecond, secondsLeft });

      if (metrics.fullValidLoss !== undefined) losses.set(step, metrics.fullValidLoss);
      const epochEnd = step % stepsPerEpoch === 0;
      if (epochEnd || run.now() - lastCheckpoint.at >= run.checkpointIntervalMs) {
        await checkpoint(step);
        const directory = checkpointPath(folder, step);
        await events.append({ type: "checkpoint", at: Date.now(), step, directory, epochEnd, metrics });
      }
      last = step;
    } catch (error) {
      if (run.signal.aborted && step - 1 > lastCheckpoint.step && state.optimizer.step === step - 1) {
        await checkpoint(step - 1);
      }
      throw error;
    }
  }
  const best = bestStep(losses);
  const end = { epochs: last / stepsPerEpoch, finalStep: last };
  if (recipe.earlyStopping === undefined || best === null) return end;
  if (last < total) {
    await events.append({ type: "stopped", at: Date.now(), step: last, totalSteps: total, bestStep: best });
  }
  await loadAdapter(checkpointPath(folder, best), state.parameters, run.config);
  return { ...end, finalStep: best };
}

/**
 * Reports the checkpoint of an epoch's end once more: a kill may have come between the checkpoint and its event, and without
 * the event nobody would make a model of it. The metrics were flushed before the checkpoint was written.
 */
async function reportAgain(events: EventLog, folder: string, step: number): Promise<void> {
  const found = (await events.read()).findLast((event) => event.type === "metrics" && event.step === step);
  if (found?.type !== "metrics") throw new Error(`internal: no metrics of step ${step} in events.jsonl`);
  const {
    type: _type,
    at: _at,
    tokensPerSecond: _tokensPerSecond,
    secondsLeft: _secondsLeft,
    ...metrics
  } = found;
  const directory = checkpointPath(folder, step);
  await events.append({ type: "checkpoint", at: Date.now(), step, directory, epochEnd: true, metrics });
}

/** The newest checkpoint, from which a run goes on, and those that become models: the last epochs' ends and the best of all. */
function keptSteps(newest: number, stepsPerEpoch: number, epochs: number, best: number | null): Set<number> {
  const kept = new Set(best === null ? [newest] : [newest, best]);
  const lastEpoch = Math.min(Math.floor(newest / stepsPerEpoch), epochs);
  for (let epoch = Math.max(1, lastEpoch - KEPT_EPOCHS + 1); epoch <= lastEpoch; epoch++)
    kept.add(epoch * stepsPerEpoch);
  return kept;
}

/** A batch of the validation file at a few steps, and at an epoch's end, where the whole file is measured as well. */
async function validate<Example, Metrics extends Measured>(
  { recipe, loss, runner, validation, signal }: TrainingRun<Example, Metrics>,
  step: number,
  total: number,
  stepsPerEpoch: number,
): Promise<Partial<StepMetrics>> {
  if (validation.count === 0) return {};
  const isEpochEnd = step % stepsPerEpoch === 0;
  if (!isEpochEnd && step % Math.ceil(total / VALIDATION_BATCHES) !== 0) return {};
  const size = Math.max(MIN_VALIDATION_BATCH, recipe.hyperparameters.batchSize);
  const measured = async (scope: MetricScope, places: readonly number[]): Promise<Partial<StepMetrics>> =>
    named(loss, scope, await evaluateLoss(loss, runner, await validation.at(places), signal));
  const places = allPlaces(validation);
  const order = shuffle([...places], createRandom(recipe.seed, STREAM.validation, step));
  const valid = await measured("valid", order.slice(0, size));
  return isEpochEnd ? { ...valid, ...(await measured("fullValid", places)) } : valid;
}

/** Metrics under the names they have in reports. */
function named<Metrics extends Measured>(
  { names }: Pick<Loss<never, Metrics>, "names">,
  scope: MetricScope,
  metrics: Metrics,
): Partial<StepMetrics> {
  const entries = (Object.keys(names) as (keyof Metrics)[]).map((key) => [
    `${scope}${names[key]}`,
    metrics[key],
  ]);
  return Object.fromEntries(entries) as Partial<StepMetrics>;
}

/** Tokens per second of the training steps, without validation, smoothed over the run so far. */
class Speedometer {
  readonly #now: () => number;
  #since: number;
  #seconds = 0;
  #tokens = 0;
  #steps = 0;

  constructor(now: () => number) {
    this.#now = now;
    this.#since = now();
  }

  /** Ends a step of so many tokens that began at the last `restart`; how long it took, in milliseconds. */
  add(tokens: number): number {
    const milliseconds = this.#now() - this.#since;
    this.#seconds += milliseconds / 1000;
    this.#steps += 1;
    this.#tokens += tokens;
    return milliseconds;
  }

  /** Starts the clock of the next step. */
  restart(): void {
    this.#since = this.#now();
  }

  reading(): { tokensPerSecond: number; secondsPerStep: number } {
    return { tokensPerSecond: this.#tokens / this.#seconds, secondsPerStep: this.#seconds / this.#steps };
  }
}

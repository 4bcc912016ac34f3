// The trainer process: `node trainer.ts <job directory>`. Reads job.json and the data, trains, writes events, checkpoints
// and the adapter (job-directory.ts). When it gets SIGTERM or SIGINT, or when the process that started it is gone, it stops
// after the run under way (a short pass, or one layer of a long one) and leaves a checkpoint to go on from.
import { createHash } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { BatchPair } from "../data/preference-batches.ts";
import { messageOf, OutOfSpace, TunesmithError, UnsupportedModel } from "../errors.ts";
import { removeTemporarySiblings, writeFileAtomically } from "../model/atomic-write.ts";
import { ADAPTER_WEIGHTS_FILE } from "../model/adapter.ts";
import { openBaseModel, sha256OfModel } from "../model/base-model.ts";
import { loadDecoderWeights } from "../model/decoder-weights.ts";
import type { DecoderWeights } from "../model/decoder-weights.ts";
import { availableMemory } from "./available-memory.ts";
import { loadAdapter, saveAdapter } from "./checkpoint.ts";
import { DecoderRunner } from "./decoder-runner.ts";
import { EventLog, readEvents } from "./event-log.ts";
import { listed } from "./examples.ts";
import type { Examples } from "./examples.ts";
import { JobData } from "./job-data.ts";
import { jobPaths, TRAINER_EXIT } from "./job-directory.ts";
import type { JobRecipe } from "./job-directory.ts";
import { CHATS, PAIRS } from "./line-encoding.ts";
import type { LineEncoding } from "./line-encoding.ts";
import { supervisedLoss } from "./loss.ts";
import type { Loss, Measured } from "./loss.ts";
import { LoraParameters } from "./lora-parameters.ts";
import { takePlan } from "./memory-plan.ts";
import type { PassPlan, RunSize } from "./memory-plan.ts";
import { AdamW } from "./optimizer.ts";
import { preferenceLoss } from "./preference-loss.ts";
import type { ReferencedPair } from "./preference-loss.ts";
import { referenceScores, withReference } from "./reference.ts";
import { resultCsv } from "./result-file.ts";
import { totalSteps, train } from "./train.ts";
import { readOwnJson } from "./own-files.ts";

/** A checkpoint takes about a quarter of a second; once a minute that is nothing, and a minute is what a crash may cost. */
const CHECKPOINT_INTERVAL_MS = 60_000;

/** Runs the job of a directory to its end or until the signal aborts; returns the exit code. Never throws. */
export async function runTrainer(
  directory: string,
  signal: AbortSignal,
  {
    checkpointIntervalMs = CHECKPOINT_INTERVAL_MS,
    memoryBytes = null,
    memoryShare = 1,
  }: {
    checkpointIntervalMs?: number;
    /** What the run may take; null: what is available. */
    memoryBytes?: number | null;
    /** Share of that when nothing else is said: of a machine that trains several jobs at a time, one's. */
    memoryShare?: number;
  } = {},
): Promise<number> {
  const paths = jobPaths(directory);
  const events = await EventLog.open(paths.events);
  try {
    const recipe = (await readOwnJson(paths.recipe)) as JobRecipe;
    const started = performance.now();
    await removeTemporarySiblings(directory);
    await checkModel(recipe, signal);
    const { trainedTokens, finalStep } = await trainByMethod({
      recipe,
      directory,
      events,
      checkpointIntervalMs,
      memoryBytes: memoryBytes ?? (await availableMemory()) * memoryShare,
      signal,
      now: () => performance.now(),
    });
    await events.flush();
    await writeFileAtomically(paths.result, [resultCsv(await readEvents(paths.events), recipe.method)]);
    await events.append({
      type: "succeeded",
      at: Date.now(),
      trainedTokens,
      finalStep,
      seconds: (performance.now() - started) / 1000,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
    });
    await events.flush();
    return TRAINER_EXIT.succeeded;
  } catch (error) {
    if (signal.aborted) return TRAINER_EXIT.interrupted;
    // The full story goes to the trainer's log; the event carries what the job's owner can act on.
    if (!(error instanceof TunesmithError))
      process.stderr.write(`${(error as Error).stack ?? messageOf(error)}\n`);
    const isFull = error instanceof OutOfSpace;
    try {
      const at = Date.now();
      await events.append(
        isFull
          ? { type: "no_room", at, message: error.message }
          : { type: "failed", at, error: describe(error) },
      );
      await events.flush();
    } catch (unreported) {
      // The disk is so full that not even this fits: standard error is the last way to say it.
      process.stderr.write(`${messageOf(error)}\n${messageOf(unreported)}\n`);
      if (unreported instanceof OutOfSpace) return TRAINER_EXIT.outOfSpace;
    }
    return isFull ? TRAINER_EXIT.outOfSpace : TRAINER_EXIT.failed;
  } finally {
    await events.close();
  }
}

interface Setup {
  recipe: JobRecipe;
  directory: string;
  events: EventLog;
  checkpointIntervalMs: number;
  /** What the run may take, asked before it has taken any of it. */
  memoryBytes: number;
  signal: AbortSignal;
  /** Milliseconds, monotonic. */
  now: () => number;
}

/** What is told of a run that has trained to its end. */
interface Trained {
  /** Over all epochs that were trained. */
  trainedTokens: number;
  finalStep: number;
}

/** Trains and writes the adapter. */
async function trainByMethod(setup: Setup): Promise<Trained> {
  const { recipe } = setup;
  switch (recipe.method) {
    case "supervised":
      return trainOn(setup, CHATS, async (_, { training, validation }, { passTokens }) => ({
        ...{ training, validation },
        loss: supervisedLoss(passTokens),
      }));
    case "dpo": {
      const { beta } = recipe.hyperparameters;
      if (beta === undefined) throw new Error(`internal: the recipe of ${recipe.jobId} has no beta`);
      return trainOn(setup, PAIRS, async (runner, data, { passTokens }) => ({
        ...(await referenced(setup, runner, await data.all())),
        loss: preferenceLoss(beta, passTokens),
      }));
    }
  }
}

interface ExamplesOf<Example> {
  training: Examples<Example>;
  validation: Examples<Example>;
}

/** The one way every method takes: `complete` adds to the data what the loss needs beside it. */
async function trainOn<Line extends object, Encoded, Example, Metrics extends Measured>(
  setup: Setup,
  lines: LineEncoding<Line, Encoded>,
  complete: (
    runner: DecoderRunner,
    data: JobData<Line, Encoded>,
    plan: PassPlan,
  ) => Promise<ExamplesOf<Example> & { loss: Loss<Example, Metrics> }>,
): Promise<Trained> {
  const { recipe, directory, events } = setup;
  const paths = jobPaths(directory);
  const model = await openBaseModel(recipe.baseModel.path);
  const { config } = model;
  const maxLength = Math.min(recipe.maxLength, config.maxPositions);
  const { lora, threads } = recipe;
  const data = await JobData.open({ ...setup, model, maxLength }, lines);
  const { batchSize } = recipe.hyperparameters;
  const most = lines.mostTokens(maxLength);
  const size = { config, lora, batchSize, longest: most.passTokens, sharedTokens: most.sharedTokens };
  const plan = await planned(setup, size, async () => {
    return { ...size, ...extentOf((await data.all()).training.examples, lines) };
  });
  // A model whose template shows no line of this data need not be loaded.
  await data.training.at([0]);
  const weights = loadDecoderWeights(model, maxLength);
  await model.close();
  const parameters = new LoraParameters(config, recipe.lora);
  parameters.initialize(recipe.seed);
  if (recipe.initialAdapter !== undefined) {
    const folder = join(directory, recipe.initialAdapter.folder);
    await checkInitialAdapter(recipe.initialAdapter, folder);
    await loadAdapter(folder, parameters, config);
  }
  const optimizer = new AdamW(parameters.data.length, recipe.hyperparameters);
  const { wholeStepTokens } = plan;
  const runner = new DecoderRunner({ config, weights, parameters, lora, threads, wholeStepTokens });
  await events.append({
    type: "started",
    at: Date.now(),
    totalSteps: totalSteps(recipe, data.training.count),
    trainableParameters: parameters.data.length,
    baseParameters: parameterCount(weights),
    examples: data.training.count,
    lora,
    maxLength,
  });
  const { epochs, finalStep } = await train({
    ...setup,
    // The parameters still are those to start from, whatever checkpoint the run goes on from.
    ...(await complete(runner, data, plan)),
    betweenSteps: (milliseconds) => data.encodeFor(milliseconds),
    config,
    runner,
    state: { parameters, optimizer },
    checkpointFolder: paths.checkpoints,
  });
  // A run that was resumed shortly before its end has asked for few of them.
  const { training } = await data.all();
  await saveAdapter(paths.adapter, parameters, recipe);
  return { trainedTokens: training.trainedTokens * epochs, finalStep };
}

/** What decides how large passes are; neighbours in the file stand for what any rows share. */
function extentOf<Example>(
  examples: readonly Example[],
  { passTokens, sharedTokens }: Pick<LineEncoding<never, Example>, "passTokens" | "sharedTokens">,
): Pick<RunSize, "longest" | "sharedTokens"> {
  const extent = { longest: 0, sharedTokens: 0 };
  for (const [i, example] of examples.entries()) {
    extent.longest = Math.max(extent.longest, passTokens(example));
    const next = examples[i + 1];
    if (next !== undefined) extent.sharedTokens = Math.max(extent.sharedTokens, sharedTokens(example, next));
  }
  return extent;
}

async function planned(
  { directory, events, memoryBytes }: Setup,
  most: RunSize,
  measure: () => Promise<RunSize>,
): Promise<PassPlan> {
  const plan = await takePlan(jobPaths(directory).plan, most, measure, memoryBytes);
  await events.append({ type: "planned", at: Date.now(), ...plan });
  return plan;
}

/** The pairs with what the starting model makes of them. */
async function referenced<P extends BatchPair>(
  { directory, events, checkpointIntervalMs, signal, now }: Setup,
  runner: DecoderRunner,
  data: Awaited<ReturnType<JobData<never, P>["all"]>>,
): Promise<ExamplesOf<P & ReferencedPair>> {
  const since = now();
  const { reference: path } = jobPaths(directory);
  const [training, validation] = [data.training.examples, data.validation.examples];
  const all = [...training, ...validation];
  const options = { runner, path, saveIntervalMs: checkpointIntervalMs, signal, now };
  const { scores, computed } = await referenceScores(all, options);
  if (computed > 0) {
    const seconds = (now() - since) / 1000;
    await events.append({ type: "reference", at: Date.now(), pairs: computed, seconds });
  }
  return {
    training: listed(withReference(training, scores)),
    validation: listed(withReference(validation, scores.slice(training.length))),
  };
}

async function checkModel({ baseModel }: JobRecipe, signal: AbortSignal): Promise<void> {
  const found = await sha256OfModel(baseModel.path, signal);
  if (found !== baseModel.sha256) {
    throw new UnsupportedModel(
      `The base model ${baseModel.id} at ${baseModel.path} must have sha256 ${baseModel.sha256}, has ${found}: it was changed or damaged since the job was created. Pull it again, or create a new job on the model as it is.`,
      { code: "base_model_changed" },
    );
  }
}

async function checkInitialAdapter(
  { model, sha256 }: NonNullable<JobRecipe["initialAdapter"]>,
  folder: string,
): Promise<void> {
  const path = join(folder, ADAPTER_WEIGHTS_FILE);
  const found = createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
  if (found !== sha256) {
    throw new UnsupportedModel(
      `The weights to start from, ${path} (a copy of ${model}), must have sha256 ${sha256}, have ${found}: they were changed or damaged since the job was created. Create the job again; have the server's disk checked.`,
      { code: "initial_adapter_changed", param: "model" },
    );
  }
}

function parameterCount({ embedding, head, finalNorm, layers }: DecoderWeights): number {
  const size = (tensor: { data: Float32Array }): number => tensor.data.length;
  const inLayers = layers
    .flatMap((layer) => Object.values(layer).map(size))
    .reduce((sum, one) => sum + one, 0);
  return size(embedding) + (head === embedding ? 0 : size(head)) + size(finalNorm) + inLayers;
}

function describe(error: unknown): { code: string; param: string | null; message: string } {
  if (error instanceof TunesmithError) {
    return { code: error.code ?? "server_error", param: error.param, message: error.message };
  }
  return { code: "server_error", param: null, message: `The trainer failed: ${messageOf(error)}` };
}

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      "checkpoint-interval-ms": { type: "string" },
      "memory-bytes": { type: "string" },
      "memory-share": { type: "string" },
    },
  });
  const directory = positionals[0];
  if (directory === undefined) {
    process.stderr.write(
      "usage: trainer <job directory> [--checkpoint-interval-ms N] [--memory-bytes N | --memory-share F]\n",
    );
    process.exitCode = 2;
    return;
  }
  const stop = new AbortController();
  for (const event of ["SIGTERM", "SIGINT"] as const) process.on(event, () => stop.abort());
  // Only a trainer that was forked has a channel; its end means that the parent is gone.
  process.on("disconnect", () => stop.abort());
  // It may have ended while this process still loaded its code: nobody heard of that, and there is nothing to save yet.
  if (process.connected === false) {
    process.exitCode = TRAINER_EXIT.interrupted;
    return;
  }
  // Whoever starts trainers looks here for one that outlived its server (jobs/trainer-process).
  const { lock } = jobPaths(directory);
  await writeFileAtomically(lock, [`${process.pid}\n`]);
  try {
    const { "checkpoint-interval-ms": interval, "memory-bytes": memory, "memory-share": share } = values;
    process.exitCode = await runTrainer(directory, stop.signal, {
      ...(interval === undefined ? {} : { checkpointIntervalMs: Number(interval) }),
      ...(memory === undefined ? {} : { memoryBytes: Number(memory) }),
      ...(share === undefined ? {} : { memoryShare: Number(share) }),
    });
  } finally {
    // A later trainer may have put its own there.
    if (Number.parseInt(await readFile(lock, "utf8").catch(() => ""), 10) === process.pid) {
      await rm(lock, { force: true });
    }
    // The channel to the parent would keep this process alive.
    if (process.connected) process.disconnect();
  }
}

if (import.meta.filename === process.argv[1]) await main();

// What a job would do, said before it starts: the check of its files, its hyperparameters as numbers, its cost. Changes
// nothing and writes nothing.
import { checkFiles, findExamples } from "../data/preflight/check-files.ts";
import type { PreflightReport } from "../data/preflight/report.ts";
import { showRow, type ShownRow } from "../data/preflight/token-facts.ts";
import { checkLinesOf } from "../data/preflight/checked-line.ts";
import type { Example } from "../data/dataset.ts";
import type { TrainingMethod } from "../training/job-directory.ts";
import { loraOf } from "../training/checkpoint.ts";
import { availableMemory } from "../training/available-memory.ts";
import { gigabytes } from "../training/memory-plan.ts";
import { estimateCost, measureSpeed, openPreflightModel, requireContext } from "../training/preflight.ts";
import type { RequestedHyperparameters } from "../wire/fine-tuning.ts";
import { recipeAdditions } from "../wire/recipe.ts";
import { resolveHyperparameters } from "./hyperparameters.ts";
import { continuedLora, recipeWith, toRequested } from "./recipe.ts";

export interface PreflightOptions {
  method: TrainingMethod;
  trainingFile: string;
  validationFile?: string | null;
  /** Null: judged without tokens and cost. */
  baseModel: { id: string; path: string } | null;
  /** What the job would go on from; left out: nothing. */
  initial?: { model: string; adapterDirectory: string } | null;
  /** As a request names them. */
  hyperparameters: RequestedHyperparameters;
  threads: number;
  /** What a run may take; null: its share of what this machine has available. */
  memoryBytes: number | null;
  /** Runs that share it. */
  jobsAtOnce: number;
  /** Take the time from training steps on some rows. */
  measure: boolean;
  signal?: AbortSignal;
}

/** Rows that one example of a method's data makes. */
const ROWS_OF_EXAMPLE: Readonly<Record<TrainingMethod, number>> = { supervised: 1, dpo: 2 };

/** Rows that a measurement trains on, spread evenly over the file. */
const MEASURED_ROWS = 24;

/** Throws Unavailable when a file cannot be read, UnsupportedModel, Cancelled. */
export async function preflight(options: PreflightOptions): Promise<PreflightReport> {
  const { method, trainingFile, validationFile, baseModel, initial = null, signal } = options;
  const additions = recipeAdditions(options.hyperparameters);
  const recipe = recipeWith(baseModel?.id ?? "", additions);
  if (initial !== null) {
    const { model, adapterDirectory } = initial;
    recipe.lora = continuedLora(loraOf(adapterDirectory), additions.lora, { model, method });
  }
  if (baseModel !== null && additions.max_length !== undefined)
    await requireContext(baseModel, additions.max_length, method);
  const model = baseModel === null ? null : await openPreflightModel(baseModel.path, recipe.maxLength);
  const report = await checkFiles({
    method,
    trainingFile,
    validationFile,
    encoding: model?.encoding,
    signal,
  });
  const [training] = report.files;
  if (baseModel === null)
    report.limits.push(
      "The base model is not on this machine, so tokens and cost were not looked at. Fetch it with `tunesmith models pull`.",
    );
  if (baseModel === null || model === null || training === undefined || training.tokens === null)
    return { ...report, baseModel: baseModel?.id ?? null, cost: null };
  const { nEpochs, batchSize, learningRateMultiplier } = resolveHyperparameters(
    toRequested(options.hyperparameters),
    training.examples,
  );
  const speed = options.measure
    ? await measureSpeed(baseModel.path, await sampleRows(method, trainingFile, training.examples, signal), {
        ...model,
        lora: recipe.lora,
        batchSize: batchSize * ROWS_OF_EXAMPLE[method],
        threads: options.threads,
        ...(signal === undefined ? {} : { signal }),
      })
    : null;
  const cost = estimateCost({
    method,
    config: model.config,
    lora: recipe.lora,
    tokens: training.tokens,
    examples: training.examples,
    epochs: nEpochs,
    batchSize,
    learningRateMultiplier,
    validationTokens: report.files[1]?.tokens?.tokens ?? 0,
    speed,
    availableBytes: options.memoryBytes ?? (await availableMemory()) / options.jobsAtOnce,
  });
  if (cost.memoryPlan === null) {
    report.findings.unshift({
      kind: "too_little_memory",
      severity: "error",
      file: "training_file",
      message: `Training needs at least ${gigabytes(cost.memoryBytes)}, more than is available of the ${gigabytes(cost.machineMemoryBytes)} of this machine`,
      fix: "Free some memory, use a smaller base model, or shorten the longest rows.",
      count: 0,
      places: [],
    });
  } else if (cost.memoryPlan !== "full_speed") {
    report.findings.push({
      kind: "little_memory",
      severity: "note",
      file: "training_file",
      message: `Training at full speed needs about ${gigabytes(cost.fullSpeedMemoryBytes)}, more than is available; a job now ${cost.memoryPlan}, and needs ${gigabytes(cost.memoryBytes)}`,
      fix: "Free some memory, use a smaller base model, or shorten the longest rows.",
      count: 0,
      places: [],
    });
  }
  return { ...report, baseModel: baseModel.id, cost };
}

/** One line as the model sees it. Throws DatasetError where the line is bad. */
export async function showLine(
  path: string,
  line: number,
  options: {
    method: TrainingMethod;
    /** The rejected answer of a preference pair in place of the preferred one. */
    rejected: boolean;
    baseModel: { id: string; path: string };
    hyperparameters: RequestedHyperparameters;
    signal?: AbortSignal;
  },
): Promise<ShownRow> {
  const { method, rejected, baseModel, signal } = options;
  const examples = await findExamples(method, path, line, signal);
  const example = (rejected ? examples[1] : undefined) ?? examples[0];
  const additions = recipeAdditions(options.hyperparameters);
  if (additions.max_length !== undefined) await requireContext(baseModel, additions.max_length, method);
  const { encoding } = await openPreflightModel(
    baseModel.path,
    recipeWith(baseModel.id, additions).maxLength,
  );
  return showRow(example, encoding);
}

/** The rows of some lines, spread evenly over the file. Of a preference pair both: its passes cost what theirs do. */
async function sampleRows(
  method: TrainingMethod,
  path: string,
  count: number,
  signal?: AbortSignal,
): Promise<Example[]> {
  const rows: Example[] = [];
  const gap = Math.max(1, Math.floor(count / MEASURED_ROWS));
  let index = 0;
  await checkLinesOf(method, path, signal, ({ examples }) => {
    if (index % gap === 0 && rows.length < MEASURED_ROWS) rows.push(...examples);
    index += 1;
  });
  return rows;
}

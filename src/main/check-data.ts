// The checks of data files that the command line makes on this machine, as the server would make them.
import { availableParallelism } from "node:os";
import { toPreflightObject } from "../api/preflight.ts";
import { loadConfig } from "../config.ts";
import type { Config } from "../config.ts";
import { InvalidRequest } from "../errors.ts";
import { preflight, showLine } from "../jobs/preflight.ts";
import { catalogueEntry, DEFAULT_BASE_MODEL } from "../model/catalogue.ts";
import { resolveBaseModel } from "../model/resolve-base-model.ts";
import type { ResolvedBaseModel } from "../model/resolve-base-model.ts";
import type { JobMethod, RequestedHyperparameters } from "../wire/fine-tuning.ts";
import type { PreflightObject, ShownRowObject } from "../wire/preflight.ts";
import { localModel, sourcesOf } from "./base-models.ts";

export interface CheckDataOptions {
  method: JobMethod;
  trainingFile: string;
  validationFile?: string | undefined;
  /** A base model, an alias or a path; left out: the default one, where it is on this machine. */
  model?: string | undefined;
  hyperparameters: RequestedHyperparameters;
  measure: boolean;
  signal: AbortSignal;
}

/** The check of data files on this machine, as the server would make it. */
export async function checkData(options: CheckDataOptions): Promise<PreflightObject> {
  const { method, trainingFile, validationFile, hyperparameters, measure, signal } = options;
  const config = loadConfig();
  return toPreflightObject(
    await preflight({
      method,
      trainingFile,
      validationFile: validationFile ?? null,
      baseModel: await modelToCheckWith(config, options.model, signal),
      hyperparameters,
      threads: config.threads === 0 ? availableParallelism() : config.threads,
      memoryBytes: config.trainingMemoryBytes,
      jobsAtOnce: config.maxConcurrentJobs,
      measure,
      signal,
    }),
  );
}

/** One line of a data file as the base model sees it. */
export async function showDataRow(
  path: string,
  line: number,
  options: {
    method: JobMethod;
    rejected: boolean;
    model?: string | undefined;
    hyperparameters: RequestedHyperparameters;
    signal: AbortSignal;
  },
): Promise<ShownRowObject> {
  const config = loadConfig();
  const model = await modelToCheckWith(config, options.model, options.signal);
  if (model === null) {
    throw new InvalidRequest(
      `The base model ${DEFAULT_BASE_MODEL} is not on this machine, and without one there are no tokens to show. Fetch it with "tunesmith models pull ${DEFAULT_BASE_MODEL}".`,
    );
  }
  const row = await showLine(path, line, { ...options, baseModel: model });
  return {
    line,
    token_count: row.tokenCount,
    supervised_tokens: row.supervisedTokens,
    truncated_tokens: row.truncatedTokens,
    tokens: row.tokens,
  };
}

/** The corrected copy of a data file. */
export { mendFile } from "../data/preflight/mend.ts";

/** Throws where a model was asked for by name and is not on this machine. */
async function modelToCheckWith(
  config: Config,
  name: string | undefined,
  signal: AbortSignal,
): Promise<ResolvedBaseModel | null> {
  if (name === undefined) return localModel(config, DEFAULT_BASE_MODEL, signal);
  let id = name;
  while (catalogueEntry(id) === undefined && Object.hasOwn(config.modelAliases, id))
    id = config.modelAliases[id] as string;
  return resolveBaseModel(id, { ...sourcesOf(config), signal, offline: true });
}

// `tunesmith migrate openai retrain` and `distil`: jobs on the tunesmith server, judged, followed and said to people.
import { resolve } from "node:path";
import { distil as distilFolder } from "../migrate/distil.ts";
import { retrain as retrainFolder } from "../migrate/retrain.ts";
import type { TrainedHere, TrainingHooks } from "../migrate/train-here.ts";
import { followJob } from "./follow.ts";
import type { MigrationContext } from "./migrate-context.ts";
import { plain } from "./migrate-text.ts";
import { EXIT, formatPairs, printAnswer, printNote } from "./terminal.ts";

export interface RetrainCommandOptions {
  base: string;
  job?: string[];
  alias: boolean;
}

export interface DistilCommandOptions {
  base: string;
  recording?: string;
  epochs?: number;
  suffix?: string;
  alias: boolean;
}

/** Exit code 1 when a job that was to be trained is not, or its alias was refused. */
export async function retrain(
  context: MigrationContext,
  folder: string,
  options: RetrainCommandOptions,
): Promise<number> {
  const jobs = options.job ?? null;
  const results = await retrainFolder(
    context.client,
    resolve(folder),
    { base: options.base, jobs, alias: options.alias },
    hooksOf(context),
  );
  const answer = {
    object: "tunesmith.retraining",
    base_url: context.client.baseUrl,
    base: options.base,
    jobs: results,
  };
  printAnswer(context, answer, () => results.map(resultText).join("\n"));
  return exitOf(results);
}

export async function distil(
  context: MigrationContext,
  folder: string,
  options: DistilCommandOptions,
): Promise<number> {
  const distilled = await distilFolder(
    context.client,
    resolve(folder),
    {
      base: options.base,
      recording: options.recording ?? null,
      epochs: options.epochs ?? null,
      suffix: options.suffix ?? null,
      alias: options.alias,
    },
    hooksOf(context),
  );
  printAnswer(
    context,
    distilled,
    () => `${distilled.training_file}: ${distilled.rows} rows\n${resultText(distilled.training)}`,
  );
  return exitOf([distilled.training]);
}

function hooksOf(context: MigrationContext): TrainingHooks {
  const { terminal, json } = context;
  return {
    note: (text) => printNote(context, plain(text)),
    preflight: ({ origin }, { findings, trainable, faults, fault_count: count }) => {
      const shown = findings.filter(({ severity }) => severity !== "note");
      if (!trainable) printNote(context, `${origin}: the data would fail (${count} faults).`);
      for (const { line, message, fix } of faults.slice(0, MAX_SHOWN_FAULTS))
        printNote(context, plain(`  ${line === null ? "" : `line ${line}: `}${message} ${fix ?? ""}`));
      for (const { severity, message, fix } of shown)
        printNote(context, plain(`  ${severity}: ${message} ${fix}`));
    },
    // With --json the answer is one object, and how the job goes is for people.
    follow: async (id) => {
      const shown = json
        ? { ...context, json: false, terminal: { ...terminal, stdout: terminal.stderr } }
        : context;
      await followJob(shown, id);
    },
  };
}

/** Faults of a file that are shown; `tunesmith check` shows all. */
const MAX_SHOWN_FAULTS = 10;

function resultText(result: TrainedHere): string {
  const { alias } = result;
  return formatPairs([
    ["from", plain(result.origin)],
    ["old model", result.old_model === null ? null : plain(result.old_model)],
    ["state", result.state],
    ["reason", result.reason === null ? null : plain(result.reason)],
    ["job here", result.job],
    ["new model", result.new_model],
    [
      "alias",
      alias.state === "set"
        ? "the old name answers with the new model"
        : alias.state === "unwanted"
          ? null
          : `${alias.state}: ${plain(alias.reason ?? "")}`,
    ],
    ...result.not_carried.map((what): [string, string] => ["not carried over", plain(what)]),
  ]);
}

function exitOf(results: readonly TrainedHere[]): number {
  const isWell = ({ state, alias }: TrainedHere): boolean =>
    state === "skipped" || (state === "succeeded" && alias.state !== "failed");
  return results.every(isWell) ? EXIT.success : EXIT.failure;
}

// Jobs and their events as text, shared by the commands that print them.
import type { FineTuningJob, FineTuningJobEvent } from "../wire/fine-tuning.ts";
import { recipeAdditions } from "../wire/recipe.ts";
import { addressPart } from "./address.ts";
import { formatCount, formatPairs, formatTime } from "./terminal.ts";

/** A job's members, one a line. */
export function describeJob(job: FineTuningJob): string {
  const { n_epochs, batch_size, learning_rate_multiplier, beta } = methodHyperparameters(job);
  const additions = recipeAdditions(methodHyperparameters(job));
  const time = (seconds: number | null): string | null => (seconds === null ? null : formatTime(seconds));
  return formatPairs([
    ["id", job.id],
    ["status", job.status],
    ["model", job.model],
    ["fine-tuned model", job.fine_tuned_model],
    ["training file", job.training_file],
    ["validation file", job.validation_file],
    ["method", job.method.type],
    ["epochs", String(n_epochs)],
    ["batch size", String(batch_size)],
    ["learning-rate multiplier", String(learning_rate_multiplier)],
    ["beta", beta === undefined ? null : String(beta)],
    ...Object.entries(additions).map(([name, value]): [string, string] => [
      name.replaceAll("_", " "),
      typeof value === "object" ? JSON.stringify(value) : String(value),
    ]),
    ["seed", String(job.seed)],
    ["created", formatTime(job.created_at)],
    ["estimated finish", time(job.estimated_finish)],
    ["finished", time(job.finished_at)],
    ["trained tokens", job.trained_tokens === null ? null : formatCount(job.trained_tokens)],
    ["result file", job.result_files[0] ?? null],
    ["error", jobError(job)],
  ]);
}

type Setting = number | "auto";

function methodHyperparameters({ method }: FineTuningJob): {
  n_epochs: Setting;
  batch_size: Setting;
  learning_rate_multiplier: Setting;
  beta?: Setting;
} {
  return method.type === "dpo" ? method.dpo.hyperparameters : method.supervised.hyperparameters;
}

/** "code: message" of a failed job; null for any other, whose error is null or an empty object. */
export function jobError(job: FineTuningJob): string | null {
  return job.error !== null && "message" in job.error ? `${job.error.code}: ${job.error.message}` : null;
}

/** One event as a line of a log. */
export function eventLine(event: FineTuningJobEvent): string {
  const level = event.level === "info" ? "" : `${event.level}: `;
  return `${formatTime(event.created_at)}  ${level}${event.message}\n`;
}

export function jobPath(id: string): string {
  return `/fine_tuning/jobs/${addressPart("an id", id)}`;
}

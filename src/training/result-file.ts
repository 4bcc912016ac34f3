// The result file of a job: one CSV row per step, with OpenAI's columns. Numbers of steps a resumed run repeated are the
// same, so the last event of each step counts.
import type { StepMetrics, TrainerEvent } from "./job-directory.ts";

const COLUMNS = ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"] as const;

/** Decimals of losses and accuracies, as in OpenAI's files. */
const DECIMALS = 5;

/** The CSV text; a cell is empty where a step measured nothing. */
export function resultCsv(events: readonly TrainerEvent[]): string {
  const steps = new Map<number, StepMetrics>();
  for (const event of events) if (event.type === "metrics") steps.set(event.step, event);
  const rows = [...steps.values()].sort((a, b) => a.step - b.step).map(row);
  return [COLUMNS.join(","), ...rows].map((line) => `${line}\n`).join("");
}

function row(metrics: StepMetrics): string {
  // At an epoch's end the whole validation file was measured; that figure stands in for the batch's.
  const values = [
    metrics.trainLoss,
    metrics.trainMeanTokenAccuracy,
    metrics.fullValidLoss ?? metrics.validLoss,
    metrics.fullValidMeanTokenAccuracy ?? metrics.validMeanTokenAccuracy,
  ];
  return [metrics.step, ...values.map((value) => (value === undefined ? "" : value.toFixed(DECIMALS)))].join(
    ",",
  );
}

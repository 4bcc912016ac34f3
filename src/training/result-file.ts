// The result file of a job: one CSV row per step, with OpenAI's columns for supervised training and ours for DPO, of which it has
// documented none. Numbers of steps a resumed run repeated are the same, so the last event of each step counts.
import type { MetricName, StepMetrics, TrainerEvent, TrainingMethod } from "./job-directory.ts";

interface Column {
  heading: string;
  metric: MetricName;
}

/** What a method's rows hold behind the step: of its training examples, then of validation. */
const COLUMNS: Readonly<Record<TrainingMethod, { train: readonly Column[]; valid: readonly Column[] }>> = {
  supervised: {
    train: [
      { heading: "train_loss", metric: "Loss" },
      { heading: "train_accuracy", metric: "MeanTokenAccuracy" },
    ],
    valid: [
      { heading: "valid_loss", metric: "Loss" },
      { heading: "valid_mean_token_accuracy", metric: "MeanTokenAccuracy" },
    ],
  },
  dpo: { train: preferenceColumns("train"), valid: preferenceColumns("valid") },
};

function preferenceColumns(scope: "train" | "valid"): Column[] {
  return [
    { heading: `${scope}_loss`, metric: "Loss" },
    { heading: `${scope}_reward_accuracy`, metric: "RewardAccuracy" },
    { heading: `${scope}_reward_margin`, metric: "RewardMargin" },
    { heading: `${scope}_chosen_logps`, metric: "ChosenLogps" },
    { heading: `${scope}_rejected_logps`, metric: "RejectedLogps" },
  ];
}

/** Decimals of losses and accuracies, as in OpenAI's files. */
const DECIMALS = 5;

/** The CSV text; a cell is empty where a step measured nothing. */
export function resultCsv(events: readonly TrainerEvent[], method: TrainingMethod): string {
  const { train, valid } = COLUMNS[method];
  const steps = new Map<number, StepMetrics>();
  for (const event of events) if (event.type === "metrics") steps.set(event.step, event);
  const rows = [...steps.values()]
    .sort((a, b) => a.step - b.step)
    .map((metrics) => {
      const values = [
        ...train.map(({ metric }) => metrics[`train${metric}`]),
        // At an epoch's end the whole validation file was measured; that figure stands in for the batch's.
        ...valid.map(({ metric }) => metrics[`fullValid${metric}`] ?? metrics[`valid${metric}`]),
      ];
      const cells = values.map((value) => (value === undefined ? "" : value.toFixed(DECIMALS)));
      return [metrics.step, ...cells].join(",");
    });
  const heading = ["step", ...[...train, ...valid].map((column) => column.heading)].join(",");
  return [heading, ...rows].map((line) => `${line}\n`).join("");
}

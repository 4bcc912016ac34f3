// events.jsonl of a job directory, read as it grows, and its events in the words of the API. It knows no database.
import { open } from "node:fs/promises";
import type { NewEvent } from "../store/fine-tuning-rows.ts";
import { parseEvent } from "../training/event-log.ts";
import { METRIC_SCOPES } from "../training/job-directory.ts";
import { describePlan, gigabytes, isFullSpeed } from "../training/memory-plan.ts";
import type {
  JobRecipe,
  MetricName,
  MetricScope,
  StepMetrics,
  TrainerEvent,
} from "../training/job-directory.ts";
import type { CheckpointMetrics } from "../wire/fine-tuning.ts";

export interface TrainerEventReader {
  /** The whole lines appended since the last call; a last line that is still being written waits for its end. */
  readNew(): Promise<TrainerEvent[]>;
}

export function createTrainerEventReader(
  path: string,
  onBadLine: (line: string) => void,
): TrainerEventReader {
  let offset = 0;
  return {
    async readNew() {
      const bytes = await readFrom(path, offset);
      const end = bytes.lastIndexOf("\n") + 1;
      offset += end;
      const lines = bytes.toString("utf8", 0, end).split("\n").slice(0, -1);
      return lines.flatMap((line) => parseLine(line, onBadLine));
    },
  };
}

async function readFrom(path: string, offset: number): Promise<Buffer> {
  let file;
  try {
    file = await open(path, "r");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return Buffer.alloc(0);
    throw error;
  }
  try {
    const { size } = await file.stat();
    const bytes = Buffer.alloc(Math.max(0, size - offset));
    const { bytesRead } = await file.read(bytes, 0, bytes.length, offset);
    return bytes.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/** A trainer killed in the middle of a line may leave half of one in front of its successor's first: it says nothing reliable. */
function parseLine(line: string, onBadLine: (line: string) => void): TrainerEvent[] {
  if (line.trim() === "") return [];
  const event = parseEvent(line);
  if (event !== null) return [event];
  onBadLine(line);
  return [];
}

/** The job event that clients see for a trainer's event, or null. Keys make repeats after a resume harmless. */
export function toJobEvent(event: TrainerEvent): NewEvent | null {
  switch (event.type) {
    case "metrics":
      return {
        key: `metrics:${event.step}`,
        type: "metrics",
        message: metricsMessage(event),
        data: {
          ...toWireMetrics(event),
          total_steps: event.totalSteps,
          // Ours, beside OpenAI's members.
          tokens_per_second: event.tokensPerSecond,
          seconds_left: event.secondsLeft,
        },
      };
    case "checkpoint":
      // Checkpoints between epochs only serve a resume; clients never get to use them.
      if (!event.epochEnd) return null;
      return { key: `checkpoint:${event.step}`, message: `Checkpoint created at step ${event.step}` };
    case "reference":
      return {
        key: "reference",
        message: `Log-probabilities of the starting model computed for ${event.pairs} pairs`,
        // Ours, as the pairs of the message are: of both files.
        data: { reference_pairs: event.pairs, seconds: event.seconds },
      };
    case "resumed":
      return {
        key: `resumed:${event.step}:${event.at}`,
        message: `Training resumed from the checkpoint at step ${event.step}${
          event.changedVersions === undefined
            ? ""
            : `, which other versions made (${event.changedVersions.join(", ")}): from here on the last bits may differ from a run without the change`
        }`,
        ...(event.changedVersions === undefined ? {} : { level: "warn" as const }),
      };
    case "started":
      return {
        key: "training-plan",
        message: `Training ${event.trainableParameters} parameters beside the ${event.baseParameters} of the base model in ${event.totalSteps} steps`,
        data: {
          total_steps: event.totalSteps,
          trainable_parameters: event.trainableParameters,
          base_parameters: event.baseParameters,
          ...(event.lora === undefined ? {} : { lora: shownLora(event.lora) }),
          ...(event.maxLength === undefined ? {} : { max_length: event.maxLength }),
        },
      };
    case "truncated":
      return {
        key: `truncated:${event.param}`,
        level: "warn",
        message: truncatedMessage(event),
        data: { truncated_examples: event.examples, truncated_tokens: event.tokens },
      };
    case "stopped":
      return {
        key: "stopped",
        message: `Training stopped early at step ${event.step} of ${event.totalSteps}: the full validation loss was lowest at step ${event.bestStep}`,
        data: { step: event.step, total_steps: event.totalSteps, best_step: event.bestStep },
      };
    case "planned":
      if (isFullSpeed(event)) return null;
      return {
        key: "planned",
        level: "warn",
        message: `Training at full speed needs about ${gigabytes(event.fullBytes)} of memory, and ${gigabytes(event.availableBytes)} are available: the job ${describePlan(event)}, and needs ${gigabytes(event.neededBytes)}`,
        data: {
          pass_tokens: event.passTokens,
          whole_step_tokens: event.wholeStepTokens,
          memory_bytes: event.neededBytes,
          full_speed_memory_bytes: event.fullBytes,
          available_memory_bytes: event.availableBytes,
        },
      };
    case "no_room":
    case "succeeded":
    case "failed":
      // The worker writes these itself, together with the job's status.
      return null;
  }
}

function shownLora({ rank, alpha, dropout, targetModules }: JobRecipe["lora"]): object {
  return { rank, alpha, dropout, target_modules: targetModules };
}

function truncatedMessage(event: Extract<TrainerEvent, { type: "truncated" }>): string {
  const { examples, ofExamples, tokens, maxLength } = event;
  const [kind, loss] =
    event.param === "training_file"
      ? [
          "training",
          `${tokens} tokens are not trained on, and these examples do not teach how their last answers end`,
        ]
      : ["validation", `${tokens} tokens are not measured`];
  return `${examples} of ${ofExamples} ${kind} examples are longer than ${maxLength} tokens and were cut there: ${loss}. Split or shorten them to use them whole`;
}

function metricsMessage(metrics: StepMetrics): string {
  const parts = [
    `training loss=${metrics.trainLoss.toFixed(2)}`,
    metrics.validLoss === undefined ? null : `validation loss=${metrics.validLoss.toFixed(2)}`,
    metrics.fullValidLoss === undefined ? null : `full validation loss=${metrics.fullValidLoss.toFixed(2)}`,
  ];
  const measured = parts.filter((part) => part !== null).join(", ");
  return `Step ${metrics.step}/${metrics.totalSteps}: ${measured}`;
}

const WIRE_SCOPES: Readonly<Record<MetricScope, "train" | "valid" | "full_valid">> = {
  train: "train",
  valid: "valid",
  fullValid: "full_valid",
};

const WIRE_NAMES = {
  Loss: "loss",
  MeanTokenAccuracy: "mean_token_accuracy",
  RewardMargin: "reward_margin",
  RewardAccuracy: "reward_accuracy",
  ChosenLogps: "chosen_logps",
  RejectedLogps: "rejected_logps",
} as const satisfies Record<MetricName, string>;

/** Metrics under OpenAI's names, and ours in their manner where it has none; what was not measured is left out. */
export function toWireMetrics(metrics: StepMetrics): CheckpointMetrics {
  const wire: CheckpointMetrics = { step: metrics.step };
  for (const scope of METRIC_SCOPES) {
    for (const [name, wireName] of Object.entries(WIRE_NAMES) as [MetricName, WireName][]) {
      const value = metrics[`${scope}${name}`];
      if (value !== undefined) wire[`${WIRE_SCOPES[scope]}_${wireName}`] = value;
    }
  }
  return wire;
}

type WireName = (typeof WIRE_NAMES)[MetricName];

// What a check of data files finds, as plain data: faults, findings, token facts. The words are for people, the kinds and
// numbers for programs. It reads nothing.
import type { DatasetParam } from "../dataset.ts";

/** error: a job on this file fails. warning: it runs, and most likely not as meant. note: worth knowing. */
export const SEVERITIES = ["error", "warning", "note"] as const;
export type Severity = (typeof SEVERITIES)[number];

/** One fault of one line: a job on this file fails. */
export interface FaultFound {
  file: DatasetParam;
  /** 1-based; null: the file as a whole. */
  line: number | null;
  /** 1-based; null: the line as a whole. */
  message: number | null;
  /** A sentence. */
  text: string;
  found: string | null;
  expected: string | null;
  fix: string | null;
}

export interface Place {
  /** 1-based. */
  line: number;
  /** What is there, a few words; null where the finding says it. Secrets are masked. */
  detail: string | null;
}

/** Something a person should look at, over all the lines it holds for. */
export interface Finding {
  kind: string;
  severity: Severity;
  file: DatasetParam;
  /** A sentence with the figures. */
  message: string;
  /** What to do. */
  fix: string;
  /** Lines concerned. */
  count: number;
  /** The first of them, at most MAX_PLACES. */
  places: Place[];
}

/** Of numbers that were counted one by one; percentiles by nearest rank. */
export interface Distribution {
  count: number;
  min: number;
  p10: number;
  median: number;
  p90: number;
  max: number;
  mean: number;
}

/** What the model will really see of one file. */
export interface TokenFacts {
  /** Rows, in tokens after the cut. */
  tokensPerRow: Distribution;
  /** Tokens of a row that carry loss. */
  supervisedPerRow: Distribution;
  /** Tokens that are trained on in an epoch, loss or not, after the cut. */
  tokens: number;
  supervisedTokens: number;
  /** Tokens of an epoch as OpenAI bills them. */
  trainedTokens: number;
  /** Tokens at which a row is cut. */
  maxLength: number;
  truncatedRows: number;
  truncatedTokens: number;
  /** Rows whose end token carries loss: from them the model learns to stop. */
  endTokenRows: number;
  /** The longest row before the cut. */
  longest: { line: number; tokens: number };
  /** Most tokens that a line alone makes a pass of, after the cut: of a pair, its prompt once and both answers. */
  longestPass: number;
  /** The most leading tokens that two rows one behind the other share. */
  sharedTokens: number;
}

export interface LabelCount {
  label: string;
  count: number;
}

/** One file, judged. */
export interface FileReport {
  file: DatasetParam;
  bytes: number;
  /** Good rows. */
  examples: number;
  badLines: number;
  messagesPerRow: Distribution | null;
  /** Characters of the last answer. */
  answerCharacters: Distribution | null;
  /** Where the answers are few and short: how often each occurs, most frequent first. */
  labels: LabelCount[] | null;
  /** Null without a model. */
  tokens: TokenFacts | null;
}

/** What the training would take, and what OpenAI would charge for is counted from `trainedTokens`. */
export interface CostEstimate {
  epochs: number;
  batchSize: number;
  learningRateMultiplier: number;
  /** Optimizer steps of all epochs. */
  steps: number;
  trainableParameters: number;
  baseParameters: number;
  adapterBytes: number;
  /** Of all epochs, as OpenAI bills them. */
  trainedTokens: number;
  /** Of the trainer process at its peak, in the plan that fits; where none does, in the one that takes least. */
  memoryBytes: number;
  fullSpeedMemoryBytes: number;
  /** "full_speed", or what a run does to take less, in a clause; null: no plan fits. */
  memoryPlan: string | null;
  machineMemoryBytes: number;
  seconds: number;
  /** measured: from training steps on this machine; assumed: from a processor of ordinary speed. */
  secondsFrom: "measured" | "assumed";
}

/** All that is said before a job starts. */
export interface PreflightReport extends DataReport {
  /** The local base model the tokens are those of; null where none was at hand. */
  baseModel: string | null;
  /** Null without a base model, and where there is nothing to train on. */
  cost: CostEstimate | null;
}

export interface DataReport {
  files: FileReport[];
  /** In file order, at most MAX_FAULTS. */
  faults: FaultFound[];
  faultCount: number;
  /** Worst first. */
  findings: Finding[];
  /** Where a bound of this check was reached and something was therefore not looked at. */
  limits: string[];
}

/** Lines named by a finding; more would only hide that they have one cause. */
export const MAX_PLACES = 20;

/** Faults listed one by one. A file with more has one cause many times, and the report must fit in memory. */
export const MAX_FAULTS = 10_000;

/** Collects the lines of a finding. */
export class Places {
  count = 0;
  readonly places: Place[] = [];

  /** A detail that takes work to make may be given as the making of it: most are counted only. */
  add(line: number, detail: string | null | (() => string) = null): void {
    this.count += 1;
    if (this.places.length >= MAX_PLACES) return;
    this.places.push({ line, detail: typeof detail === "function" ? detail() : detail });
  }
}

/** "1 row", "2 rows", "is" and "are" being the caller's. */
export function rows(count: number): string {
  return `${count.toLocaleString("en-US")} ${count === 1 ? "row" : "rows"}`;
}

/** Null of no numbers. */
export function distributionOf(values: readonly number[]): Distribution | null {
  const sorted = Float64Array.from(values).sort();
  const [min] = sorted;
  const max = sorted.at(-1);
  if (min === undefined || max === undefined) return null;
  const rank = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] as number;
  const sum = sorted.reduce((total, value) => total + value, 0);
  return {
    count: sorted.length,
    min,
    p10: rank(0.1),
    median: rank(0.5),
    p90: rank(0.9),
    max,
    mean: sum / sorted.length,
  };
}

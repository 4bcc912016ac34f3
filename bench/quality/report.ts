// The results of quality runs: kept in docs/quality.json, one entry for each task, side, seed and size, and shown as the table of
// docs/quality.md.
import { recordResults } from "../results-page.ts";
import type { Proportion } from "./statistics.ts";

export const SIDES = ["tunesmith", "trl"] as const;
export type Side = (typeof SIDES)[number];

export interface Entry {
  task: string;
  side: Side;
  seed: number;
  training_rows: number;
  validation_rows: number;
  epochs: number;
  batch_size: number;
  learning_rate: number;
  validation_loss: number;
  /** Of the test questions answered exactly, or of the validation pairs ranked rightly. */
  score: Proportion;
  f1: number | null;
  seconds: number;
  versions: Record<string, string> | null;
  cpu: string;
}

/** Adds entries to docs/quality.json, in place of earlier ones of the same run, and writes the page's table anew. */
export const record = (entries: readonly Entry[]): Promise<void> =>
  recordResults("quality", entries, { keyOf: (entry) => `${runOf(entry)} ${entry.side}`, table });

function runOf({ task, training_rows, epochs, seed }: Entry): string {
  return `${task} ${training_rows} ${epochs} ${seed}`;
}

export function table(entries: readonly Entry[]): string {
  const runs = new Map<string, Entry[]>();
  for (const entry of entries) runs.set(runOf(entry), [...(runs.get(runOf(entry)) ?? []), entry]);
  const lines = [...runs.values()].map((sides) => {
    const of = (side: Side) => sides.find((entry) => entry.side === side);
    const [ours, theirs] = [of("tunesmith"), of("trl")];
    const { task, training_rows, validation_rows, epochs, seed } = sides[0] as Entry;
    const difference =
      ours === undefined || theirs === undefined
        ? "–"
        : `${(100 * (ours.validation_loss / theirs.validation_loss - 1)).toFixed(2)} %`;
    const loss = (entry: Entry | undefined) => entry?.validation_loss.toFixed(4) ?? "–";
    return `| ${task} | ${training_rows} / ${validation_rows} | ${epochs} | ${seed} | ${loss(ours)} | ${loss(theirs)} | ${difference} | ${scoreText(ours)} | ${scoreText(theirs)} |`;
  });
  return [
    "| task | rows: training / validation | epochs | seed | validation loss here | in TRL | difference | score here | in TRL |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ...lines,
    "",
  ].join("\n");
}

export function scoreText(entry: Pick<Entry, "score" | "f1"> | undefined): string {
  if (entry === undefined) return "–";
  const { count, of, interval } = entry.score;
  const [low, high] = interval.map((share) => (100 * share).toFixed(1));
  const f1 = entry.f1 === null ? "" : `, F1 ${entry.f1.toFixed(3)}`;
  return `${count} of ${of} (${low}–${high} %)${f1}`;
}

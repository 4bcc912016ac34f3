// `rebase`: a model's data and recipe once more on another base, both models scored on the same held-out rows, and the gate that an alias
// passes only with evidence. The job is the server's; scores and gate are made here, by whoever asks.
import { inAddress } from "../wire/model-names.ts";
import { InvalidRequest } from "../errors.ts";
import { meanInterval, type MeanInterval } from "../evals/intervals.ts";
import type { FineTuningJob } from "../wire/fine-tuning.ts";
import { REBASED_FROM, type LineageObject } from "../wire/lineage.ts";
import type { List } from "../wire/list.ts";
import { askAll, type GivenAnswer } from "./answers.ts";
import { measure, type PairMeasures } from "./differences.ts";
import { gradePair, type Grader } from "./pair-grading.ts";
import type { ModelObject } from "../wire/models.ts";
import { readPrompt, type Prompt } from "./prompts.ts";
import { findOrNull, type TunesmithClient } from "./tunesmith-client.ts";

/** A row with a right answer. */
export type HeldOutRow = Pick<Prompt, "line" | "request"> & { reference: string };

/** Held-out rows that both models answer; more hardly narrow the intervals and take minutes. */
export const MAX_HELD_OUT_ROWS = 1_000;
/** Rows of each kind that a report shows. */
const SHOWN_ROWS = 20;
/** Jobs of one model that are looked through for one on this base. */
const MAX_EARLIER = 100;
/** Answers may be half as long again as the longest right one, counted as if each character were a token. */
const ANSWER_SLACK = 1.5;
const MAX_ANSWER_TOKENS = 1_024;
/** Both models answer the same way each time they are asked. */
const GREEDY = { temperature: 0, maxTokens: MAX_ANSWER_TOKENS };

export interface Measure {
  name: string;
  old: MeanInterval;
  new: MeanInterval;
  /** New less old, row by row: the interval is of paired differences. */
  difference: MeanInterval;
  passes: boolean;
}

interface ChangedRow {
  line: number;
  question: object | null;
  reference: string;
  old: string | null;
  new: string | null;
}

export interface RebaseReport {
  object: "tunesmith.rebase";
  old_model: string;
  new_model: string;
  old_base: string;
  new_base: string;
  job: string;
  rows: number;
  /** What the new model may be worse by, with 95 % certainty. */
  margin: number;
  seed: number;
  measures: Measure[];
  passes: boolean;
  /** Rows that only the new model answers exactly, and those that only the old one does. */
  gains: { count: number; shown: ChangedRow[] };
  regressions: { count: number; shown: ChangedRow[] };
  alias: { id: string; moved: boolean } | null;
}

export interface RebaseOptions {
  model: string;
  base: string;
  rows: (lineage: LineageObject) => Promise<HeldOutRow[]>;
  graders: readonly Grader[];
  margin: number;
  seed: number;
  /** Moved to the new model if the gate passes. */
  alias: string | null;
  note: (text: string) => void;
  follow: (jobId: string) => Promise<void>;
  onProgress: (done: number, total: number) => void;
}

export async function rebase(client: TunesmithClient, options: RebaseOptions): Promise<RebaseReport> {
  const lineage = await client.get<LineageObject>(`/tunesmith/models/${inAddress(options.model)}`);
  if (lineage.base_model === options.base)
    throw new InvalidRequest(`${lineage.id} is on ${options.base} already. Name another base.`);
  const rows = await options.rows(lineage);
  if (rows.length === 0) {
    throw new InvalidRequest(
      "There are no held-out rows to score the two models on: the job had no validation file, or it is gone. Give some with --held-out.",
    );
  }
  const job = await trained(client, lineage, options);
  const newModel = job.fine_tuned_model;
  if (newModel === null) throw new InvalidRequest(`The job ${job.id} is ${job.status} and left no model.`);
  const added = await client.get<LineageObject>(`/tunesmith/models/${inAddress(newModel)}`);

  const maxTokens = Math.min(
    MAX_ANSWER_TOKENS,
    Math.ceil(ANSWER_SLACK * Math.max(16, ...rows.map(({ reference }) => reference.length))),
  );
  const requests = rows.map(({ request }) => ({
    ...request,
    max_completion_tokens: Math.min(request.max_completion_tokens, maxTokens),
  }));
  const total = 2 * rows.length;
  const before = await askAll(client, lineage.id, requests, (done) => options.onProgress(done, total));
  const after = await askAll(client, newModel, requests, (done) =>
    options.onProgress(rows.length + done, total),
  );
  const scored = rows.map(({ reference }, i) => ({
    old: measure(reference, before[i]?.text ?? ""),
    new: measure(reference, after[i]?.text ?? ""),
  }));
  const measures = await measured(client, rows, { before, after, scored }, options);
  const passes = measures.every((one) => one.passes);
  const moved = options.alias !== null && passes;
  if (options.alias !== null && passes) {
    await client.post(`/tunesmith/aliases/${inAddress(options.alias)}`, {
      model: newModel,
      reason: `rebased from ${lineage.id} to ${options.base}; gate passed on ${rows.length} rows`,
    });
  }
  return {
    object: "tunesmith.rebase",
    ...{
      old_model: lineage.id,
      new_model: newModel,
      old_base: lineage.base_model,
      new_base: added.base_model,
    },
    ...{ job: job.id, rows: rows.length, margin: options.margin, seed: options.seed, measures, passes },
    ...changedRows(rows, { before, after, scored }),
    alias: options.alias === null ? null : { id: options.alias, moved },
  };
}

/** The job of an earlier run on the same base, or a new one; at its end. */
async function trained(
  client: TunesmithClient,
  lineage: LineageObject,
  { base, note, follow }: RebaseOptions,
): Promise<FineTuningJob> {
  const earlier = await client.get<List<FineTuningJob>>("/fine_tuning/jobs", {
    [`metadata[${REBASED_FROM}]`]: lineage.id,
    limit: MAX_EARLIER,
  });
  const named = await findOrNull<ModelObject>(client, `/models/${inAddress(base)}`);
  const names = new Set([base, named?.tunesmith?.base_model]);
  let job: FineTuningJob | undefined;
  for (const one of earlier.data) {
    if (!names.has(one.model) || one.status === "failed" || one.status === "cancelled") continue;
    const model = one.fine_tuned_model;
    if (model !== null && (await findOrNull(client, `/models/${inAddress(model)}`)) === null) continue;
    job = one;
    break;
  }
  if (job === undefined) {
    job = await client.post<FineTuningJob>(`/tunesmith/models/${inAddress(lineage.id)}/rebase`, { base });
    note(`Training ${base} with the data and recipe of ${lineage.id} (${job.id}).`);
  } else {
    note(`${lineage.id} was trained on ${base} already, as ${job.id} (${job.status}).`);
  }
  await follow(job.id);
  const ended = await client.get<FineTuningJob>(`/fine_tuning/jobs/${inAddress(job.id)}`);
  if (ended.status === "succeeded") return ended;
  const said = ended.error !== null && "message" in ended.error ? ` ${ended.error.message}` : "";
  throw new InvalidRequest(`The job ${ended.id} is ${ended.status}.${said}`);
}

/** What both models said, row by row, and how it compares with the right answers. */
interface Answered {
  before: readonly GivenAnswer[];
  after: readonly GivenAnswer[];
  scored: readonly { old: PairMeasures; new: PairMeasures }[];
}

async function measured(
  client: TunesmithClient,
  rows: readonly HeldOutRow[],
  { before, after, scored }: Answered,
  { graders, margin, seed }: RebaseOptions,
): Promise<Measure[]> {
  const measures: Measure[] = [];
  const add = (name: string, pairs: readonly { old: number; new: number }[]): void => {
    const over = (values: number[]) => meanInterval(values, seed);
    const [old, fresh] = [over(pairs.map((pair) => pair.old)), over(pairs.map((pair) => pair.new))];
    const difference = over(pairs.map((pair) => pair.new - pair.old));
    if (old === null || fresh === null || difference === null) return;
    measures.push({ name, old, new: fresh, difference, passes: difference.low > -margin });
  };
  add(
    "exact match",
    scored.map((pair) => ({ old: Number(pair.old.exact), new: Number(pair.new.exact) })),
  );
  add(
    "valid JSON",
    scored
      .filter((pair) => pair.old.formatValid !== null)
      .map((pair) => ({ old: Number(pair.old.formatValid), new: Number(pair.new.formatValid) })),
  );
  for (const grader of graders) {
    const scores: { old: number; new: number }[] = [];
    for (const [i, { request, reference }] of rows.entries()) {
      const answers = { old: before[i]?.text ?? "", new: after[i]?.text ?? null };
      scores.push(await gradePair(client, grader, answers, { messages: request.messages, reference }));
    }
    add(grader.name, scores);
  }
  return measures;
}

function changedRows(
  rows: readonly HeldOutRow[],
  { before, after, scored }: Answered,
): Pick<RebaseReport, "gains" | "regressions"> {
  const changed = (isGain: boolean): RebaseReport["gains"] => {
    const found = rows.flatMap((row, i): ChangedRow[] => {
      const pair = scored[i];
      if (pair === undefined || pair.old.exact === pair.new.exact || pair.new.exact !== isGain) return [];
      const question = row.request.messages.at(-1) ?? null;
      const { line, reference } = row;
      return [{ line, question, reference, old: before[i]?.text ?? null, new: after[i]?.text ?? null }];
    });
    return { count: found.length, shown: found.slice(0, SHOWN_ROWS) };
  };
  return { gains: changed(true), regressions: changed(false) };
}

/** Rows of a file of chats: what stands before the last answer, and that answer. Throws InvalidRequest naming the line. */
export function heldOutRows(text: string, source: string): HeldOutRow[] {
  const rows: HeldOutRow[] = [];
  for (const [i, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    if (rows.length === MAX_HELD_OUT_ROWS) break;
    const refuse = (what: string) =>
      new InvalidRequest(
        `${source}, line ${i + 1}: expected a chat, as a training file has them, whose last message is an assistant's text; ${what} Mend the line, or take it out.`,
      );
    const { request, reference } = readPrompt(i + 1, line, GREEDY, refuse);
    if (reference === null) throw refuse("it ends otherwise.");
    rows.push({ line: i + 1, request, reference });
  }
  return rows;
}

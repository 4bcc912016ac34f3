// `compare`: a recording's answers against those of a model of the user's server, on the same prompts, with nothing of OpenAI's needed.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { InvalidRequest, messageOf } from "../errors.ts";
import { meanInterval, type MeanInterval } from "../evals/intervals.ts";
import { writeFileAtomically } from "../model/atomic-write.ts";
import { askAll } from "./answers.ts";
import { answerText, cosine, distance, measure, wordOverlap } from "./differences.ts";
import { gradersOf, gradePair, type Grader, type GraderScores } from "./pair-grading.ts";
import { lastUserText, type PromptMessage } from "./prompts.ts";
import { findRecording, type RecordedAnswer } from "./recording.ts";
import { statusOf, type TunesmithClient } from "./tunesmith-client.ts";

/** Texts of one request for embeddings. */
const EMBEDDED_AT_A_TIME = 32;
/** Start of an answer that its embedding is made of; models of embeddings read no more than 8,192 tokens. */
const EMBEDDED_CHARACTERS = 8_000;
/** Pairs that are shown side by side. */
const SHOWN_DIFFERENCES = 20;

export interface ComparedRow {
  line: number;
  answered: boolean;
  exact_match: boolean;
  /** Whether the new answer is JSON; null where the old one is not. */
  format_valid: boolean | null;
  old_characters: number;
  new_characters: number;
  /** Cosine of the embeddings; null where it could not be measured. */
  similarity: number | null;
  graders: { old: number; new: number }[];
  distance: number;
}

export interface Difference extends ComparedRow {
  prompt: string;
  old: string;
  /** Null: the server refused; `fault` says why. */
  new: string | null;
  fault: string | null;
}

export interface Comparison {
  object: "tunesmith.comparison";
  old_model: string;
  new_model: string;
  recording: string;
  prompts: number;
  answered: number;
  seed: number;
  /** Share of all prompts. */
  exact_match: MeanInterval | null;
  /** Share of those whose old answer is JSON; null without any. */
  format_valid: MeanInterval | null;
  /** Characters of the new answer as a multiple of the old one's, over answers that are there. */
  length_ratio: MeanInterval | null;
  similarity: MeanInterval | null;
  graders: {
    name: string;
    old: MeanInterval | null;
    new: MeanInterval | null;
    /** New less old, prompt by prompt. */
    difference: MeanInterval | null;
    /** Answers that the grader could not judge; they count as its score of 0. */
    errors: number;
  }[];
  unmeasured: { what: string; why: string }[];
  worst: Difference[];
  rows: ComparedRow[];
}

export interface CompareOptions {
  newModel: string;
  recording: string | null;
  graderFiles: readonly string[];
  embeddingModel: string;
  seed: number;
  onProgress: (done: number, total: number) => void;
}

interface Pair {
  recorded: RecordedAnswer;
  old: string;
  new: string | null;
  fault: string | null;
}

export async function compare(
  client: TunesmithClient,
  directory: string,
  options: CompareOptions,
): Promise<Comparison> {
  const recording = await findRecording(directory, options.recording);
  const recorded = [...recording.answers.values()].sort((a, b) => a.line - b.line);
  if (recorded.length === 0)
    throw new InvalidRequest(`${recording.path} has no answers yet. Record prompts first.`);
  const graders = await gradersOf(client, options.graderFiles, (path) => readFile(path, "utf8"));
  const pairs = await answerAll(client, recorded, options);
  const unmeasured: Comparison["unmeasured"] = [];
  const similarities = await similaritiesOf(client, pairs, options.embeddingModel).catch((error: unknown) => {
    // A server without a model for embeddings still compares all else.
    if (statusOf(error) === null) throw error;
    unmeasured.push({ what: "similarity", why: messageOf(error) });
    return null;
  });
  const scores = await gradeAll(client, graders, pairs);
  const rows = pairs.map((pair, i) =>
    rowOf(
      pair,
      similarities?.[i] ?? null,
      scores.map((each) => each[i]),
    ),
  );
  const { seed } = options;
  const over = (values: (number | null)[]): MeanInterval | null =>
    meanInterval(
      values.filter((value) => value !== null),
      seed,
    );
  return {
    object: "tunesmith.comparison",
    old_model: recording.model,
    new_model: options.newModel,
    recording: recording.path,
    prompts: rows.length,
    answered: rows.filter(({ answered }) => answered).length,
    seed,
    exact_match: over(rows.map((row) => Number(row.exact_match))),
    format_valid: over(rows.map((row) => (row.format_valid === null ? null : Number(row.format_valid)))),
    length_ratio: over(
      rows.map((row) =>
        row.answered && row.old_characters > 0 ? row.new_characters / row.old_characters : null,
      ),
    ),
    similarity: over(rows.map(({ similarity }) => similarity)),
    graders: graders.map(({ name }, g) => {
      const given = scores[g] ?? [];
      return {
        name,
        old: over(given.map((score) => score.old)),
        new: over(given.map((score) => score.new)),
        difference: over(given.map((score) => score.new - score.old)),
        errors: given.reduce((sum, score) => sum + score.errors, 0),
      };
    }),
    unmeasured,
    worst: worstOf(pairs, rows),
    rows,
  };
}

/** A prompt that the server refuses is a pair without a new answer. */
async function answerAll(
  client: TunesmithClient,
  recorded: readonly RecordedAnswer[],
  { newModel, onProgress }: CompareOptions,
): Promise<Pair[]> {
  const requests = recorded.map(({ request }) => request);
  const answers = await askAll(client, newModel, requests, onProgress);
  return recorded.map((one, i) => ({
    recorded: one,
    old: answerText(one.message),
    new: answers[i]?.text ?? null,
    fault: answers[i]?.fault ?? null,
  }));
}

/** Cosine of each pair's embeddings; null where one of the texts is empty or missing. */
async function similaritiesOf(
  client: TunesmithClient,
  pairs: readonly Pair[],
  model: string,
): Promise<(number | null)[]> {
  const texts = [
    ...new Set(pairs.flatMap(({ old, new: answer }) => (answer === null ? [] : [old, answer])).map(startOf)),
  ].filter((text) => text.trim() !== "");
  const vectors = new Map<string, number[]>();
  for (let start = 0; start < texts.length; start += EMBEDDED_AT_A_TIME) {
    const input = texts.slice(start, start + EMBEDDED_AT_A_TIME);
    const answer = await client.post<{ data: { index: number; embedding: number[] }[] }>("/embeddings", {
      model,
      input,
      encoding_format: "float",
    });
    for (const { index, embedding } of answer.data) vectors.set(input[index] ?? "", embedding);
  }
  return pairs.map(({ old, new: answer }) => {
    const [a, b] = [vectors.get(startOf(old)), vectors.get(startOf(answer ?? ""))];
    return a === undefined || b === undefined ? null : cosine(a, b);
  });
}

const startOf = (text: string): string => text.slice(0, EMBEDDED_CHARACTERS);

/** By grader, then by pair. */
async function gradeAll(
  client: TunesmithClient,
  graders: readonly Grader[],
  pairs: readonly Pair[],
): Promise<GraderScores[][]> {
  const scores: GraderScores[][] = [];
  for (const grader of graders) {
    const given: GraderScores[] = [];
    for (const { recorded, old, new: answer } of pairs) {
      const item = {
        messages: recorded.request.messages,
        prompt: lastUserText(recorded.request.messages as PromptMessage[]),
        old_answer: old,
        reference: recorded.reference,
      };
      given.push(await gradePair(client, grader, { old, new: answer }, item));
    }
    scores.push(given);
  }
  return scores;
}

function rowOf(
  pair: Pair,
  similarity: number | null,
  scores: readonly (GraderScores | undefined)[],
): ComparedRow {
  const measures = measure(pair.old, pair.new ?? "");
  const answered = pair.new !== null;
  const exact = answered && measures.exact;
  const graders = scores.map((score) => ({ old: score?.old ?? 0, new: score?.new ?? 0 }));
  return {
    line: pair.recorded.line,
    answered,
    exact_match: exact,
    format_valid: measures.formatValid === null ? null : answered && measures.formatValid,
    old_characters: measures.oldCharacters,
    new_characters: measures.newCharacters,
    similarity,
    graders,
    distance: distance({
      answered,
      exact,
      formatValid: measures.formatValid,
      likeness: similarity ?? wordOverlap(pair.old, pair.new ?? ""),
      graderDrops: graders.map((each) => each.old - each.new),
    }),
  };
}

function worstOf(pairs: readonly Pair[], rows: readonly ComparedRow[]): Difference[] {
  return rows
    .map((row, i) => ({ row, pair: pairs[i] as Pair }))
    .filter(({ row }) => row.distance > 0 || !row.exact_match)
    .sort((a, b) => b.row.distance - a.row.distance || a.row.line - b.row.line)
    .slice(0, SHOWN_DIFFERENCES)
    .map(({ row, pair }) => ({
      ...row,
      prompt: lastUserText(pair.recorded.request.messages as PromptMessage[]),
      old: pair.old,
      new: pair.new,
      fault: pair.fault,
    }));
}

export async function writeComparison(
  directory: string,
  comparison: Comparison,
  page: string,
): Promise<void> {
  await writeFileAtomically(join(directory, "compare.json"), [`${JSON.stringify(comparison, null, 1)}\n`]);
  await writeFileAtomically(join(directory, "compare.html"), [page]);
}

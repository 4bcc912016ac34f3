// `distil`: a training file of what an old model answered, and the job on it.
import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { InvalidRequest } from "../errors.ts";
import { writeFileAtomically } from "../model/atomic-write.ts";
import { withFolder } from "./folder-lock.ts";
import { ORIGIN_KEY } from "./recipe.ts";
import { findRecording, type RecordedAnswer } from "./recording.ts";
import { judge, trainJudged, type TrainedHere, type Training, type TrainingHooks } from "./train-here.ts";
import type { TunesmithClient } from "./tunesmith-client.ts";

const FOLDER = "distilled";
/** As every training file; a job on fewer would fail. */
const MIN_ROWS = 10;

export interface Distilled {
  object: "tunesmith.distillation";
  recording: string;
  old_model: string;
  training_file: string;
  rows: number;
  /** Answers that teach nothing good, by what is wrong with them. */
  left_out: { cut_off: number; refused: number; empty: number };
  training: TrainedHere;
}

export async function distil(
  client: TunesmithClient,
  directory: string,
  options: {
    base: string;
    recording: string | null;
    epochs: number | null;
    suffix: string | null;
    alias: boolean;
  },
  hooks: TrainingHooks,
): Promise<Distilled> {
  const recording = await findRecording(directory, options.recording);
  const leftOut: Distilled["left_out"] = { cut_off: 0, refused: 0, empty: 0 };
  const rows: string[] = [];
  for (const answer of recording.answers.values()) {
    const fault = faultOf(answer);
    if (fault === null) rows.push(`${JSON.stringify(rowOf(answer))}\n`);
    else leftOut[fault] += 1;
  }
  if (rows.length < MIN_ROWS)
    throw new InvalidRequest(
      `${recording.path} has ${rows.length} answers to train on (${recording.answers.size - rows.length} were cut off, refused or empty): expected at least ${MIN_ROWS}. Record more prompts.`,
    );
  const text = rows.join("");
  const path = join(directory, FOLDER, basename(recording.path));
  await mkdir(join(directory, FOLDER), { recursive: true });
  await withFolder(directory, () => writeFileAtomically(path, [text]));
  hooks.note(`Wrote ${rows.length} rows to ${path}.`);
  const hyperparameters = { n_epochs: options.epochs ?? ("auto" as const) };
  const training: Training = {
    origin: basename(recording.path),
    model: options.base,
    training: { path, name: basename(path), sha256: createHash("sha256").update(text).digest("hex") },
    validation: null,
    request: {
      method: { type: "supervised", supervised: { hyperparameters } },
      ...(options.suffix === null ? {} : { suffix: options.suffix }),
      metadata: { [ORIGIN_KEY]: recording.model },
    },
    alias: options.alias ? recording.model : null,
  };
  const trained = await trainJudged(client, training, await judge(client, training, hooks), hooks);
  return {
    object: "tunesmith.distillation",
    recording: recording.path,
    old_model: recording.model,
    training_file: path,
    rows: rows.length,
    left_out: leftOut,
    training: { ...trained, old_model: recording.model },
  };
}

function faultOf({ message, finish_reason: reason }: RecordedAnswer): keyof Distilled["left_out"] | null {
  if (reason === "length") return "cut_off";
  if (reason === "content_filter" || typeof message.refusal === "string") return "refused";
  const hasCalls = (message.tool_calls ?? []).length > 0;
  return hasCalls || (message.content ?? "").trim() !== "" ? null : "empty";
}

/** The prompt with its answer, as a line of a training file. */
function rowOf({ request, message }: RecordedAnswer): object {
  const calls = message.tool_calls ?? [];
  const { tools, parallel_tool_calls: parallel } = request;
  return {
    messages: [
      ...request.messages,
      {
        role: "assistant",
        content: message.content ?? null,
        ...(calls.length === 0 ? {} : { tool_calls: calls }),
      },
    ],
    ...(tools === undefined ? {} : { tools }),
    ...(parallel === undefined ? {} : { parallel_tool_calls: parallel }),
  };
}

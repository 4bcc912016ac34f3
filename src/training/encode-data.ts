// A data file of a job as training examples: that it is the file the job began with, that the base model's template can show
// every line, and what was cut. Every line that cannot be trained on is named at once. It knows no weights.
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { addBadLine, readDataset, unusableLines } from "../data/dataset.ts";
import type { BadLines, DatasetParam, Example } from "../data/dataset.ts";
import type { ChatEncoding } from "../data/prompt.ts";
import { encodeExample, trainedTokens } from "../data/supervised-example.ts";
import type { SupervisedExample } from "../data/supervised-example.ts";
import { DatasetError, InvalidRequest } from "../errors.ts";
import { sha256OfFile } from "../model/base-model.ts";
import type { JobRecipe } from "./job-directory.ts";

/** Encoded data of a job. */
export interface EncodedData {
  examples: SupervisedExample[];
  /** Tokens of one epoch as OpenAI bills them. */
  trainedTokens: number;
  /** Examples longer than the limit, and the tokens that were cut off them. */
  truncated: { examples: number; tokens: number };
}

/** Examples encoded before signals are looked at: a few milliseconds. */
const EXAMPLES_PER_TURN = 32;

/**
 * Reads and encodes one of the job's files; nothing where the job has none. Throws DatasetError for a file that was changed
 * and for lines that cannot be trained on, UnsupportedModel where the template ends no turn.
 */
export async function encodeData(
  directory: string,
  recipe: JobRecipe,
  param: DatasetParam,
  encoding: ChatEncoding,
  maxLength: number,
  signal: AbortSignal,
): Promise<EncodedData> {
  const encoded: EncodedData = { examples: [], trainedTokens: 0, truncated: { examples: 0, tokens: 0 } };
  const file = param === "training_file" ? recipe.trainingData : recipe.validationData;
  if (file === null) return encoded;
  const path = join(directory, file.file);
  await checkUnchanged(path, file, param, signal);
  const dataset = await readDataset(path, { param, signal });
  const bad: BadLines = { badLines: [], badLineCount: 0 };
  for (const [i, example] of dataset.examples.entries()) {
    if (i % EXAMPLES_PER_TURN === 0) {
      await nextTurn();
      signal.throwIfAborted();
    }
    const found = encodeLine(example, encoding, maxLength);
    if (typeof found === "string") {
      addBadLine(bad, example.line, [{ kind: "content", message: null, text: found }]);
      continue;
    }
    encoded.examples.push(found);
    encoded.trainedTokens += trainedTokens(example.messages, example.tools, { ...encoding, maxLength });
    if (found.truncatedTokens > 0) encoded.truncated.examples += 1;
    encoded.truncated.tokens += found.truncatedTokens;
  }
  if (bad.badLineCount > 0) throw unusableLines(bad, param);
  return encoded;
}

/** What is wrong with the line, in a clause, where it cannot be trained on. */
function encodeLine(
  { messages, tools }: Example,
  encoding: ChatEncoding,
  maxLength: number,
): SupervisedExample | string {
  try {
    const example = encodeExample(messages, tools, { ...encoding, maxLength });
    if (example.supervisedTokens > 0) return example;
    const length = example.tokens.length + example.truncatedTokens;
    return `has ${length} tokens and is cut after ${maxLength}, before the answer it should teach; shorten it or leave it out`;
  } catch (error) {
    if (!(error instanceof InvalidRequest)) throw error;
    return `cannot be trained on: ${error.message.replace(/\.$/, "")}`;
  }
}

/** Other data under the same seed would be another run: going on with it, or calling it the job's, would be false. */
async function checkUnchanged(
  path: string,
  { file, sha256 }: JobRecipe["trainingData"],
  param: DatasetParam,
  signal: AbortSignal,
): Promise<void> {
  const found = await sha256OfFile(path, signal).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (found === sha256) return;
  throw new DatasetError(
    `The job's ${file} must have sha256 ${sha256}, ${found === null ? "and is gone" : `has ${found}`}: it was changed in the job's folder since the job was prepared. Create the job again.`,
    { code: `changed_${param}`, param },
  );
}

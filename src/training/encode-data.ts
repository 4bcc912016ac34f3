// A data file of a job as training examples: that it is the file the job began with, that the base model's template can show
// every line, and what was cut. Every line that cannot be trained on is named at once. It knows no weights.
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { addBadLine, CHAT_FORMAT, PREFERENCE_FORMAT, readExamples, unusableLines } from "../data/dataset.ts";
import type { BadLines, DatasetFormat, DatasetParam } from "../data/dataset.ts";
import { encodePair, trainedPairTokens } from "../data/encoded-pair.ts";
import type { EncodedPair } from "../data/encoded-pair.ts";
import { computedTokens } from "../data/preference-batches.ts";
import type { PreferenceExample } from "../data/preference-example.ts";
import { encodeExample, trainedTokens } from "../data/supervised-example.ts";
import type { EncodeOptions, SupervisedExample } from "../data/supervised-example.ts";
import type { TrainingExample } from "../data/training-example.ts";
import { DatasetError, InvalidRequest } from "../errors.ts";
import { sha256OfFile } from "../model/base-model.ts";
import type { JobRecipe } from "./job-directory.ts";

/** Encoded data of a job. */
export interface EncodedData<Example> {
  examples: Example[];
  /** Tokens of one epoch as OpenAI bills them. */
  trainedTokens: number;
  /** Examples longer than the limit, and the tokens that were cut off them. */
  truncated: { examples: number; tokens: number };
}

/** How the lines of a method's data become what it trains on. */
export interface LineEncoding<Line, Example> {
  format: DatasetFormat<Line>;
  /** Throws InvalidRequest where the template cannot show the line. */
  encode(line: Line, options: EncodeOptions): Example;
  /** What is wrong with the encoded line, in a clause; null: nothing. */
  fault(example: Example, maxLength: number): string | null;
  truncatedTokens(example: Example): number;
  /** Tokens of a pass that holds this example alone. */
  passTokens(example: Example): number;
  trainedTokens(line: Line, options: EncodeOptions): number;
}

export const CHATS: LineEncoding<TrainingExample, SupervisedExample> = {
  format: CHAT_FORMAT,
  encode: ({ messages, tools }, options) => encodeExample(messages, tools, options),
  fault: (example, maxLength) => {
    return example.supervisedTokens > 0 ? null : cutAway(example, maxLength, "the answer it should teach");
  },
  truncatedTokens: (example) => example.truncatedTokens,
  passTokens: ({ tokens }) => tokens.length,
  trainedTokens: ({ messages, tools }, options) => trainedTokens(messages, tools, options),
};

export const PAIRS: LineEncoding<PreferenceExample, EncodedPair> = {
  format: PREFERENCE_FORMAT,
  encode: encodePair,
  fault: ({ preferred, rejected }, maxLength) => {
    const empty = [preferred, rejected].find((side) => side.supervisedTokens === 0);
    if (empty !== undefined) return cutAway(empty, maxLength, "its answers");
    const [one, other] = [preferred.tokens, rejected.tokens];
    if (one.length !== other.length || one.some((token, i) => token !== other[i])) return null;
    return `has two outputs that are the same in the ${maxLength} tokens that are kept; shorten the prompt or leave it out`;
  },
  truncatedTokens: ({ preferred, rejected }) => preferred.truncatedTokens + rejected.truncatedTokens,
  passTokens: (pair) => computedTokens([pair]),
  trainedTokens: trainedPairTokens,
};

function cutAway({ tokens, truncatedTokens }: SupervisedExample, maxLength: number, what: string): string {
  const length = tokens.length + truncatedTokens;
  return `has ${length} tokens and is cut after ${maxLength}, before ${what}; shorten it or leave it out`;
}

/** Examples encoded before signals are looked at: a few milliseconds. */
const EXAMPLES_PER_TURN = 32;

/**
 * Reads and encodes one of the job's files; nothing where the job has none. Throws DatasetError for a file that was changed
 * and for lines that cannot be trained on, UnsupportedModel where the template ends no turn.
 */
export async function encodeData<Line extends object, Example>(
  directory: string,
  recipe: JobRecipe,
  param: DatasetParam,
  lines: LineEncoding<Line, Example>,
  options: EncodeOptions,
  signal: AbortSignal,
): Promise<EncodedData<Example>> {
  const encoded: EncodedData<Example> = {
    examples: [],
    trainedTokens: 0,
    truncated: { examples: 0, tokens: 0 },
  };
  const file = param === "training_file" ? recipe.trainingData : recipe.validationData;
  if (file === null) return encoded;
  const path = join(directory, file.file);
  await checkUnchanged(path, file, param, signal);
  const dataset = await readExamples(path, lines.format, { param, signal });
  const bad: BadLines = { badLines: [], badLineCount: 0 };
  for (const [i, line] of dataset.examples.entries()) {
    if (i % EXAMPLES_PER_TURN === 0) {
      await nextTurn();
      signal.throwIfAborted();
    }
    const found = encodeLine(line, lines, options);
    if (typeof found === "string") {
      addBadLine(bad, line.line, [{ kind: "content", message: null, text: found }]);
      continue;
    }
    const truncated = lines.truncatedTokens(found.example);
    encoded.examples.push(found.example);
    encoded.trainedTokens += lines.trainedTokens(line, options);
    if (truncated > 0) encoded.truncated.examples += 1;
    encoded.truncated.tokens += truncated;
  }
  if (bad.badLineCount > 0) throw unusableLines(bad, param);
  return encoded;
}

/** What is wrong with the line, in a clause, where it cannot be trained on. */
function encodeLine<Line, Example>(
  line: Line,
  lines: LineEncoding<Line, Example>,
  options: EncodeOptions,
): { example: Example } | string {
  try {
    const example = lines.encode(line, options);
    return lines.fault(example, options.maxLength) ?? { example };
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

// A data file of a job as training examples: that it is the file the job began with, that the base model's template can show
// every line, and what was cut. Every line that cannot be trained on is named at once. It knows no weights.
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { addBadLine, readExamples, unusableLines } from "../data/dataset.ts";
import type { BadLines, DatasetParam } from "../data/dataset.ts";
import type { EncodeOptions } from "../data/supervised-example.ts";
import { DatasetError } from "../errors.ts";
import { sha256OfFile } from "../model/base-model.ts";
import type { JobRecipe } from "./job-directory.ts";
import { encodeLine } from "./line-encoding.ts";
import type { LineEncoding } from "./line-encoding.ts";

/** Encoded data of a job. */
export interface EncodedData<Example> {
  examples: Example[];
  /** Tokens of one epoch as OpenAI bills them. */
  trainedTokens: number;
  /** Examples longer than the limit, and the tokens that were cut off them. */
  truncated: { examples: number; tokens: number };
}

/** Lines encoded before signals are looked at: a few milliseconds. */
const LINES_PER_TURN = 32;

/**
 * Reads and encodes one of the job's files; nothing where the job has none. Throws DatasetError for a file that was changed
 * and for lines that cannot be trained on, UnsupportedModel where the template ends no turn.
 */
export async function encodeData<Content extends object, Example>(
  directory: string,
  recipe: JobRecipe,
  param: DatasetParam,
  encoding: LineEncoding<Content, Example>,
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
  const dataset = await readExamples(path, encoding.format, { param, signal });
  const bad: BadLines = { badLines: [], badLineCount: 0 };
  for (const [i, line] of dataset.examples.entries()) {
    if (i % LINES_PER_TURN === 0) {
      await nextTurn();
      signal.throwIfAborted();
    }
    const found = encodeLine(line, encoding, options);
    if (typeof found === "string") {
      addBadLine(bad, line.line, [{ kind: "content", message: null, text: found }]);
      continue;
    }
    const truncated = encoding.truncatedTokens(found.example);
    encoded.examples.push(found.example);
    encoded.trainedTokens += encoding.trainedTokens(line, options);
    if (truncated > 0) encoded.truncated.examples += 1;
    encoded.truncated.tokens += truncated;
  }
  if (bad.badLineCount > 0) throw unusableLines(bad, param);
  return encoded;
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

// A data file of a job as training examples: that it is the file the job began with, that the base model's template can show
// every line, and what was cut. Every line that cannot be trained on is named at once. It knows no weights.
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { addBadLine, readExamples, unusableLines } from "../data/dataset.ts";
import type { BadLines, DatasetFormat, DatasetParam } from "../data/dataset.ts";
import type { EncodeOptions } from "../data/supervised-example.ts";
import { DatasetError } from "../errors.ts";
import { sha256OfFile } from "../model/base-model.ts";
import type { JobRecipe } from "./job-directory.ts";
import { addEncoded, encodeLines, nothingEncoded } from "./line-encoding.ts";
import type { EncodedLines, LineEncoder, LineEncoding } from "./line-encoding.ts";

/** Encoded data of a job; nothing in it is faulty. */
export type EncodedData<Example> = Omit<EncodedLines<Example>, "faults">;

/** Lines encoded before signals are looked at: a few milliseconds. */
const LINES_PER_TURN = 32;

/** Encodes in this process. */
export function encoderHere<Content extends object, Example>(
  encoding: LineEncoding<Content, Example>,
  options: EncodeOptions,
  signal: AbortSignal,
): LineEncoder<Content, Example> {
  return async (lines) => {
    const all = nothingEncoded<Example>();
    for (let start = 0; start < lines.length; start += LINES_PER_TURN) {
      await nextTurn();
      signal.throwIfAborted();
      addEncoded(all, encodeLines(lines.slice(start, start + LINES_PER_TURN), encoding, options));
    }
    return all;
  };
}

/**
 * Reads and encodes one of the job's files; nothing where the job has none. Throws DatasetError for a file that was changed
 * and for lines that cannot be trained on, UnsupportedModel where the template ends no turn.
 */
export async function encodeData<Content extends object, Example>(
  directory: string,
  recipe: JobRecipe,
  param: DatasetParam,
  format: DatasetFormat<Content>,
  encode: LineEncoder<Content, Example>,
  signal: AbortSignal,
): Promise<EncodedData<Example>> {
  const file = param === "training_file" ? recipe.trainingData : recipe.validationData;
  if (file === null) return nothingEncoded();
  const path = join(directory, file.file);
  await checkUnchanged(path, file, param, signal);
  const dataset = await readExamples(path, format, { param, signal });
  const { faults, ...encoded } = await encode(dataset.examples);
  const bad: BadLines = { badLines: [], badLineCount: 0 };
  for (const { line, text } of faults) addBadLine(bad, line, [{ kind: "content", message: null, text }]);
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

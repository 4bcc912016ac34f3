// A data file of a job as training examples: that it is the file the job began with, that the base model's template can show
// every line, and what was cut. A line is encoded when it is first asked for, so that training need not wait for all of them; of
// lines that cannot be trained on, the first that is met has every one named at once. It knows no weights.
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { addBadLine, readExamples, unusableLines } from "../data/dataset.ts";
import type { BadLines, DatasetParam, Line } from "../data/dataset.ts";
import type { EncodeOptions } from "../data/supervised-example.ts";
import { DatasetError } from "../errors.ts";
import { sha256OfFile } from "../model/file-hash.ts";
import { allPlaces } from "./examples.ts";
import type { Examples } from "./examples.ts";
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

/** How a file's lines are encoded. */
export interface Encoder<Content, Example> {
  encoding: LineEncoding<Content, Example>;
  options: EncodeOptions;
  signal: AbortSignal;
}

export class ExampleFile<Content extends object, Example> implements Examples<Example> {
  readonly count: number;
  readonly #param: DatasetParam;
  readonly #encoder: Encoder<Content, Example>;
  /** What is not encoded yet, by place. */
  readonly #lines: Map<number, Line<Content>>;
  readonly #encoded: EncodedData<Example>;

  private constructor(
    param: DatasetParam,
    lines: readonly Line<Content>[],
    encoder: Encoder<Content, Example>,
  ) {
    this.count = lines.length;
    this.#param = param;
    this.#encoder = encoder;
    this.#lines = new Map(lines.entries());
    this.#encoded = {
      examples: new Array<Example>(lines.length),
      trainedTokens: 0,
      truncated: { examples: 0, tokens: 0 },
    };
  }

  /**
   * Reads one of the job's files, and encodes nothing yet; no lines where the job has none. Throws DatasetError for a file that was
   * changed and for lines that are not what the method takes. What encodes throws it for lines that cannot be trained on, and
   * UnsupportedModel where the template ends no turn.
   */
  static async open<Content extends object, Example>(
    directory: string,
    recipe: JobRecipe,
    param: DatasetParam,
    encoder: Encoder<Content, Example>,
  ): Promise<ExampleFile<Content, Example>> {
    const file = param === "training_file" ? recipe.trainingData : recipe.validationData;
    if (file === null) return new ExampleFile(param, [], encoder);
    const path = join(directory, file.file);
    const { encoding, signal } = encoder;
    await checkUnchanged(path, file, param, signal);
    const { examples } = await readExamples(path, encoding.format, { param, signal });
    return new ExampleFile(param, examples, encoder);
  }

  get isEncoded(): boolean {
    return this.#lines.size === 0;
  }

  async at(places: readonly number[]): Promise<Example[]> {
    await this.#encode(places);
    return places.map((place) => this.#encoded.examples[place] as Example);
  }

  /** Encodes lines that nobody asked for yet until the time has come. */
  async encodeUntil(isTime: () => boolean): Promise<void> {
    await this.#encode(this.#rest(isTime));
  }

  async all(): Promise<EncodedData<Example>> {
    await this.#encode(allPlaces(this));
    return this.#encoded;
  }

  *#rest(isTime: () => boolean): Generator<number> {
    for (const place of this.#lines.keys()) {
      if (isTime()) return;
      yield place;
    }
  }

  async #encode(places: Iterable<number>): Promise<void> {
    let lines = 0;
    for (const place of places) {
      const line = this.#lines.get(place);
      if (line === undefined) continue;
      if (lines++ % LINES_PER_TURN === 0) await this.#turn();
      if (this.#fault(place, line) !== null) throw await this.#refusal();
    }
  }

  async #turn(): Promise<void> {
    await nextTurn();
    this.#encoder.signal.throwIfAborted();
  }

  /** Encodes a line, or says in a clause why it cannot be trained on. */
  #fault(place: number, line: Line<Content>): string | null {
    const { encoding, options } = this.#encoder;
    const found = encodeLine(line, encoding, options);
    if (typeof found === "string") return found;
    const truncated = encoding.truncatedTokens(found.example);
    const encoded = this.#encoded;
    encoded.examples[place] = found.example;
    encoded.trainedTokens += encoding.trainedTokens(line, options);
    if (truncated > 0) encoded.truncated.examples += 1;
    encoded.truncated.tokens += truncated;
    this.#lines.delete(place);
    return null;
  }

  /** The error that names every line that cannot be trained on. Those that are encoded can. */
  async #refusal(): Promise<DatasetError> {
    const bad: BadLines = { badLines: [], badLineCount: 0 };
    let lines = 0;
    for (const [place, line] of this.#lines) {
      if (lines++ % LINES_PER_TURN === 0) await this.#turn();
      const text = this.#fault(place, line);
      if (text !== null) addBadLine(bad, line.line, [{ kind: "content", message: null, text }]);
    }
    return unusableLines(bad, this.#param);
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

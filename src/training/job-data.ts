// Both data files of a job, encoded while it trains. What had to be cut is told of once a file is encoded whole.
import { createChatTemplate } from "../data/chat-template.ts";
import type { DatasetParam } from "../data/dataset.ts";
import { createTokenizer } from "../data/tokenizer.ts";
import type { BaseModel } from "../model/base-model.ts";
import type { EventLog } from "./event-log.ts";
import { ExampleFile } from "./example-file.ts";
import type { EncodedData } from "./example-file.ts";
import type { JobRecipe } from "./job-directory.ts";
import type { LineEncoding } from "./line-encoding.ts";

export interface JobDataOptions {
  directory: string;
  recipe: JobRecipe;
  events: EventLog;
  model: Pick<BaseModel, "tokenizer">;
  /** Tokens; longer examples are cut. */
  maxLength: number;
  signal: AbortSignal;
  /** Milliseconds, monotonic. */
  now: () => number;
}

export class JobData<Content extends object, Example> {
  readonly training: ExampleFile<Content, Example>;
  readonly validation: ExampleFile<Content, Example>;
  readonly #options: JobDataOptions;
  /** Files of which it has not been told yet what was cut. */
  readonly #untold: Set<DatasetParam>;

  private constructor(
    training: ExampleFile<Content, Example>,
    validation: ExampleFile<Content, Example>,
    options: JobDataOptions,
  ) {
    this.training = training;
    this.validation = validation;
    this.#options = options;
    this.#untold = new Set(["training_file", "validation_file"]);
  }

  /** Reads both files. Throws as ExampleFile does. */
  static async open<Content extends object, Example>(
    options: JobDataOptions,
    encoding: LineEncoding<Content, Example>,
  ): Promise<JobData<Content, Example>> {
    const { directory, recipe, model, maxLength, signal } = options;
    const encoder = {
      encoding,
      options: {
        tokenizer: createTokenizer(model.tokenizer),
        template: createChatTemplate(model.tokenizer),
        maxLength,
      },
      signal,
    };
    const fileOf = (param: DatasetParam) => ExampleFile.open(directory, recipe, param, encoder);
    return new JobData(await fileOf("training_file"), await fileOf("validation_file"), options);
  }

  /** Encodes for so many milliseconds what nobody asked for yet, while there is any. */
  async encodeFor(milliseconds: number): Promise<void> {
    const { now } = this.#options;
    const end = now() + milliseconds;
    for (const file of [this.training, this.validation]) await file.encodeUntil(() => now() >= end);
    await this.#tellOfCuts();
  }

  async all(): Promise<{ training: EncodedData<Example>; validation: EncodedData<Example> }> {
    const all = { training: await this.training.all(), validation: await this.validation.all() };
    await this.#tellOfCuts();
    return all;
  }

  /** Silence would leave the job's owner with a model that was trained on less than was sent. */
  async #tellOfCuts(): Promise<void> {
    const files = { training_file: this.training, validation_file: this.validation };
    for (const param of [...this.#untold]) {
      if (!files[param].isEncoded) continue;
      this.#untold.delete(param);
      const { examples, truncated } = await files[param].all();
      if (truncated.examples === 0) continue;
      await this.#options.events.append({
        type: "truncated",
        at: Date.now(),
        param,
        examples: truncated.examples,
        ofExamples: examples.length,
        tokens: truncated.tokens,
        maxLength: this.#options.maxLength,
      });
    }
  }
}

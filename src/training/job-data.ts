// Both data files of a job, encoded. What had to be cut is told of.
import { createChatTemplate } from "../data/chat-template.ts";
import type { DatasetParam } from "../data/dataset.ts";
import { createTokenizer } from "../data/tokenizer.ts";
import type { BaseModel } from "../model/base-model.ts";
import { encodeData } from "./encode-data.ts";
import type { EncodedData } from "./encode-data.ts";
import type { EventLog } from "./event-log.ts";
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
}

/** Throws as encodeData does. */
export async function encodeJobData<Content extends object, Example>(
  options: JobDataOptions,
  encoding: LineEncoding<Content, Example>,
): Promise<{ training: EncodedData<Example>; validation: EncodedData<Example> }> {
  const { directory, recipe, model, maxLength, signal } = options;
  const encodeOptions = {
    tokenizer: createTokenizer(model.tokenizer),
    template: createChatTemplate(model.tokenizer),
    maxLength,
  };
  const dataOf = async (param: DatasetParam): Promise<EncodedData<Example>> => {
    const data = await encodeData(directory, recipe, param, encoding, encodeOptions, signal);
    await reportTruncation(options, param, data);
    return data;
  };
  return { training: await dataOf("training_file"), validation: await dataOf("validation_file") };
}

/** Silence would leave the job's owner with a model that was trained on less than was sent. */
async function reportTruncation(
  { events, maxLength }: Pick<JobDataOptions, "events" | "maxLength">,
  param: DatasetParam,
  { examples, truncated }: EncodedData<unknown>,
): Promise<void> {
  if (truncated.examples === 0) return;
  await events.append({
    type: "truncated",
    at: Date.now(),
    param,
    examples: truncated.examples,
    ofExamples: examples.length,
    tokens: truncated.tokens,
    maxLength,
  });
}

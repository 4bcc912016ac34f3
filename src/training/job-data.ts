// Both data files of a job, encoded: small ones in this process, large ones in others, while this one does something else. What had to be cut is told of.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { createChatTemplate } from "../data/chat-template.ts";
import type { DatasetParam } from "../data/dataset.ts";
import { createTokenizer } from "../data/tokenizer.ts";
import type { BaseModel } from "../model/base-model.ts";
import { encodeData, encoderHere } from "./encode-data.ts";
import type { EncodedData } from "./encode-data.ts";
import { EncodingProcesses, MIN_BYTES_FOR_PROCESSES } from "./encode-processes.ts";
import type { EventLog } from "./event-log.ts";
import type { JobRecipe } from "./job-directory.ts";
import type { LineEncoder, LineEncoding } from "./line-encoding.ts";

export interface JobDataOptions {
  directory: string;
  recipe: JobRecipe;
  events: EventLog;
  /** Open. */
  model: BaseModel;
  /** Tokens; longer examples are cut. */
  maxLength: number;
  signal: AbortSignal;
}

/**
 * `meanwhile` is work of this process while others encode; it may not be called at all. Throws as encodeData and `meanwhile` do.
 */
export async function encodeJobData<Content extends object, Example>(
  options: JobDataOptions,
  encoding: LineEncoding<Content, Example>,
  meanwhile: () => void,
): Promise<{ training: EncodedData<Example>; validation: EncodedData<Example> }> {
  const { directory, recipe, model, maxLength, signal } = options;
  const both = async (encoder: LineEncoder<Content, Example>) => {
    const encode = async (param: DatasetParam): Promise<EncodedData<Example>> => {
      const data = await encodeData(directory, recipe, param, encoding.format, encoder, signal);
      await reportTruncation(options, param, data);
      return data;
    };
    return { training: await encode("training_file"), validation: await encode("validation_file") };
  };
  if ((await dataBytes(directory, recipe)) < MIN_BYTES_FOR_PROCESSES) {
    const tokenizer = createTokenizer(model.tokenizer);
    const template = createChatTemplate(model.tokenizer);
    return both(encoderHere(encoding, { tokenizer, template, maxLength }, signal));
  }
  const { method, threads: count, baseModel } = recipe;
  const processes = new EncodingProcesses(count, { modelPath: baseModel.path, method, maxLength }, signal);
  try {
    return await both(async (lines) => {
      const encoded = processes.encode<Content, Example>(lines);
      // Whatever becomes of it is seen below, unless `meanwhile` throws: then that is what went wrong.
      encoded.catch(() => undefined);
      meanwhile();
      return encoded;
    });
  } finally {
    processes.end();
  }
}

/** Of both files; one that is gone is told of by encodeData. */
async function dataBytes(directory: string, recipe: JobRecipe): Promise<number> {
  let bytes = 0;
  for (const data of [recipe.trainingData, recipe.validationData]) {
    if (data === null) continue;
    const { size } = await stat(join(directory, data.file)).catch(() => ({ size: 0 }));
    bytes += size;
  }
  return bytes;
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

// Batches: the request that creates one, a line of its input file, the batch object, and a line of its output files.
import { z } from "zod";
import { expiresAfter, MAX_TTL_SECONDS } from "./files.ts";
import { listWithIdsSchema, pageQuery } from "./list.ts";
import { addFault, metadata } from "./validation.ts";

/** All of OpenAI's; a server offers those it has. */
export const BATCH_ENDPOINTS = [
  "/v1/responses",
  "/v1/chat/completions",
  "/v1/embeddings",
  "/v1/completions",
  "/v1/moderations",
  "/v1/images/generations",
  "/v1/images/edits",
  "/v1/videos",
] as const;
export type BatchEndpoint = (typeof BATCH_ENDPOINTS)[number];

export const BATCH_STATUSES = [
  "validating",
  "failed",
  "in_progress",
  "finalizing",
  "completed",
  "expired",
  "cancelling",
  "cancelled",
] as const;
export type BatchStatus = (typeof BATCH_STATUSES)[number];

/** OpenAI's bound, here too: a file of one batch is read by one worker, and its ids are held in memory. */
export const MAX_BATCH_LINES = 50_000;
/** OpenAI's bound of an input file. */
export const MAX_BATCH_FILE_BYTES = 200 * 2 ** 20;
/** OpenAI's bound of the inputs of all lines of an embeddings batch together. */
export const MAX_BATCH_EMBEDDING_INPUTS = 50_000;
/** The one completion window there is. */
export const BATCH_WINDOW_SECONDS = 86_400;
/** How long output files are kept unless the request says otherwise: 30 days. */
export const BATCH_OUTPUT_TTL_SECONDS = MAX_TTL_SECONDS;

/** The request on a server that has these of the endpoints. */
export function createBatchRequest(endpoints: readonly string[]) {
  return z.strictObject({
    input_file_id: z.string(),
    endpoint: z.enum(endpoints),
    completion_window: z.literal("24h"),
    metadata: metadata.nullish(),
    output_expires_after: expiresAfter.nullish(),
  });
}

export const listBatchesQuery = pageQuery({ defaultLimit: 20, maxLimit: 100 });

/** A line of an input file. Which url it must name, and that ids are unique, its reader knows. */
export const batchRequestLine = z.strictObject({
  custom_id: z.string().min(1),
  method: z.literal("POST"),
  url: z.string(),
  body: z.looseObject({ model: z.string().min(1) }).superRefine((body, context) => {
    for (const name of ["stream", "background"]) {
      if (body[name] !== true) continue;
      addFault(context, {
        code: "unsupported_value",
        path: [name],
        message:
          "Unsupported value: '{param}' does not support true in a batch: a line of an output file holds a whole answer. Leave it out.",
      });
    }
  }),
});
export type BatchRequestLine = z.infer<typeof batchRequestLine>;

/** Why a batch failed: one of its lines, or the file as a whole. */
const batchError = z.object({
  code: z.string(),
  message: z.string(),
  param: z.string().nullable(),
  line: z.int().nullable().describe("1-based."),
});
export type BatchError = z.infer<typeof batchError>;

const batchRequestCounts = z.object({ total: z.int(), completed: z.int(), failed: z.int() });
export type BatchRequestCounts = z.infer<typeof batchRequestCounts>;

const batchUsage = z.object({
  input_tokens: z.int(),
  input_tokens_details: z.object({ cached_tokens: z.int() }),
  output_tokens: z.int(),
  output_tokens_details: z.object({ reasoning_tokens: z.int() }),
  total_tokens: z.int(),
});
export type BatchUsage = z.infer<typeof batchUsage>;

export const batchObject = z
  .object({
    id: z.string(),
    object: z.literal("batch"),
    endpoint: z.string(),
    model: z.string().nullable(),
    errors: z.object({ object: z.literal("list"), data: z.array(batchError) }).nullable(),
    input_file_id: z.string(),
    completion_window: z.literal("24h"),
    status: z.enum(BATCH_STATUSES),
    output_file_id: z.string().nullable(),
    error_file_id: z.string().nullable(),
    created_at: z.int(),
    in_progress_at: z.int().nullable(),
    expires_at: z.int(),
    finalizing_at: z.int().nullable(),
    completed_at: z.int().nullable(),
    failed_at: z.int().nullable(),
    expired_at: z.int().nullable(),
    cancelling_at: z.int().nullable(),
    cancelled_at: z.int().nullable(),
    request_counts: batchRequestCounts,
    usage: batchUsage,
    metadata: z.record(z.string(), z.string()).nullable(),
  })
  .meta({ id: "Batch" });
export const batchList = listWithIdsSchema(batchObject).meta({ id: "BatchList" });
export type BatchObject = z.infer<typeof batchObject>;

/** A line of an output or error file. */
export interface BatchOutputLine {
  id: string;
  custom_id: string;
  response: { status_code: number; request_id: string; body: unknown } | null;
  /** Why there is no response. */
  error: { code: string; message: string } | null;
}

const tokens = z.int().min(0).catch(0);
/** The usage of an answer of any endpoint: chat, completions and embeddings say prompt and completion, responses input and output. */
const answerUsage = z
  .object({
    prompt_tokens: tokens,
    completion_tokens: tokens,
    input_tokens: tokens,
    output_tokens: tokens,
    prompt_tokens_details: z.object({ cached_tokens: tokens }).catch({ cached_tokens: 0 }),
    input_tokens_details: z.object({ cached_tokens: tokens }).catch({ cached_tokens: 0 }),
    completion_tokens_details: z.object({ reasoning_tokens: tokens }).catch({ reasoning_tokens: 0 }),
    output_tokens_details: z.object({ reasoning_tokens: tokens }).catch({ reasoning_tokens: 0 }),
  })
  .transform((usage): BatchUsage => {
    const input = usage.prompt_tokens + usage.input_tokens;
    const output = usage.completion_tokens + usage.output_tokens;
    return {
      input_tokens: input,
      input_tokens_details: {
        cached_tokens: usage.prompt_tokens_details.cached_tokens + usage.input_tokens_details.cached_tokens,
      },
      output_tokens: output,
      output_tokens_details: {
        reasoning_tokens:
          usage.completion_tokens_details.reasoning_tokens + usage.output_tokens_details.reasoning_tokens,
      },
      total_tokens: input + output,
    };
  });

export const NO_USAGE: BatchUsage = {
  input_tokens: 0,
  input_tokens_details: { cached_tokens: 0 },
  output_tokens: 0,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: 0,
};

/** What an answer's body says it took; nothing where it does not say. */
export function usageOf(body: unknown): BatchUsage {
  const usage = typeof body === "object" && body !== null && "usage" in body ? body.usage : undefined;
  const parsed = answerUsage.safeParse(usage);
  return parsed.success ? parsed.data : NO_USAGE;
}

export function sumOfUsage(a: BatchUsage, b: BatchUsage): BatchUsage {
  return {
    input_tokens: a.input_tokens + b.input_tokens,
    input_tokens_details: {
      cached_tokens: a.input_tokens_details.cached_tokens + b.input_tokens_details.cached_tokens,
    },
    output_tokens: a.output_tokens + b.output_tokens,
    output_tokens_details: {
      reasoning_tokens: a.output_tokens_details.reasoning_tokens + b.output_tokens_details.reasoning_tokens,
    },
    total_tokens: a.total_tokens + b.total_tokens,
  };
}

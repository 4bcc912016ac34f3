// The preflight: what would be said of a job before it starts. The request is the job's own, so that what was judged is what
// is sent.
import { z } from "zod";
import { createJobRequest } from "./fine-tuning.ts";

export const preflightRequest = createJobRequest;

const param = z.enum(["training_file", "validation_file"]);

const distribution = z.object({
  count: z.int(),
  min: z.number(),
  p10: z.number(),
  median: z.number(),
  p90: z.number(),
  max: z.number(),
  mean: z.number(),
});
export type PreflightDistribution = z.infer<typeof distribution>;

const fault = z.object({
  param,
  line: z.int().nullable(),
  message_index: z.int().nullable(),
  message: z.string(),
  found: z.string().nullable(),
  expected: z.string().nullable(),
  fix: z.string().nullable(),
});
export type PreflightFault = z.infer<typeof fault>;

const finding = z.object({
  kind: z.string(),
  severity: z.enum(["error", "warning", "note"]),
  param,
  message: z.string(),
  fix: z.string(),
  count: z.int(),
  places: z.array(z.object({ line: z.int(), detail: z.string().nullable() })),
});
export type PreflightFinding = z.infer<typeof finding>;

const fileReport = z.object({
  param,
  bytes: z.int(),
  examples: z.int(),
  bad_lines: z.int(),
  messages_per_row: distribution.nullable(),
  answer_characters: distribution.nullable(),
  labels: z.array(z.object({ label: z.string(), count: z.int() })).nullable(),
  tokens: z
    .object({
      per_row: distribution,
      supervised_per_row: distribution,
      total: z.int(),
      supervised: z.int(),
      trained_tokens_per_epoch: z.int(),
      max_length: z.int(),
      truncated_rows: z.int(),
      truncated_tokens: z.int(),
      end_token_rows: z.int(),
      longest: z.object({ line: z.int(), tokens: z.int() }),
    })
    .nullable(),
});
export type PreflightFile = z.infer<typeof fileReport>;

const cost = z.object({
  n_epochs: z.int(),
  batch_size: z.int(),
  learning_rate_multiplier: z.number(),
  steps: z.int(),
  trainable_parameters: z.int(),
  base_parameters: z.int(),
  adapter_bytes: z.int(),
  trained_tokens: z.int(),
  memory_bytes: z.int(),
  full_speed_memory_bytes: z.int(),
  machine_memory_bytes: z.int(),
  seconds: z.number(),
  seconds_from: z.enum(["measured", "assumed"]),
  openai: z.object({
    source: z.string(),
    prices: z.array(z.object({ model: z.string(), usd_per_million: z.number(), usd: z.number() })),
  }),
});

export const preflightObject = z
  .object({
    object: z.literal("tunesmith.preflight"),
    base_model: z.string().nullable(),
    /** Whether a job on these files would start. */
    trainable: z.boolean(),
    fault_count: z.int(),
    faults: z.array(fault),
    findings: z.array(finding),
    files: z.array(fileReport),
    cost: cost.nullable(),
    limits: z.array(z.string()),
  })
  .meta({ id: "Preflight" });
export type PreflightObject = z.infer<typeof preflightObject>;

/** A row as a model sees it: what `check --show` prints. */
export interface ShownRowObject {
  line: number;
  token_count: number;
  supervised_tokens: number;
  truncated_tokens: number;
  tokens: { text: string; supervised: boolean }[];
}

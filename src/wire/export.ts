// Exports: what may be asked for, and the certificate that lies in each. The certificate is read on machines without a server, so
// its schema is the contract between them.
import { z } from "zod";

/** Each format with the precisions its weights may have, the default first; none: the weights are written as they are. */
export const EXPORT_PRECISIONS = {
  peft: [],
  merged: ["f16", "bf16", "f32"],
  "gguf-adapter": [],
  gguf: ["f16", "q8_0", "q4_0"],
  ollama: ["f16", "q8_0", "q4_0"],
} as const;

export type ExportFormat = keyof typeof EXPORT_PRECISIONS;
export type ExportPrecision = (typeof EXPORT_PRECISIONS)[ExportFormat][number];

export const EXPORT_FORMATS = Object.keys(EXPORT_PRECISIONS) as [ExportFormat, ...ExportFormat[]];
export const ALL_PRECISIONS = [...new Set(Object.values(EXPORT_PRECISIONS).flat())] as [
  ExportPrecision,
  ...ExportPrecision[],
];

export const exportQuery = z.strictObject({
  format: z.enum(EXPORT_FORMATS).describe("What the files are for."),
  precision: z
    .enum(ALL_PRECISIONS)
    .optional()
    .describe(
      `How weights are stored. ${EXPORT_FORMATS.map((format) => `${format}: ${EXPORT_PRECISIONS[format].join(", ") || "none may be given"}`).join("; ")}. The first of each is the default.`,
    ),
});

/** The precision that is meant; undefined where the format has no such one. Null: the format has none to choose. */
export function precisionOf(
  format: ExportFormat,
  wanted: ExportPrecision | undefined,
): ExportPrecision | null | undefined {
  const possible: readonly ExportPrecision[] = EXPORT_PRECISIONS[format];
  if (wanted === undefined) return possible[0] ?? null;
  return possible.includes(wanted) ? wanted : undefined;
}

/** Files of an export are named plainly and lie in one folder: nothing in an archive can lead out of it. */
export const EXPORTED_FILE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

export const CERTIFICATE_FILE = "certificate.json";

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.int().min(0);

const bounds = z.object({
  min_equal_tokens: z.number(),
  max_logit_difference: z.number(),
  max_mean_kl: z.number(),
});

/** How far the files are from the trained model, measured on what was read back from them. */
export const exportDistance = z.object({
  /** Compared prompts, and where they were taken from. */
  prompts: count,
  prompts_from: z.object({ validation_file: count, training_file: count, built_in: count }),
  /** Of the token ids as JSON, so that a second export can be seen to have been asked the same. */
  prompts_sha256: sha256,
  /** Tokens that the trained model wrote, greedily; the files' model was asked at each of these places. */
  tokens: count,
  /** Places at which both put the same token first. */
  equal_tokens: count,
  /** Prompts whose whole greedy answers are equal. */
  equal_prompts: count,
  /** Of all logits at all places. */
  max_logit_difference: z.number(),
  mean_logit_difference: z.number(),
  /** Kullback-Leibler divergence of the files' model from the trained one, in nats a token. */
  mean_kl: z.number(),
  bounds,
});

export const exportCertificate = z.object({
  object: z.literal("tunesmith.export_certificate"),
  version: z.literal(1),
  model: z.string(),
  format: z.enum(EXPORT_FORMATS),
  precision: z.enum(ALL_PRECISIONS).nullable(),
  base_model: z.object({
    id: z.string(),
    hugging_face_id: z.string().nullable(),
    /** Of the file, or over the files of the folder, that the model was trained on. */
    sha256,
  }),
  /** The job's, every hyperparameter a number; null where the job's folder is gone. */
  recipe: z.record(z.string(), z.unknown()).nullable(),
  /** sha256 of the data that the recipe names. */
  data: z.object({ training: sha256, validation: sha256.nullable() }).nullable(),
  versions: z.record(z.string(), z.string()),
  distance: exportDistance,
  /** Every file beside the certificate, in the order of names. */
  files: z.array(z.object({ name: z.string().regex(EXPORTED_FILE_NAME), bytes: count, sha256 })),
});

export type ExportCertificate = z.infer<typeof exportCertificate>;
export type ExportDistance = z.infer<typeof exportDistance>;

// Where a model comes from and what became of it, and its training once more on another base. All of it is our addition.
import { z } from "zod";
import { JOB_METHODS, MAX_SEED, MAX_SUFFIX_LENGTH } from "./fine-tuning.ts";
import { EXPORT_FORMATS } from "./export.ts";
import { integer, storedText } from "./validation.ts";

/** The member of a job's metadata that names the model whose data and recipe it repeats. */
export const REBASED_FROM = "tunesmith_rebased_from";

export const MODEL_KINDS = ["fine_tuned", "checkpoint", "imported"] as const;

const dataFile = z
  .object({
    id: z.string(),
    filename: z.string().nullable().describe("Null: the file was deleted or has expired."),
    sha256: z.string().nullable().describe("Of what was trained on; null for a job that never began."),
    available: z.boolean(),
  })
  .meta({ id: "LineageFile" });

export const lineageObject = z
  .object({
    id: z.string(),
    object: z.literal("tunesmith.model"),
    created_at: z.int(),
    kind: z.enum(MODEL_KINDS),
    base_model: z.string(),
    parent: z.string().nullable().describe("The fine-tuned model whose training it went on from."),
    rebased_from: z
      .string()
      .nullable()
      .describe("The model whose data and recipe it repeats on another base."),
    job: z.string().nullable(),
    method: z.enum(JOB_METHODS).nullable(),
    seed: z.int().nullable(),
    hyperparameters: z.record(z.string(), z.unknown()).nullable(),
    recipe: z
      .record(z.string(), z.unknown())
      .nullable()
      .describe("Everything that decided the weights, every value a number; null where it is not known."),
    trained_tokens: z.int().nullable(),
    training_file: dataFile.nullable(),
    validation_file: dataFile.nullable(),
    metrics: z.record(z.string(), z.unknown()).nullable().describe("Of its checkpoint."),
    exports: z.array(
      z.object({
        created_at: z.int(),
        format: z.enum(EXPORT_FORMATS),
        precision: z.string().nullable(),
        by: z.string(),
      }),
    ),
    aliases: z
      .array(z.object({ id: z.string(), role: z.enum(["model", "candidate"]) }))
      .describe("Of the request's project."),
  })
  .meta({ id: "ModelLineage" });
export type LineageObject = z.infer<typeof lineageObject>;

export const rebaseRequest = z
  .strictObject({
    base: storedText().min(1).max(256).describe("A base model, or a name that leads to one."),
    suffix: storedText().min(1).max(MAX_SUFFIX_LENGTH).nullish().describe("Left out: the job's own."),
    seed: integer({ min: 0, max: MAX_SEED }).nullish().describe("Left out: the job's own."),
  })
  .meta({ id: "RebaseRequest" });

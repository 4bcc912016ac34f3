// Imports: what may be asked for beside the archive, and what the answer says of the model that it became.
import { z } from "zod";
import { ALL_PRECISIONS, EXPORT_FORMATS } from "./export.ts";
import { MAX_SUFFIX_LENGTH } from "./fine-tuning.ts";
import { storedText } from "./validation.ts";

/** What the files of an import may be, by what reads them. */
export const IMPORT_FORMATS = ["peft", "gguf-adapter", "huggingface", "gguf"] as const;
export type ImportFormat = (typeof IMPORT_FORMATS)[number];

/** A base model's name here, a Hugging Face id or a path. */
const MAX_BASE_LENGTH = 512;

export const importQuery = z.strictObject({
  name: storedText()
    .min(1)
    .max(MAX_SUFFIX_LENGTH)
    .optional()
    .describe(
      "An adapter's suffix: a part of its name. A whole model's name, without which it is refused: letters, digits, dot, hyphen and underscore.",
    ),
  base: storedText()
    .min(1)
    .max(MAX_BASE_LENGTH)
    .optional()
    .describe(
      "Of an adapter: the base model here that it is for, where its files do not name one that is known here.",
    ),
});

/** A whole model's name is a folder's name. */
export const BASE_MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/** Files that an import may hold. Others would be left lying unread, and whoever sent them would think that they count. */
export const IMPORTED_FILE_NAME =
  /^(?:[A-Za-z0-9][A-Za-z0-9._-]{0,120}\.(?:json|safetensors|gguf|txt|model|jinja|md)|Modelfile|(?:LICENSE|NOTICE)(?:\.txt)?)$/;

const count = z.int().min(0);

export const importedModel = z
  .object({
    object: z.literal("tunesmith.imported_model"),
    id: z.string().describe("The name under which it answers from now on."),
    created: z.int(),
    kind: z
      .enum(["adapter", "base_model"])
      .describe("A fine-tuned model of the project, or a base model of the whole server."),
    format: z.enum(IMPORT_FORMATS),
    base_model: z.string().describe("The local base model; a base model's own name."),
    /** Null for a base model. */
    lora: z
      .object({
        rank: z.int(),
        alpha: z.number(),
        dropout: z.number(),
        target_modules: z.array(z.string()),
      })
      .nullable(),
    certificate: z
      .object({
        model: z.string(),
        format: z.enum(EXPORT_FORMATS),
        precision: z.enum(ALL_PRECISIONS).nullable(),
      })
      .nullable()
      .describe("What the certificate says, where the files had one; they were checked against it."),
    files: count,
    bytes: count,
  })
  .meta({ id: "ImportedModel" });
export type ImportedModel = z.infer<typeof importedModel>;

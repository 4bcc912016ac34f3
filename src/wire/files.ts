// Files: the object, the members of an upload and the list query. Contents are bytes and know no schema.
import { z } from "zod";
import { listWithIdsSchema, pageQuery } from "./list.ts";
import { integer } from "./validation.ts";

/** Purposes a client may upload for. */
export const UPLOAD_PURPOSES = ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"] as const;
export type UploadPurpose = (typeof UPLOAD_PURPOSES)[number];
/** All purposes a file may have; the others are written by the server. */
export const FILE_PURPOSES = [
  ...UPLOAD_PURPOSES,
  "assistants_output",
  "batch_output",
  "fine-tune-results",
] as const;
export type FilePurpose = (typeof FILE_PURPOSES)[number];

export const FILE_STATUSES = ["uploaded", "processed", "error"] as const;

export const fileObject = z
  .object({
    object: z.literal("file"),
    id: z.string(),
    purpose: z.enum(FILE_PURPOSES),
    filename: z.string(),
    bytes: z.int(),
    created_at: z.int(),
    expires_at: z.int().nullable(),
    status: z.enum(FILE_STATUSES),
    status_details: z.string().nullable(),
  })
  .meta({ id: "File" });
export type FileObject = z.infer<typeof fileObject>;

/** Shortest and longest life of a file that expires: from an hour to 30 days. */
export const MIN_TTL_SECONDS = 3600;
export const MAX_TTL_SECONDS = 2_592_000;

/** `expires_after` of a JSON body. */
export const expiresAfter = z.strictObject({
  anchor: z.literal("created_at"),
  seconds: integer({ min: MIN_TTL_SECONDS, max: MAX_TTL_SECONDS }),
});

/** The form members beside `file`, once `expires_after[...]` is gathered into an object of texts. */
export const createFileFields = z.strictObject({
  // Its values are refused in words of OpenAI's own, by whoever reads the form.
  purpose: z.string().meta({ enum: UPLOAD_PURPOSES }),
  expires_after: z
    .strictObject({
      anchor: z.literal("created_at"),
      seconds: z
        .string()
        .transform((text) => (/^[0-9]{1,15}$/.test(text) ? Number(text) : text))
        .pipe(integer({ min: MIN_TTL_SECONDS, max: MAX_TTL_SECONDS }))
        .meta({ type: "integer", minimum: MIN_TTL_SECONDS, maximum: MAX_TTL_SECONDS }),
    })
    .optional(),
});
export type CreateFileFields = z.infer<typeof createFileFields>;

/** Batch input files expire after 30 days unless told otherwise. */
export const BATCH_FILE_TTL_SECONDS = 2_592_000;

/** OpenAI's default and maximum page of files. */
const FILES_PAGE_SIZE = 10_000;

export const listFilesQuery = pageQuery({
  defaultLimit: FILES_PAGE_SIZE,
  maxLimit: FILES_PAGE_SIZE,
}).extend({
  order: z.enum(["asc", "desc"]).default("desc"),
  purpose: z.string().optional(),
});

export const fileList = listWithIdsSchema(fileObject).meta({ id: "FileList" });

export const fileDeleted = z
  .object({ id: z.string(), object: z.literal("file"), deleted: z.literal(true) })
  .meta({ id: "FileDeleted" });
export type FileDeleted = z.infer<typeof fileDeleted>;

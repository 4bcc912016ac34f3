// Uploads: the request that begins one, its parts, its completion, and the upload object.
import { z } from "zod";
import { expiresAfter, fileObject, UPLOAD_PURPOSES } from "./files.ts";
import type { UploadPurpose } from "./files.ts";
import { addFault, integer, storedText } from "./validation.ts";

/** OpenAI's bound of all parts together: 8 GB. */
export const MAX_UPLOAD_BYTES = 8 * 2 ** 30;
/** OpenAI's bound of a part. */
export const MAX_PART_BYTES = 64 * 2 ** 20;
/** Parts of an upload, unused ones included; 128 of the largest hold 8 GB. Bounds the request that names them all. */
export const MAX_PARTS = 10_000;
/** How long an upload takes parts: OpenAI's hour. */
export const UPLOAD_TTL_SECONDS = 3600;

export const UPLOAD_STATUSES = ["pending", "completed", "cancelled", "expired"] as const;
export type UploadStatus = (typeof UPLOAD_STATUSES)[number];

/** What clients call a file of JSON lines: no type was ever registered for it. */
const JSON_LINES = [
  "text/jsonl",
  "application/jsonl",
  "application/x-jsonl",
  "application/jsonlines",
  "application/x-jsonlines",
  "application/ndjson",
  "application/x-ndjson",
  "application/json",
] as const;

/** The types that fit a purpose; null: every type, as nothing here reads such files. */
const MIME_TYPES: Readonly<Record<UploadPurpose, readonly string[] | null>> = {
  "fine-tune": JSON_LINES,
  batch: JSON_LINES,
  evals: JSON_LINES,
  vision: ["image/png", "image/jpeg", "image/gif", "image/webp"],
  assistants: null,
  user_data: null,
};

/** RFC 6838: type and subtype, then perhaps parameters such as `charset=utf-8`. */
const MIME_TYPE = /^([a-z0-9][\w!#$&^.+-]{0,126}\/[a-z0-9][\w!#$&^.+-]{0,126})\s*(;.*)?$/i;

export const createUploadRequest = z
  .strictObject({
    filename: storedText().min(1).max(4096),
    purpose: z.enum(UPLOAD_PURPOSES),
    bytes: integer({ min: 1, max: MAX_UPLOAD_BYTES }),
    mime_type: z.string().max(512),
    expires_after: expiresAfter.nullish(),
  })
  .superRefine(({ purpose, mime_type }, context) => {
    const fault = (expected: string) =>
      addFault(context, {
        code: "invalid_value",
        path: ["mime_type"],
        message: `Invalid value for '{param}': '${mime_type.slice(0, 80)}'. ${expected}`,
      });
    const type = MIME_TYPE.exec(mime_type)?.[1]?.toLowerCase();
    if (type === undefined) return fault("Expected a media type such as 'text/jsonl'.");
    const types = MIME_TYPES[purpose];
    if (types !== null && !types.includes(type)) {
      fault(`Supported values for purpose '${purpose}' are: ${types.map((each) => `'${each}'`).join(", ")}.`);
    }
  })
  .meta({ id: "CreateUploadRequest" });
export type CreateUploadRequest = z.infer<typeof createUploadRequest>;

/** The form members of a part beside `data`: none. */
export const createPartFields = z.strictObject({});

export const completeUploadRequest = z
  .strictObject({
    part_ids: z
      .array(z.string())
      .min(1)
      .max(MAX_PARTS)
      .superRefine((ids, context) => {
        const seen = new Set<string>();
        ids.forEach((id, index) => {
          if (seen.has(id)) {
            addFault(context, {
              code: "invalid_value",
              path: [index],
              message: `Invalid '{param}': the part '${id.slice(0, 80)}' is named twice. Name each part once, in the order of the file.`,
            });
          }
          seen.add(id);
        });
      }),
    md5: z
      .string()
      .superRefine((text, context) => {
        if (/^[0-9a-f]{32}$/i.test(text)) return;
        addFault(context, {
          code: "invalid_value",
          message: "Invalid '{param}': expected 32 hexadecimal digits, the MD5 of the whole file's bytes.",
        });
      })
      .transform((text) => text.toLowerCase())
      .nullable()
      .default(null),
  })
  .meta({ id: "CompleteUploadRequest" });
export type CompleteUploadRequest = z.infer<typeof completeUploadRequest>;

export const uploadObject = z
  .object({
    id: z.string(),
    object: z.literal("upload"),
    bytes: z.int(),
    created_at: z.int(),
    filename: z.string(),
    purpose: z.enum(UPLOAD_PURPOSES),
    status: z.enum(UPLOAD_STATUSES),
    expires_at: z.int(),
    /** Only when it is completed. */
    file: fileObject.optional(),
  })
  .meta({ id: "Upload" });
export type UploadObject = z.infer<typeof uploadObject>;

export const uploadPartObject = z
  .object({
    id: z.string(),
    object: z.literal("upload.part"),
    created_at: z.int(),
    upload_id: z.string(),
  })
  .meta({ id: "UploadPart" });
export type UploadPartObject = z.infer<typeof uploadPartObject>;

// The operations of /v1/uploads.
import { z } from "zod";
import {
  completeUploadRequest,
  createPartFields,
  createUploadRequest,
  uploadObject,
  uploadPartObject,
} from "../uploads.ts";
import type { Operation } from "./operation.ts";

const createPartForm = createPartFields
  .extend({ data: z.string().meta({ format: "binary", description: "At most 64 MB." }) })
  .meta({ id: "AddUploadPartRequest" });

const tag = "Uploads";

export const UPLOAD_OPERATIONS: readonly Operation[] = [
  {
    method: "POST",
    path: "/v1/uploads",
    id: "createUpload",
    tag,
    summary: "Begin an upload in parts",
    description: "At most 8 GB. It takes parts for an hour and is then `expired`.",
    body: createUploadRequest,
    example: { filename: "train.jsonl", purpose: "fine-tune", bytes: 2_147_483_648, mime_type: "text/jsonl" },
    answer: uploadObject,
    errors: [409],
  },
  {
    method: "POST",
    path: "/v1/uploads/{upload_id}/parts",
    id: "addUploadPart",
    tag,
    summary: "Add a part",
    description:
      "Parts may be sent at the same time and in any order; `part_ids` of the completion puts them in theirs.",
    form: createPartForm,
    example: { data: "@part-1" },
    answer: uploadPartObject,
    errors: [409, 507],
  },
  {
    method: "POST",
    path: "/v1/uploads/{upload_id}/complete",
    id: "completeUpload",
    tag,
    summary: "Make a file of the parts",
    body: completeUploadRequest,
    example: { part_ids: ["part_1", "part_2"] },
    answer: uploadObject,
    errors: [409, 507],
  },
  {
    method: "POST",
    path: "/v1/uploads/{upload_id}/cancel",
    id: "cancelUpload",
    tag,
    summary: "Cancel an upload",
    answer: uploadObject,
    errors: [409],
  },
];

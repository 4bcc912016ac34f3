// The operations of /v1/files.
import { z } from "zod";
import { createFileFields, fileDeleted, fileList, fileObject, listFilesQuery } from "../files.ts";
import type { Operation } from "./operation.ts";

const createFileForm = createFileFields
  .extend({
    file: z.string().meta({ format: "binary", description: "With a filename. It is streamed to the disk." }),
  })
  .meta({ id: "CreateFileRequest" });

const tag = "Files";

export const FILE_OPERATIONS: readonly Operation[] = [
  {
    method: "POST",
    path: "/v1/files",
    id: "createFile",
    tag,
    summary: "Upload a file",
    description:
      "Members may come in any order. Jobs use files with purpose `fine-tune`, batches those with `batch`; the others are kept. `batch` files expire after 30 days unless told otherwise.",
    form: createFileForm,
    example: { purpose: "fine-tune", file: "@train.jsonl" },
    answer: fileObject,
    errors: [409, 507],
  },
  {
    method: "GET",
    path: "/v1/files",
    id: "listFiles",
    tag,
    summary: "List files",
    query: listFilesQuery,
    example: { purpose: "fine-tune", limit: "20" },
    answer: fileList,
  },
  {
    method: "GET",
    path: "/v1/files/{file_id}",
    id: "retrieveFile",
    tag,
    summary: "Retrieve a file",
    answer: fileObject,
  },
  {
    method: "GET",
    path: "/v1/files/{file_id}/content",
    id: "downloadFile",
    tag,
    summary: "Download a file",
    description:
      "The bytes as uploaded. A job's result file is sent base64-encoded, unless the server is set to send plain CSV.",
    answer: "application/octet-stream",
  },
  {
    method: "DELETE",
    path: "/v1/files/{file_id}",
    id: "deleteFile",
    tag,
    summary: "Delete a file",
    description: "A job that has begun keeps its own copy; one that has not begun fails.",
    answer: fileDeleted,
  },
];

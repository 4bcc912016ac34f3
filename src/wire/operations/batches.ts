// The operations of /v1/batches.
import { batchList, batchObject, createBatchRequest, listBatchesQuery } from "../batches.ts";
import type { Operation } from "./operation.ts";

const tag = "Batches";

/** On a server that has these of the endpoints of batches. */
export function batchOperations(endpoints: readonly string[]): Operation[] {
  return [
    {
      method: "POST",
      path: "/v1/batches",
      id: "createBatch",
      tag,
      summary: "Create a batch",
      description:
        'The input file has purpose `batch` and a request on each line: `{"custom_id", "method": "POST", "url", "body"}`. Bad lines do not fail this request: the batch becomes `failed` and names them.',
      body: createBatchRequest(endpoints).meta({ id: "CreateBatchRequest" }),
      example: {
        input_file_id: "file-abc123",
        endpoint: "/v1/chat/completions",
        completion_window: "24h",
      },
      answer: batchObject,
      errors: [409],
    },
    {
      method: "GET",
      path: "/v1/batches",
      id: "listBatches",
      tag,
      summary: "List batches",
      description: "Newest first.",
      query: listBatchesQuery,
      answer: batchList,
    },
    {
      method: "GET",
      path: "/v1/batches/{batch_id}",
      id: "retrieveBatch",
      tag,
      summary: "Retrieve a batch",
      answer: batchObject,
    },
    {
      method: "POST",
      path: "/v1/batches/{batch_id}/cancel",
      id: "cancelBatch",
      tag,
      summary: "Cancel a batch",
      description: "What is done is kept in the output files, the rest is in the error file.",
      answer: batchObject,
      errors: [409],
    },
  ];
}

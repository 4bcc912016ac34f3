// The table of operations: one for each route of api/app.ts. The OpenAPI document, the page /docs and tests are made from it.
import { BATCH_ENDPOINTS } from "./batches.ts";
import { ALIAS_OPERATIONS } from "./operations/aliases.ts";
import { batchOperations } from "./operations/batches.ts";
import { FILE_OPERATIONS } from "./operations/files.ts";
import { FINE_TUNING_OPERATIONS } from "./operations/fine-tuning.ts";
import { GRADER_OPERATIONS } from "./operations/graders.ts";
import { INFERENCE_OPERATIONS } from "./operations/inference.ts";
import { MODEL_OPERATIONS } from "./operations/models.ts";
import type { Operation } from "./operations/operation.ts";
import { OWN_OPERATIONS } from "./operations/own.ts";
import { RESPONSE_OPERATIONS } from "./operations/responses.ts";
import { STORED_COMPLETION_OPERATIONS } from "./operations/stored-completions.ts";
import { UPLOAD_OPERATIONS } from "./operations/uploads.ts";

const INFERENCE: readonly Operation[] = [...INFERENCE_OPERATIONS, ...RESPONSE_OPERATIONS];

export const OPERATIONS: readonly Operation[] = [
  ...FILE_OPERATIONS,
  ...UPLOAD_OPERATIONS,
  ...FINE_TUNING_OPERATIONS,
  ...GRADER_OPERATIONS,
  ...MODEL_OPERATIONS,
  ...INFERENCE,
  ...STORED_COMPLETION_OPERATIONS,
  ...batchOperations(
    BATCH_ENDPOINTS.filter((url) => INFERENCE.some(({ method, path }) => method === "POST" && path === url)),
  ),
  ...ALIAS_OPERATIONS,
  ...OWN_OPERATIONS,
];

const BY_ROUTE = new Map(
  OPERATIONS.map((operation) => [routeKey(operation.method, operation.path), operation]),
);

/** The operation at a route's address, whichever way its parameters are written and named: `{file_id}` or `:file`. */
export function operationAt(method: string, url: string): Operation | null {
  return BY_ROUTE.get(routeKey(method, url)) ?? null;
}

function routeKey(method: string, url: string): string {
  return `${method} ${url.replaceAll(/:\w+|\{\w+\}/g, "{}")}`;
}

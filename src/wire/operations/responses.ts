// The operations of /v1/responses.
import { responseStreamEvent } from "../response-events.ts";
import {
  countResponseTokensRequest,
  createResponseRequest,
  listInputItemsQuery,
  responseDeleted,
  responseInputTokens,
  responseItemList,
  responseObject,
  retrieveResponseQuery,
} from "../responses.ts";
import type { Operation } from "./operation.ts";

const tag = "Responses";

export const RESPONSE_OPERATIONS: readonly Operation[] = [
  {
    method: "POST",
    path: "/v1/responses",
    id: "createResponse",
    tag,
    summary: "Create a response",
    description:
      "With `stream: true` the answer is server-sent events, without `[DONE]`. It is kept for 30 days unless `store` is false.",
    body: createResponseRequest,
    example: { model: "gpt-4o-mini", input: "Where is my parcel?" },
    answer: responseObject,
    events: responseStreamEvent,
    errors: [404],
  },
  {
    method: "POST",
    path: "/v1/responses/input_tokens",
    id: "getInputTokenCounts",
    tag,
    summary: "Count the tokens of a prompt",
    body: countResponseTokensRequest,
    example: { model: "gpt-4o-mini", input: "Where is my parcel?" },
    answer: responseInputTokens,
    errors: [404],
  },
  {
    method: "GET",
    path: "/v1/responses/{response_id}",
    id: "getResponse",
    tag,
    summary: "Retrieve a response",
    query: retrieveResponseQuery,
    answer: responseObject,
  },
  {
    method: "DELETE",
    path: "/v1/responses/{response_id}",
    id: "deleteResponse",
    tag,
    summary: "Delete a response",
    description: "Also ends one that runs in the background.",
    answer: responseDeleted,
  },
  {
    method: "POST",
    path: "/v1/responses/{response_id}/cancel",
    id: "cancelResponse",
    tag,
    summary: "Cancel a response in the background",
    answer: responseObject,
  },
  {
    method: "GET",
    path: "/v1/responses/{response_id}/input_items",
    id: "listInputItems",
    tag,
    summary: "List the items of the conversation",
    query: listInputItemsQuery,
    answer: responseItemList,
  },
];

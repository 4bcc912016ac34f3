// The operations of chat completions that were kept.
import {
  chatCompletionDeleted,
  listChatCompletionsQuery,
  listChatMessagesQuery,
  storedChatCompletion,
  storedChatCompletionList,
  storedChatMessageList,
  updateChatCompletionRequest,
} from "../stored-completions.ts";
import type { Operation } from "./operation.ts";

const tag = "Chat";

export const STORED_COMPLETION_OPERATIONS: readonly Operation[] = [
  {
    method: "GET",
    path: "/v1/chat/completions",
    id: "listChatCompletions",
    tag,
    summary: "List stored chat completions",
    description: "Those made with `store: true`, for 30 days.",
    query: listChatCompletionsQuery,
    answer: storedChatCompletionList,
  },
  {
    method: "GET",
    path: "/v1/chat/completions/{completion_id}",
    id: "getChatCompletion",
    tag,
    summary: "Retrieve a stored chat completion",
    answer: storedChatCompletion,
  },
  {
    method: "POST",
    path: "/v1/chat/completions/{completion_id}",
    id: "updateChatCompletion",
    tag,
    summary: "Replace a stored chat completion's metadata",
    body: updateChatCompletionRequest,
    example: { metadata: { topic: "parcels" } },
    answer: storedChatCompletion,
  },
  {
    method: "DELETE",
    path: "/v1/chat/completions/{completion_id}",
    id: "deleteChatCompletion",
    tag,
    summary: "Delete a stored chat completion",
    answer: chatCompletionDeleted,
  },
  {
    method: "GET",
    path: "/v1/chat/completions/{completion_id}/messages",
    id: "getChatCompletionMessages",
    tag,
    summary: "List the messages that were answered",
    query: listChatMessagesQuery,
    answer: storedChatMessageList,
  },
];

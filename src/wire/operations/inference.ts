// The operations where a model answers: chat completions and embeddings.
import { chatCompletion, chatCompletionChunk, createChatCompletionRequest } from "../chat.ts";
import { createEmbeddingRequest, embeddingList } from "../embeddings.ts";
import type { Operation } from "./operation.ts";

export const INFERENCE_OPERATIONS: readonly Operation[] = [
  {
    method: "POST",
    path: "/v1/chat/completions",
    id: "createChatCompletion",
    tag: "Chat",
    summary: "Create a chat completion",
    description: "With `stream: true` the answer is server-sent events, the last of which is `[DONE]`.",
    body: createChatCompletionRequest,
    example: {
      model: "gpt-4o-mini",
      messages: [{ role: "user", content: "Where is my parcel?" }],
      temperature: 0,
    },
    answer: chatCompletion,
    events: chatCompletionChunk,
    errors: [404],
  },
  {
    method: "POST",
    path: "/v1/embeddings",
    id: "createEmbedding",
    tag: "Embeddings",
    summary: "Create embeddings",
    description: "Every vector has length 1. At most 8,192 tokens an input and 300,000 tokens a request.",
    body: createEmbeddingRequest,
    example: { model: "text-embedding-3-small", input: ["Where is my parcel?"] },
    answer: embeddingList,
    errors: [404],
  },
];

// The operations where a model answers once: chat completions, legacy completions and embeddings.
import { chatCompletion, chatCompletionChunk, createChatCompletionRequest } from "../chat.ts";
import { completion, completionChunk, createCompletionRequest } from "../completions.ts";
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
    path: "/v1/completions",
    id: "createCompletion",
    tag: "Completions",
    summary: "Go on from a text (legacy)",
    description:
      "Without a chat template. With `stream: true` the answer is server-sent events, the last of which is `[DONE]`.",
    body: createCompletionRequest,
    example: { model: "gpt-4o-mini", prompt: "The parcel is", max_tokens: 8 },
    answer: completion,
    events: completionChunk,
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

// The operations of /v1/models.
import { modelDeleted, modelList, modelObject } from "../models.ts";
import type { Operation } from "./operation.ts";

const tag = "Models";

export const MODEL_OPERATIONS: readonly Operation[] = [
  {
    method: "GET",
    path: "/v1/models",
    id: "listModels",
    tag,
    summary: "List models",
    description: "Fine-tuned models (newest first), aliases and base models, without pages.",
    answer: modelList,
  },
  {
    method: "GET",
    path: "/v1/models/{model}",
    id: "retrieveModel",
    tag,
    summary: "Retrieve a model",
    answer: modelObject,
  },
  {
    method: "DELETE",
    path: "/v1/models/{model}",
    id: "deleteModel",
    tag,
    summary: "Delete a fine-tuned model",
    description:
      "Fine-tuned models and checkpoints only; a base model answers 403. Requests in flight finish.",
    answer: modelDeleted,
  },
];

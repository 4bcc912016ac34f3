// The operations that are additions of ours, beside OpenAI's protocol: webhooks, keys, projects, and the server itself.
import { z } from "zod";
import {
  createKeyRequest,
  createProjectRequest,
  keyDeleted,
  keyList,
  listKeysQuery,
  listProjectsQuery,
  newKeyObject,
  projectList,
  projectObject,
} from "../keys.ts";
import { exportQuery } from "../export.ts";
import { importedModel, importQuery } from "../import.ts";
import { jobObject } from "../fine-tuning.ts";
import { lineageObject, rebaseRequest } from "../lineage.ts";
import { preflightObject, preflightRequest } from "../preflight.ts";
import { createWebhookRequest, newWebhookObject, webhookDeleted, webhookList } from "../webhooks.ts";
import type { Operation } from "./operation.ts";

const health = z.object({ status: z.enum(["ok", "stopping"]) }).meta({ id: "Health" });
/** Of a document in the form that this very document has. */
const openApi = z.looseObject({ openapi: z.string() }).meta({ id: "OpenApiDocument" });

export const OWN_OPERATIONS: readonly Operation[] = [
  {
    method: "POST",
    path: "/tunesmith/preflight",
    id: "createPreflight",
    tag: "Preflight",
    summary: "Check a job before it starts",
    description:
      "Takes what creating a job takes, and answers every fault, what is odd about the data, what the model will see and what the job will cost. Nothing is made.",
    body: preflightRequest,
    example: { model: "gpt-4o-mini", training_file: "file-abc123" },
    answer: preflightObject,
  },
  {
    method: "GET",
    path: "/tunesmith/models/{model}",
    id: "getModelLineage",
    tag: "Models",
    summary: "Where a model comes from",
    description:
      "Data, recipe, parent, metrics, exports and aliases of a fine-tuned model of the project. A deleted training file leaves its id and its sha256.",
    answer: lineageObject,
  },
  {
    method: "POST",
    path: "/tunesmith/models/{model}/rebase",
    id: "rebaseModel",
    tag: "Models",
    summary: "Train a model once more on another base",
    description:
      "A job with the same data and recipe; what belongs to the base (learning rate, adapter, template) is chosen anew. `tunesmith rebase` also compares the two and moves an alias.",
    body: rebaseRequest,
    example: { base: "smollm2-135m-instruct" },
    answer: jobObject,
    errors: [409],
  },
  {
    method: "GET",
    path: "/tunesmith/models/{model}/export",
    id: "exportModel",
    tag: "Models",
    summary: "Export a fine-tuned model",
    description:
      "A tar archive of plain files in one folder. The files are read back and compared with the trained model before the answer begins; `certificate.json` says how far they are from it. One export is made at a time.",
    query: exportQuery,
    example: { format: "peft" },
    answer: "application/x-tar",
  },
  {
    method: "POST",
    path: "/tunesmith/models/import",
    id: "importModel",
    tag: "Models",
    summary: "Import a model",
    description:
      "The body is a tar archive without folders: a PEFT adapter, a Hugging Face model or a GGUF file, as an export writes them or another program. Everything is read and checked before anything is kept. A whole model needs the scope `admin`. One import is taken at a time.",
    query: importQuery,
    archive: true,
    example: { name: "support", base: "smollm2-135m-instruct" },
    answer: importedModel,
    errors: [409, 507],
  },
  {
    method: "POST",
    path: "/tunesmith/webhooks",
    id: "createWebhook",
    tag: "Webhooks",
    summary: "Register a webhook",
    description:
      "Deliveries are signed as Standard Webhooks are. The address must be public and https, unless the operator has named its host. A project has at most 20 webhooks.",
    body: createWebhookRequest,
    example: { url: "https://hooks.example.com/tunesmith", event_types: ["fine_tuning.job.succeeded"] },
    answer: newWebhookObject,
    errors: [409],
  },
  {
    method: "GET",
    path: "/tunesmith/webhooks",
    id: "listWebhooks",
    tag: "Webhooks",
    summary: "List webhooks",
    description: "All of the project, without pages.",
    answer: webhookList,
  },
  {
    method: "DELETE",
    path: "/tunesmith/webhooks/{webhook_id}",
    id: "deleteWebhook",
    tag: "Webhooks",
    summary: "Delete a webhook",
    description: "What is still on its way to it is dropped.",
    answer: webhookDeleted,
  },
  {
    method: "POST",
    path: "/tunesmith/keys",
    id: "createKey",
    tag: "Keys and projects",
    summary: "Make an API key",
    description:
      "`project_id` is the request's project unless it is given. Refuses `Idempotency-Key`, because its answer is not to be kept.",
    body: createKeyRequest,
    example: { name: "ci", scopes: ["read", "infer"], requests_per_minute: 60 },
    answer: newKeyObject,
    errors: [409],
  },
  {
    method: "GET",
    path: "/tunesmith/keys",
    id: "listKeys",
    tag: "Keys and projects",
    summary: "List API keys",
    description: "Revoked keys stay in the list.",
    query: listKeysQuery,
    answer: keyList,
  },
  {
    method: "DELETE",
    path: "/tunesmith/keys/{key_id}",
    id: "deleteKey",
    tag: "Keys and projects",
    summary: "Revoke an API key",
    description: "The next request with the key answers 401. Requests in flight finish.",
    answer: keyDeleted,
    errors: [409],
  },
  {
    method: "POST",
    path: "/tunesmith/projects",
    id: "createProject",
    tag: "Keys and projects",
    summary: "Make a project",
    description: "`id` takes over an id that clients already send as `OpenAI-Project`.",
    body: createProjectRequest,
    example: { name: "support" },
    answer: projectObject,
    errors: [409],
  },
  {
    method: "GET",
    path: "/tunesmith/projects",
    id: "listProjects",
    tag: "Keys and projects",
    summary: "List projects",
    query: listProjectsQuery,
    answer: projectList,
  },
  {
    method: "GET",
    path: "/healthz",
    id: "getHealth",
    tag: "Server",
    summary: "Health",
    answer: health,
    open: "everybody",
  },
  {
    method: "GET",
    path: "/openapi.json",
    id: "getOpenApiDocument",
    tag: "Server",
    summary: "This description, for programs",
    description: "OpenAPI 3.1, made from the schemas that requests are checked with.",
    answer: openApi,
    open: "this machine",
  },
  {
    method: "GET",
    path: "/docs",
    id: "getDocumentation",
    tag: "Server",
    summary: "This description, for people",
    answer: "text/html",
    open: "this machine",
  },
];

// The HTTP application: the route table. Handlers parse with wire, call a room, print with wire; nothing else. What holds for every
// request stands in every-request.ts.
import multipart from "@fastify/multipart";
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { EmbeddingEngine } from "../serving/embedding-engine.ts";
import type { ChatEngine } from "../serving/engine.ts";
import type { AliasComparisonStore } from "../store/alias-comparisons.ts";
import type { AliasStore } from "../store/aliases.ts";
import type { BatchStore } from "../store/batches.ts";
import type { ApiKeyStore } from "../store/api-keys.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { ChatCompletionStore } from "../store/chat-completions.ts";
import type { CheckpointPermissionStore } from "../store/checkpoint-permissions.ts";
import type { FileStore } from "../store/files.ts";
import type { FineTuningStore } from "../store/fine-tuning.ts";
import type { IdempotencyStore } from "../store/idempotency.ts";
import type { ModelExportStore } from "../store/model-exports.ts";
import type { ModelStore } from "../store/models.ts";
import type { ProjectStore } from "../store/projects.ts";
import type { UploadStore } from "../store/uploads.ts";
import type { ResponseStore } from "../store/responses.ts";
import type { WebhookStore } from "../store/webhooks.ts";
import { BATCH_ENDPOINTS } from "../wire/batches.ts";
import { DEFAULT_PROJECT } from "../wire/ids.ts";
import { operationAt } from "../wire/operations.ts";
import { aliasRoutes } from "./aliases.ts";
import { createAuthentication } from "./authentication.ts";
import { BackgroundResponses } from "./background-responses.ts";
import { batchRoutes } from "./batches.ts";
import { chatRoutes } from "./chat.ts";
import { completionRoutes } from "./completions.ts";
import { allowOrigins } from "./cross-origin.ts";
import { documentationRoutes } from "./documentation.ts";
import { addErrors, addHooks, addRateLimits, createFastify, send } from "./every-request.ts";
import { embeddingRoutes } from "./embeddings.ts";
import { wrongMethod } from "./error-answers.ts";
import { checkpointPermissionRoutes } from "./checkpoint-permissions.ts";
import { fileRoutes } from "./files.ts";
import { fineTuningRoutes } from "./fine-tuning.ts";
import { graderRoutes, type GraderMeans } from "./graders.ts";
import { createOnce, isCreation, mayCreate } from "./idempotency.ts";
import type { Once } from "./idempotency.ts";
import { keyRoutes } from "./keys.ts";
import { preflightRoutes } from "./preflight.ts";
import type { RunPreflight } from "./preflight.ts";
import { lineageRoutes } from "./lineage.ts";
import { ModelDirectory } from "./model-directory.ts";
import type { BaseModelCatalogue } from "./model-directory.ts";
import { exportRoutes, type RunExport } from "./model-export.ts";
import { importRoutes, type ModelImporter } from "./model-import.ts";
import { modelRoutes } from "./models.ts";
import { addNotOffered } from "./not-offered.ts";
import type { OwnRequests } from "./own-requests.ts";
import { isArchive } from "./request-bodies.ts";
import { ShadowCopies } from "./shadow-copies.ts";
import { uploadRoutes } from "./uploads.ts";
import { storedCompletionRoutes } from "./stored-completions.ts";
import { responseRoutes } from "./responses.ts";
import { webhookRoutes } from "./webhooks.ts";
import { scopeOf } from "./scopes.ts";

export interface AppParts {
  files: FileStore;
  blobs: BlobStore;
  uploads: UploadStore;
  partBlobs: BlobStore;
  jobs: FineTuningStore;
  models: ModelStore;
  aliases: AliasStore;
  comparisons: AliasComparisonStore;
  exported: ModelExportStore;
  batches: BatchStore;
  webhooks: WebhookStore;
  projects: ProjectStore;
  keys: ApiKeyStore;
  permissions: CheckpointPermissionStore;
  idempotency: IdempotencyStore;
  chatCompletions: ChatCompletionStore;
  responses: ResponseStore;
  engine: ChatEngine;
  catalogue: BaseModelCatalogue;
  embeddingEngine: EmbeddingEngine;
  embeddingCatalogue: BaseModelCatalogue;
  graders: GraderMeans;
  runPreflight: RunPreflight;
  runExport: RunExport;
  importer: ModelImporter;
  onJobsChanged: () => void;
  onBatchesChanged: () => void;
  /** Lets the requests of this process's own jobs in. */
  ownRequests: OwnRequests;
  /** Milliseconds since 1970. */
  now: () => number;
  /** Aborts when the grace for requests in flight is over. */
  stopping: AbortSignal;
  logger: FastifyBaseLogger;
}

export interface AppSettings {
  /** Of this program. */
  version: string;
  apiKeys: readonly string[];
  organization: string;
  modelAliases: Readonly<Record<string, string>>;
  maxUploadBytes: number;
  maxBodyBytes: number;
  resultFileEncoding: "base64" | "csv";
  emptyJobError: "null" | "object";
  webhookPrivateHosts: readonly string[];
  /** Of the web pages that may use the server. */
  corsOrigins: readonly string[];
}

declare module "fastify" {
  interface FastifyInstance {
    /** What there is to ask for; addresses that answer 405 are not in it. */
    routesWithHandlers: readonly { method: string; url: string }[];
  }
}

type Method = "GET" | "POST" | "DELETE";
type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;
type RouteTable = Record<string, Partial<Record<Method, Handler>>>;

/** Builds the application; the caller listens or injects. */
export async function createApp(parts: AppParts, settings: AppSettings): Promise<FastifyInstance> {
  const { models, stopping } = parts;
  const directory = new ModelDirectory({
    catalogue: parts.catalogue,
    embeddings: parts.embeddingCatalogue,
    aliases: settings.modelAliases,
    store: models,
    projectAliases: parts.aliases,
  });
  const shadows = new ShadowCopies(parts);
  const once = createOnce(parts.idempotency);
  const files = fileRoutes({ ...parts, ...settings, once });
  const upload = uploadRoutes({ ...parts, once });
  const jobs = fineTuningRoutes({ ...parts, ...settings, directory });
  const model = modelRoutes({ ...parts, directory });
  const exported = exportRoutes({ ...parts, directory });
  const imported = importRoutes({ ...parts, ...settings, directory, once });
  const chat = chatRoutes({ ...parts, directory, shadows });
  const completions = completionRoutes({ ...parts, directory });
  const stored = storedCompletionRoutes(parts);
  const background = new BackgroundResponses(stopping);
  const response = responseRoutes({ ...parts, directory, background });
  const embeddings = embeddingRoutes({ ...parts, directory });
  const graders = graderRoutes({ ...parts, directory });
  const webhook = webhookRoutes({ ...parts, ...settings });
  const batch = batchRoutes({
    ...parts,
    endpoints: () => BATCH_ENDPOINTS.filter((url) => routes[url]?.POST !== undefined),
  });
  const lineage = lineageRoutes({ ...parts, directory, createJob: jobs.createJob });
  const alias = aliasRoutes({ ...parts, directory });
  const permission = checkpointPermissionRoutes(parts);
  const preflight = preflightRoutes({ ...parts, resolveJob: jobs.resolveJob });
  const key = keyRoutes({ ...parts, ...settings });
  const documentation = documentationRoutes(settings);

  const routes: RouteTable = {
    "/healthz": { GET: async () => ({ status: stopping.aborted ? "stopping" : "ok" }) },
    "/v1/files": { POST: files.create, GET: files.list },
    "/v1/files/:file": { GET: files.retrieve, DELETE: files.delete },
    "/v1/files/:file/content": { GET: files.content },
    "/v1/uploads": { POST: upload.create },
    "/v1/uploads/:upload/parts": { POST: upload.addPart },
    "/v1/uploads/:upload/complete": { POST: upload.complete },
    "/v1/uploads/:upload/cancel": { POST: upload.cancel },
    "/v1/fine_tuning/jobs": { POST: jobs.create, GET: jobs.list },
    "/v1/fine_tuning/jobs/:job": { GET: jobs.retrieve },
    "/v1/fine_tuning/jobs/:job/cancel": { POST: jobs.cancel },
    "/v1/fine_tuning/jobs/:job/pause": { POST: jobs.pause },
    "/v1/fine_tuning/jobs/:job/resume": { POST: jobs.resume },
    "/v1/fine_tuning/jobs/:job/events": { GET: jobs.events },
    "/v1/fine_tuning/jobs/:job/checkpoints": { GET: jobs.checkpoints },
    "/v1/fine_tuning/alpha/graders/validate": { POST: graders.validate },
    "/v1/fine_tuning/alpha/graders/run": { POST: graders.run },
    "/v1/fine_tuning/checkpoints/:checkpoint/permissions": { POST: permission.create, GET: permission.list },
    "/v1/fine_tuning/checkpoints/:checkpoint/permissions/:permission": { DELETE: permission.delete },
    "/v1/models": { GET: model.list },
    "/v1/models/:model": { GET: model.retrieve, DELETE: model.delete },
    "/v1/chat/completions": { POST: chat.create, GET: stored.list },
    "/v1/chat/completions/:completion": { GET: stored.retrieve, POST: stored.update, DELETE: stored.delete },
    "/v1/chat/completions/:completion/messages": { GET: stored.messages },
    "/v1/completions": { POST: completions.create },
    "/v1/responses": { POST: response.create },
    "/v1/responses/input_tokens": { POST: response.countTokens },
    "/v1/responses/:response": { GET: response.retrieve, DELETE: response.delete },
    "/v1/responses/:response/cancel": { POST: response.cancel },
    "/v1/responses/:response/input_items": { GET: response.inputItems },
    "/v1/embeddings": { POST: embeddings.create },
    "/v1/batches": { POST: batch.create, GET: batch.list },
    "/v1/batches/:batch": { GET: batch.retrieve },
    "/v1/batches/:batch/cancel": { POST: batch.cancel },
    "/tunesmith/preflight": { POST: preflight.run },
    "/tunesmith/models/import": { POST: imported.create },
    "/tunesmith/models/:model": { GET: lineage.show },
    "/tunesmith/models/:model/rebase": { POST: lineage.rebase },
    "/tunesmith/models/:model/export": { GET: exported.create },
    "/tunesmith/aliases": { GET: alias.list },
    "/tunesmith/aliases/:alias": { POST: alias.set, GET: alias.retrieve, DELETE: alias.delete },
    "/tunesmith/aliases/:alias/rollback": { POST: alias.rollBack },
    "/tunesmith/aliases/:alias/candidate": { POST: alias.setCandidate, DELETE: alias.removeCandidate },
    "/tunesmith/aliases/:alias/moves": { GET: alias.moves },
    "/tunesmith/aliases/:alias/comparisons": { GET: alias.comparisons },
    "/tunesmith/webhooks": { POST: webhook.create, GET: webhook.list },
    "/tunesmith/webhooks/:webhook": { DELETE: webhook.delete },
    "/tunesmith/projects": { POST: key.createProject, GET: key.listProjects },
    "/tunesmith/keys": { POST: key.create, GET: key.list },
    "/tunesmith/keys/:key": { DELETE: key.delete },
    "/openapi.json": { GET: documentation.document },
    "/docs": { GET: documentation.page },
  };

  const app = createFastify(parts.logger, settings);
  await app.register(multipart);
  app.decorateRequest("project", DEFAULT_PROJECT);
  app.decorateRequest("caller");
  allowOrigins(app, settings.corsOrigins);
  addHooks(app, settings, createAuthentication({ ...parts, ...settings }), parts);
  // While the database is still there.
  app.addHook("preClose", async () => void (await Promise.all([background.close(), shadows.close()])));
  addRateLimits(app, parts.now);
  addErrors(app);
  for (const [url, methods] of Object.entries(routes)) addRoute(app, url, methods, once);
  addNotOffered(app);
  const routesWithHandlers = Object.entries(routes).flatMap(([url, methods]) =>
    Object.keys(methods).map((method) => ({ method, url })),
  );
  return app.decorate("routesWithHandlers", routesWithHandlers);
}

/** A route that receives a form or an archive calls `once` itself, when it knows what has arrived. */
function createdOnce(handler: Handler, url: string, once: Once): Handler {
  return async (request, reply) => {
    if (request.isMultipart() || isArchive(request) || !isCreation(url, request.body))
      return handler(request, reply);
    const create = async () => (await handler(request, reply)) as object;
    return once(request, reply, { content: request.body, create });
  };
}

/** The framework makes HEAD from GET. */
const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const;

/** Registers an address with its methods; every other method answers 405 in the envelope. */
function addRoute(app: FastifyInstance, url: string, methods: RouteTable[string], once: Once): void {
  const allowed = Object.keys(methods);
  for (const method of METHODS) {
    const handler = method in methods ? methods[method as Method] : undefined;
    app.route({
      method,
      url,
      config: {
        scope: handler === undefined ? null : scopeOf(method, url),
        open: operationAt("GET", url)?.open,
        operation: handler === undefined ? null : operationAt(method, url),
      },
      handler:
        (handler !== undefined && mayCreate(method, url) ? createdOnce(handler, url, once) : handler) ??
        (async (request, reply) => {
          void reply.header("allow", allowed.join(", "));
          send(reply, wrongMethod(request.method, allowed));
          return reply;
        }),
    });
  }
}

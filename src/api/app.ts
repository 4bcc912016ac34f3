// The HTTP application: the route table, and what holds for every request: ids, authentication, headers and errors. Handlers
// parse with wire, call a room, print with wire; nothing else.
import type { Socket } from "node:net";
import multipart from "@fastify/multipart";
import fastify from "fastify";
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { InvalidRequest, Unavailable } from "../errors.ts";
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
import { DEFAULT_PROJECT, newId } from "../wire/ids.ts";
import { noQuery } from "../wire/list.ts";
import { operationAt } from "../wire/operations.ts";
import { parseRequest } from "../wire/validation.ts";
import { aliasRoutes } from "./aliases.ts";
import { createAuthentication, isOpen } from "./authentication.ts";
import type { Authenticate } from "./authentication.ts";
import { BackgroundResponses } from "./background-responses.ts";
import { batchRoutes } from "./batches.ts";
import { chatRoutes } from "./chat.ts";
import { completionRoutes } from "./completions.ts";
import { checkContentEncoding } from "./content-encoding.ts";
import { allowOrigins } from "./cross-origin.ts";
import { documentationRoutes } from "./documentation.ts";
import { embeddingRoutes } from "./embeddings.ts";
import { answerConnectionError, answerRefusals } from "./connection-errors.ts";
import { errorAnswer, unknownUrl, wrongMethod } from "./error-answers.ts";
import type { ErrorAnswer } from "./error-answers.ts";
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
import { isArchive, readBodies, refuseUnusedBody } from "./request-bodies.ts";
import { ShadowCopies } from "./shadow-copies.ts";
import { uploadRoutes } from "./uploads.ts";
import { storedCompletionRoutes } from "./stored-completions.ts";
import { responseRoutes } from "./responses.ts";
import { webhookRoutes } from "./webhooks.ts";
import { BATCH_RESERVE, RateLimits } from "./rate-limits.ts";
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

/** Of the protocol, as OpenAI's answers say it. */
const OPENAI_VERSION = "2020-10-01";

/** The longest path parameter: a model name with the longest suffix, slug and checkpoint, percent-encoded, and some. */
const MAX_PARAM_LENGTH = 1000;

function createFastify(
  logger: FastifyBaseLogger,
  { maxBodyBytes, organization }: Pick<AppSettings, "maxBodyBytes" | "organization">,
): FastifyInstance {
  const headers = { "openai-version": OPENAI_VERSION, "openai-organization": organization };
  const app = fastify({
    loggerInstance: logger,
    // Node's own refusal has neither envelope nor id; requireHost refuses in its place.
    http: { requireHostHeader: false },
    bodyLimit: maxBodyBytes,
    // It bounds closing, too, and would end the grace that background responses get; that one is bounded by its own setting.
    pluginTimeout: 0,
    genReqId: () => newId("request"),
    // Only the ids made here count: a client's own comes in X-Client-Request-Id and is logged beside it.
    requestIdHeader: false,
    routerOptions: {
      ignoreTrailingSlash: true,
      ignoreDuplicateSlashes: true,
      maxParamLength: MAX_PARAM_LENGTH,
    },
    // Requests that come while the server stops are refused in the envelope, by the hook below.
    return503OnClosing: false,
    frameworkErrors: (error, request, reply) => {
      addCommonHeaders(request, reply);
      send(reply, errorAnswer(error, request.id));
    },
    clientErrorHandler: (error, socket) => answerConnectionError(error, socket, { logger, headers }),
  });
  answerRefusals(app.server, { logger, headers });
  readBodies(app);
  return app;
}

/** As HTTP/1.1 has it (RFC 9112, section 3.2). */
function requireHost({ raw }: FastifyRequest): void {
  if (raw.httpVersion === "1.1" && raw.headers.host === undefined)
    throw new InvalidRequest("HTTP/1.1 requests must have the header 'Host', found none. Send it.");
}

function addHooks(
  app: FastifyInstance,
  settings: AppSettings,
  authenticate: Authenticate,
  { ownRequests, keys }: Pick<AppParts, "ownRequests" | "keys">,
): void {
  let isClosing = false;
  const connections = new Set<Socket>();
  app.server.on("connection", (socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
  });
  app.addHook("preClose", async () => {
    isClosing = true;
    // Browsers and Node's fetch open connections in advance. Node counts one that never asked anything as busy, and would
    // wait for it until the grace is over.
    for (const socket of connections) if (socket.bytesRead === 0) socket.destroy();
  });
  app.addHook("onRequest", async (request, reply) => {
    addCommonHeaders(request, reply);
    void reply.header("openai-organization", settings.organization);
    if (isClosing) {
      void reply.header("connection", "close");
      throw new Unavailable("The server is stopping. Send the request again in a moment.");
    }
    requireHost(request);
    const own = ownRequests.originOf(request);
    if (own !== null) {
      request.project = own.project;
      const key = own.keyId === null ? null : await keys.get(own.keyId);
      if (key !== null) request.caller = { key, scopes: [], isBatch: true };
    } else if (!isOpen(request)) {
      await authenticate(request);
      void reply.header("openai-project", request.project);
    }
    checkClientRequestId(request);
    checkContentEncoding(request, reply);
  });
  // Operations with a query or a body check it themselves.
  app.addHook("preValidation", async (request) => {
    const operation = request.routeOptions.config.operation ?? null;
    if (operation !== null && operation.query === undefined) parseRequest(noQuery, request.query);
    refuseUnusedBody(request);
  });
  app.addHook("onResponse", async ({ raw: { socket } }) => {
    // A client would keep it for its next request, and the server would wait for that.
    if (isClosing && connections.has(socket)) socket.end();
  });
  app.addHook("onSend", async (_request, reply) => {
    if (isClosing) void reply.header("connection", "close");
    void reply.header("openai-processing-ms", Math.round(reply.elapsedTime));
  });
}

/** After authentication: only a key has limits. */
function addRateLimits(app: FastifyInstance, now: () => number): void {
  const limits = new RateLimits(now);
  app.decorateRequest("spendTokens", function (this: FastifyRequest, count: number) {
    const key = this.caller?.key ?? null;
    if (key !== null) limits.spendTokens(key, count);
  });
  app.addHook("onRequest", async ({ caller }) => {
    const key = caller?.key ?? null;
    if (key !== null) limits.admit(key, caller?.isBatch === true ? BATCH_RESERVE : 0);
  });
  app.addHook("onSend", async ({ caller }, reply) => {
    const key = caller?.key ?? null;
    if (key !== null) void reply.headers(limits.headers(key));
  });
}

function addCommonHeaders(request: FastifyRequest, reply: FastifyReply): void {
  void reply.header("x-request-id", request.id).header("openai-version", OPENAI_VERSION);
}

/** Clients may name their requests, to find them in logs. */
function checkClientRequestId(request: FastifyRequest): void {
  const id = request.headers["x-client-request-id"];
  if (id === undefined) return;
  if (typeof id !== "string" || id.length > 512 || !/^[\x20-\x7e]*$/.test(id)) {
    throw new InvalidRequest("Invalid 'X-Client-Request-Id': expected at most 512 ASCII characters.", {
      code: "invalid_value",
    });
  }
  request.log.info({ clientRequestId: id }, "Named by the client");
}

function addErrors(app: FastifyInstance): void {
  app.setErrorHandler((error, request, reply) => {
    const answer = errorAnswer(error, request.id);
    if (answer.isBug) request.log.error({ err: error }, "A request failed by a fault of the server");
    send(reply, answer);
  });
  app.setNotFoundHandler((request, reply) => send(reply, unknownUrl(request.method, request.url)));
}

function send(reply: FastifyReply, answer: ErrorAnswer): void {
  if (answer.retryAfterSeconds !== undefined) void reply.header("retry-after", answer.retryAfterSeconds);
  void reply
    .code(answer.status)
    .header("x-should-retry", String(answer.retry))
    .type("application/json; charset=utf-8")
    .send(answer.body);
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

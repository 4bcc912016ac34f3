// The composition root: builds every room from the configuration and wires them. With the folder of its name, the only code that
// knows all rooms; it holds wiring, start and stop, and no logic of any room.
import { availableParallelism } from "node:os";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { FastifyBaseLogger, FastifyInstance } from "fastify";
import { pino } from "pino";
import { createApp } from "./api/app.ts";
import type { GraderMeans } from "./api/graders.ts";
import type { BaseModelCatalogue } from "./api/model-directory.ts";
import type { RunExport } from "./api/model-export.ts";
import type { ModelImporter } from "./api/model-import.ts";
import { OwnRequests } from "./api/own-requests.ts";
import { checkExposure, loadConfig, packageVersion, unknownVariables } from "./config.ts";
import type { Config } from "./config.ts";
import { messageOf } from "./errors.ts";
import { PythonGraders } from "./evals/python-graders.ts";
import { openWordNet } from "./evals/wordnet.ts";
import type { Dispatch } from "./jobs/dispatch.ts";
import { preflightElsewhere } from "./jobs/preflight-process.ts";
import { createWebhookDelivery } from "./jobs/webhook-delivery.ts";
import { createWebhookSender } from "./jobs/webhook-request.ts";
import type { Worker } from "./jobs/worker.ts";
import { baseModelCatalogue, checkAliases, embeddingCatalogue, localModel } from "./main/base-models.ts";
import { createRunExport, exportsDirectory } from "./main/export-model.ts";
import { createImporter, sweepImports } from "./main/import-model.ts";
import { asListeningError } from "./main/listening.ts";
import { createBatchWorkers, createJobWorker } from "./main/workers.ts";
import type { WorkerParts } from "./main/workers.ts";
import { EncoderEngine } from "./serving/embedding-engine.ts";
import type { EmbeddingEngine } from "./serving/embedding-engine.ts";
import { EmbeddedEngine } from "./serving/embedded-engine.ts";
import type { ChatEngine } from "./serving/engine.ts";
import { AliasComparisonStore } from "./store/alias-comparisons.ts";
import { AliasStore } from "./store/aliases.ts";
import { BatchQueue } from "./store/batch-queue.ts";
import { BatchStore } from "./store/batches.ts";
import { ApiKeyStore } from "./store/api-keys.ts";
import { BlobStore } from "./store/blobs.ts";
import type { BlobStoreOptions } from "./store/blobs.ts";
import { ChatCompletionStore } from "./store/chat-completions.ts";
import { CheckpointPermissionStore } from "./store/checkpoint-permissions.ts";
import { openDatabase } from "./store/database.ts";
import type { Database } from "./store/database.ts";
import { FileStore } from "./store/files.ts";
import { FineTuningQueue } from "./store/fine-tuning-queue.ts";
import { FineTuningStore } from "./store/fine-tuning.ts";
import { lockHome } from "./store/home-lock.ts";
import type { HomeLock } from "./store/home-lock.ts";
import { IdempotencyStore } from "./store/idempotency.ts";
import { ModelExportStore } from "./store/model-exports.ts";
import { ModelStore } from "./store/models.ts";
import { sweepBlobs } from "./store/sweep.ts";
import { UploadStore } from "./store/uploads.ts";
import { ResponseStore } from "./store/responses.ts";
import { WebhookStore } from "./store/webhooks.ts";
import { ProjectStore } from "./store/projects.ts";

/** Rooms that tests, or another deployment, bring along. */
export interface ServerOverrides {
  engine?: ChatEngine;
  catalogue?: BaseModelCatalogue;
  embeddingEngine?: EmbeddingEngine;
  embeddingCatalogue?: BaseModelCatalogue;
  graders?: GraderMeans;
  runExport?: RunExport;
  importer?: ModelImporter;
  /** Null: this process answers requests only, another one works on jobs. */
  createWorker?: ((parts: WorkerParts) => Worker) | null;
  /** Whether this process works on batches; left out: unless it only answers requests. */
  runsBatches?: boolean;
  openBlobWriter?: BlobStoreOptions["openWriter"];
  logger?: FastifyBaseLogger;
  now?: () => number;
}

export interface Server {
  app: FastifyInstance;
  /** What the API and the worker share; for tests that play the worker. */
  stores: {
    files: FileStore;
    blobs: BlobStore;
    uploads: UploadStore;
    partBlobs: BlobStore;
    jobs: FineTuningStore;
    queue: FineTuningQueue;
    models: ModelStore;
    aliases: AliasStore;
    comparisons: AliasComparisonStore;
    exported: ModelExportStore;
    batches: BatchStore;
    batchQueue: BatchQueue;
    webhooks: WebhookStore;
    projects: ProjectStore;
    keys: ApiKeyStore;
    permissions: CheckpointPermissionStore;
    idempotency: IdempotencyStore;
    chatCompletions: ChatCompletionStore;
    responses: ResponseStore;
  };
  /** Starts the worker and listens. Resolves to the address, e.g. http://127.0.0.1:8080. */
  listen(): Promise<string>;
  /** Takes no more requests, lets those in flight finish within the grace, stops the worker, closes the database, frees the home folder. */
  stop(): Promise<void>;
}

/** How often blobs of expired files and uploads, old chat completions and old responses are removed. */
const SWEEP_INTERVAL_MS = 60 * 60 * 1000;

/** Why a response that ran in the background has no answer. */
const SERVER_ENDED = {
  code: "server_error",
  message: "The server ended before the answer was complete. Send the request again.",
};

/**
 * Builds a server that does not listen yet. It has its home folder to itself until it is stopped. Throws Conflict when another
 * server has it.
 */
export async function createServer(config: Config, overrides: ServerOverrides = {}): Promise<Server> {
  const logger = overrides.logger ?? createLogger(config);
  checkAliases(config, logger);
  const lock = await lockHome(config.homeDirectory);
  try {
    return await buildServer(config, overrides, logger, lock);
  } catch (error) {
    await lock.release();
    throw error;
  }
}

async function buildServer(
  config: Config,
  overrides: ServerOverrides,
  logger: FastifyBaseLogger,
  lock: HomeLock,
): Promise<Server> {
  const database = await openDatabase(join(config.homeDirectory, "tunesmith.db"));
  try {
    return await wireServer(config, overrides, logger, lock, database);
  } catch (error) {
    await database.destroy();
    throw error;
  }
}

async function wireServer(
  config: Config,
  overrides: ServerOverrides,
  logger: FastifyBaseLogger,
  lock: HomeLock,
  database: Database,
): Promise<Server> {
  const { now = Date.now } = overrides;
  const openWriter = overrides.openBlobWriter === undefined ? {} : { openWriter: overrides.openBlobWriter };
  const stores = {
    files: new FileStore(database, now),
    blobs: new BlobStore({ directory: join(config.homeDirectory, "files"), ...openWriter }),
    uploads: new UploadStore(database, now),
    partBlobs: new BlobStore({
      directory: join(config.homeDirectory, "uploads"),
      kind: "uploadPart",
      ...openWriter,
    }),
    jobs: new FineTuningStore(database, now),
    queue: new FineTuningQueue(database, now),
    models: new ModelStore(database, config.homeDirectory, now),
    aliases: new AliasStore(database, now),
    comparisons: new AliasComparisonStore(database, now),
    exported: new ModelExportStore(database, now),
    batches: new BatchStore(database, now),
    batchQueue: new BatchQueue(database, now),
    webhooks: new WebhookStore(database, now),
    projects: new ProjectStore(database, now),
    keys: new ApiKeyStore(database, now),
    permissions: new CheckpointPermissionStore(database, now),
    idempotency: new IdempotencyStore(database, now),
    chatCompletions: new ChatCompletionStore(database, now),
    responses: new ResponseStore(database, now),
  };
  // The home folder is this process's own: whoever worked on them is gone.
  await stores.responses.failUnfinished(SERVER_ENDED);
  checkExposure(config, await stores.keys.any());
  const threads = config.threads === 0 ? availableParallelism() : config.threads;
  // Nobody can ask any more for the exports of a server that was killed.
  await rm(exportsDirectory(config.homeDirectory), { recursive: true, force: true });
  await sweepImports(config.homeDirectory, stores.models);
  const catalogue = overrides.catalogue ?? baseModelCatalogue(config);
  const engine = overrides.engine ?? new EmbeddedEngine({ threads, queueTimeoutMs: config.queueTimeoutMs });
  const embeddingEngine = overrides.embeddingEngine ?? new EncoderEngine({ threads });
  const workerOf = overrides.createWorker === undefined ? createJobWorker : overrides.createWorker;
  const worker = workerOf?.({ ...stores, config, threads, logger }) ?? null;
  const stopping = new AbortController();
  const ownRequests = new OwnRequests();
  const batchWorkers: Worker[] = [];
  const app = await createApp(
    {
      ...stores,
      engine,
      catalogue,
      embeddingEngine,
      embeddingCatalogue: overrides.embeddingCatalogue ?? embeddingCatalogue(config),
      graders: overrides.graders ?? (await graderMeans(config)),
      runPreflight: async ({ baseModel, signal, ...job }) =>
        preflightElsewhere(
          {
            ...job,
            baseModel: await localModel(config, baseModel, signal),
            threads,
            memoryBytes: config.trainingMemoryBytes,
            jobsAtOnce: config.maxConcurrentJobs,
            measure: false,
          },
          signal,
        ),
      runExport:
        overrides.runExport ?? createRunExport({ homeDirectory: config.homeDirectory, threads, catalogue }),
      importer: overrides.importer ?? createImporter(config),
      now,
      onJobsChanged: () => worker?.wake(),
      onBatchesChanged: () => batchWorkers.forEach((each) => each.wake()),
      ownRequests,
      stopping: stopping.signal,
      logger,
    },
    { ...config, version: packageVersion() },
  );
  if (overrides.runsBatches ?? worker !== null) {
    const dispatch: Dispatch = (request) => ownRequests.send(app, request);
    batchWorkers.push(...createBatchWorkers({ ...stores, config, dispatch, logger }));
  }
  const send = createWebhookSender(config.webhookPrivateHosts);
  const workers = [
    ...(worker === null ? [] : [worker]),
    ...batchWorkers,
    createWebhookDelivery({ webhooks: stores.webhooks, send, logger }),
  ];

  const sweeps: readonly [what: string, run: () => Promise<unknown>][] = [
    ["blobs", () => sweepBlobs(stores, now())],
    ["chat completions", () => stores.chatCompletions.sweep()],
    ["responses", () => stores.responses.sweep()],
    ["idempotency keys", () => stores.idempotency.sweep()],
  ];
  const sweep = () =>
    Promise.all(
      sweeps.map(([what, run]) =>
        run().catch((error: unknown) =>
          logger.warn({ error: messageOf(error) }, `Could not remove old ${what}`),
        ),
      ),
    );
  let sweeper: NodeJS.Timeout | undefined;
  let stopped: Promise<void> | null = null;

  return {
    app,
    stores,
    async listen() {
      const { host, port } = config;
      const url = await app.listen({ host, port }).catch((error: unknown) => {
        throw asListeningError(error, { host, port });
      });
      for (const each of workers) each.start();
      await sweep();
      sweeper = setInterval(() => void sweep(), SWEEP_INTERVAL_MS).unref();
      return url;
    },
    stop() {
      stopped ??= (async () => {
        clearInterval(sweeper);
        const cutOff = setTimeout(() => {
          stopping.abort();
          // What still hangs now is a client that does not read.
          setTimeout(() => app.server.closeAllConnections(), LAST_WORDS_MS).unref();
        }, config.shutdownGraceMs);
        const rooms: readonly Promise<unknown>[] = [
          app.close().finally(() => clearTimeout(cutOff)),
          ...workers.map((each) => each.stop()),
        ];
        // Whatever fails: both have ended before the database goes, and the lock goes last.
        await Promise.allSettled(rooms);
        stopping.abort();
        try {
          await Promise.all([engine.close(), embeddingEngine.close()]);
        } finally {
          try {
            await database.destroy();
          } finally {
            await lock.release();
          }
        }
        await Promise.all(rooms);
        logger.info({}, "Stopped");
      })();
      return stopped;
    },
  };
}

/** Time for streams that were cut off to send their error event. */
const LAST_WORDS_MS = 500;

export interface RunningServer {
  /** Without /v1. */
  url: string;
  stop(): Promise<void>;
}

/** Reads the settings, builds the server and listens; stopping on signals is the caller's. */
export async function startServer(
  options: Partial<Config> = {},
  overrides: ServerOverrides = {},
): Promise<RunningServer> {
  const config = loadConfig(options);
  const logger = overrides.logger ?? createLogger(config);
  for (const variable of unknownVariables()) {
    logger.warn({ variable }, "This variable looks like a setting but is none");
  }
  const server = await createServer(config, { ...overrides, logger });
  try {
    const url = await server.listen();
    return { url, stop: () => server.stop() };
  } catch (error) {
    await server.stop();
    throw error;
  }
}

/** What graders may use. Throws InvalidRequest when the folder of WordNet is none. */
async function graderMeans(config: Config): Promise<GraderMeans> {
  const { pythonGraders: mode, pythonInterpreter: interpreter, wordNetDirectory } = config;
  return {
    python: mode === "off" ? null : new PythonGraders({ mode, interpreter }),
    synonyms: wordNetDirectory === null ? null : await openWordNet(wordNetDirectory),
  };
}

/** Logs go to standard error: standard output belongs to the command line. */
function createLogger(config: Config): FastifyBaseLogger {
  return pino(
    {
      level: config.logLevel,
      redact: ["headers.authorization", "*.headers.authorization", "authorization", "*.apiKeys", "apiKeys"],
    },
    pino.destination(2),
  );
}

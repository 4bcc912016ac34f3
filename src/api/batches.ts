// /v1/batches: creating, reading and cancelling batches. It writes the row and wakes whoever works on batches; how lines are run
// it does not know.
import type { FastifyRequest } from "fastify";
import { InvalidRequest, NotFound } from "../errors.ts";
import type { Batch, BatchStore } from "../store/batches.ts";
import type { FileStore } from "../store/files.ts";
import { BATCH_OUTPUT_TTL_SECONDS, createBatchRequest, listBatchesQuery } from "../wire/batches.ts";
import type { BatchObject } from "../wire/batches.ts";
import { listWithIds } from "../wire/list.ts";
import type { ListWithIds } from "../wire/list.ts";
import { parseRequest } from "../wire/validation.ts";

export function batchRoutes(parts: {
  batches: BatchStore;
  files: FileStore;
  /** The endpoints of batches that this server has. */
  endpoints: () => readonly string[];
  /** Called after a batch was created or cancelled, so that nobody has to wait for a poll. */
  onBatchesChanged: () => void;
}) {
  const { batches, files, onBatchesChanged } = parts;
  let createRequest: ReturnType<typeof createBatchRequest> | null = null;

  async function checkInputFile(projectId: string, id: string): Promise<void> {
    const param = "input_file_id";
    const file = await files.get(projectId, id);
    if (file === null) throw new InvalidRequest(`Invalid '${param}': no such File object: ${id}`, { param });
    if (file.purpose !== "batch") {
      throw new InvalidRequest(
        `Invalid '${param}': ${id} was uploaded with purpose '${file.purpose}'. Upload it with purpose 'batch'.`,
        { param },
      );
    }
  }

  return {
    create: async (request: FastifyRequest): Promise<BatchObject> => {
      createRequest ??= createBatchRequest(parts.endpoints());
      const body = parseRequest(createRequest, request.body);
      await checkInputFile(request.project, body.input_file_id);
      const batch = await batches.create({
        projectId: request.project,
        endpoint: body.endpoint,
        inputFileId: body.input_file_id,
        keyId: request.caller?.key?.id ?? null,
        outputTtlSeconds: body.output_expires_after?.seconds ?? BATCH_OUTPUT_TTL_SECONDS,
        metadata: body.metadata ?? null,
      });
      onBatchesChanged();
      return toBatchObject(batch);
    },

    list: async (request: FastifyRequest): Promise<ListWithIds<BatchObject>> => {
      const query = parseRequest(listBatchesQuery, request.query);
      const page = await batches.list(request.project, query);
      return listWithIds(page.data.map(toBatchObject), page.hasMore);
    },

    retrieve: async (request: FastifyRequest): Promise<BatchObject> => {
      const id = batchId(request);
      const batch = await batches.get(request.project, id);
      if (batch === null) throw unknownBatch(id);
      return toBatchObject(batch);
    },

    cancel: async (request: FastifyRequest): Promise<BatchObject> => {
      const id = batchId(request);
      const batch = await batches.cancel(request.project, id);
      if (batch === null) throw unknownBatch(id);
      onBatchesChanged();
      return toBatchObject(batch);
    },
  };
}

const batchId = (request: FastifyRequest): string => (request.params as { batch: string }).batch;

function toBatchObject(batch: Batch): BatchObject {
  return {
    id: batch.id,
    object: "batch",
    endpoint: batch.endpoint,
    model: batch.model,
    errors: batch.errors === null ? null : { object: "list", data: batch.errors },
    input_file_id: batch.inputFileId,
    completion_window: "24h",
    status: batch.status,
    output_file_id: batch.outputFileId,
    error_file_id: batch.errorFileId,
    created_at: batch.createdAt,
    in_progress_at: batch.inProgressAt,
    expires_at: batch.expiresAt,
    finalizing_at: batch.finalizingAt,
    completed_at: batch.completedAt,
    failed_at: batch.failedAt,
    expired_at: batch.expiredAt,
    cancelling_at: batch.cancellingAt,
    cancelled_at: batch.cancelledAt,
    request_counts: batch.requestCounts,
    usage: batch.usage,
    metadata: batch.metadata,
  };
}

function unknownBatch(id: string): NotFound {
  return new NotFound(`No batch found with id '${id}'.`);
}

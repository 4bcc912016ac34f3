// GET /tunesmith/models/{model}/export: a fine-tuned model's files as a tar archive, once they were compared with the model that was
// trained. The work itself is passed in.
import type { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { InvalidRequest, Unavailable } from "../errors.ts";
import { packFolder } from "../export/archive.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { FileStore } from "../store/files.ts";
import type { FineTuningStore } from "../store/fine-tuning.ts";
import type { ModelExportStore } from "../store/model-exports.ts";
import type { Model, ModelStore } from "../store/models.ts";
import { EXPORT_PRECISIONS, exportQuery, precisionOf } from "../wire/export.ts";
import type { ExportFormat, ExportPrecision } from "../wire/export.ts";
import type { JobMethod } from "../wire/fine-tuning.ts";
import { parseRequest } from "../wire/validation.ts";
import { callerName } from "./authentication.ts";
import { whenClientLeaves } from "./chat.ts";
import { attachment } from "./files.ts";
import type { ModelDirectory } from "./model-directory.ts";
import { ownModel } from "./models.ts";

/** What is to be exported, resolved to what lies on disk. */
export interface ExportJob {
  model: Model;
  format: ExportFormat;
  precision: ExportPrecision | null;
  /** The job's data that is still there, for prompts. */
  promptFiles: { kind: "validation_file" | "training_file"; path: string; method: JobMethod }[];
  signal: AbortSignal;
}

/** Makes the files; whoever asked removes them. Throws as export/export-model does. */
export type RunExport = (job: ExportJob) => Promise<{ directory: string; remove: () => Promise<void> }>;

/** Each loads a base model and may take as much disk as it; a second one would only make both slower. */
const MAX_EXPORTS = 1;

export function exportRoutes(parts: {
  runExport: RunExport;
  models: ModelStore;
  jobs: FineTuningStore;
  files: FileStore;
  blobs: BlobStore;
  directory: ModelDirectory;
  exported: ModelExportStore;
  stopping: AbortSignal;
}) {
  const { jobs, files, blobs } = parts;
  let running = 0;

  async function promptFiles(model: Model): Promise<ExportJob["promptFiles"]> {
    const job = model.jobId === null ? null : await jobs.get(model.projectId, model.jobId);
    if (job === null) return [];
    const found: ExportJob["promptFiles"] = [];
    for (const [kind, id] of [
      ["validation_file", job.validationFileId],
      ["training_file", job.trainingFileId],
    ] as const) {
      if (id === null || (await files.get(model.projectId, id)) === null) continue;
      found.push({ kind, path: blobs.path(id), method: job.method });
    }
    return found;
  }

  return {
    /** Weights are handed out to the project that trained them; a permission to use a model is none to take it away. */
    create: async (request: FastifyRequest, reply: FastifyReply): Promise<Readable | string> => {
      const { format, precision: wanted } = parseRequest(exportQuery, request.query);
      const precision = precisionOf(format, wanted);
      if (precision === undefined) throw wrongPrecision(format, wanted);
      const model = await ownModel(request, parts);
      const name = `${model.id.replaceAll(/[^\w.-]+/g, "-")}-${format}${precision === null ? "" : `-${precision}`}.tar`;
      const announce = () =>
        void reply.type("application/x-tar").header("content-disposition", attachment(name));
      // What a client may want to know beforehand is not worth the work.
      if (request.method === "HEAD") {
        announce();
        return "";
      }
      if (running >= MAX_EXPORTS)
        throw new Unavailable(
          `This server makes ${MAX_EXPORTS} export at a time and is at it. Send the request again in a minute.`,
        );
      running += 1;
      const end = (): void => void (running -= 1);
      try {
        const signal = AbortSignal.any([parts.stopping, whenClientLeaves(reply)]);
        const made = await parts.runExport({
          model,
          format,
          precision,
          promptFiles: await promptFiles(model),
          signal,
        });
        // Who may have the weights now is part of the model's story; without room on the disk to write it down, they stay here.
        await parts.exported.add(model.id, { format, precision, by: callerName(request) });
        announce();
        const archive = packFolder(made.directory);
        archive.once("close", () => void made.remove().finally(end));
        return archive;
      } catch (error) {
        end();
        throw error;
      }
    },
  };
}

function wrongPrecision(format: ExportFormat, wanted: ExportPrecision | undefined): InvalidRequest {
  const possible: readonly string[] = EXPORT_PRECISIONS[format];
  const expected =
    possible.length === 0
      ? `the format ${format} stores the adapter as it was trained, so leave it out`
      : `the format ${format} takes ${possible.join(", ")}`;
  return new InvalidRequest(`Invalid 'precision': ${expected}, but got '${wanted}'.`, {
    code: "invalid_value",
    param: "precision",
  });
}

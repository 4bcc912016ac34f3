// POST /tunesmith/models/import: a tar archive of a model's files becomes a model. An adapter belongs to the project, a whole model to
// the server. How files are checked and where they lie is passed in.
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { Conflict, InvalidRequest, Unavailable } from "../errors.ts";
import { unpackInto } from "../export/archive.ts";
import { FILE_TOO_LARGE } from "../store/blobs.ts";
import type { ModelStore } from "../store/models.ts";
import { BASE_MODEL_NAME, importQuery } from "../wire/import.ts";
import type { ImportedModel, ImportFormat } from "../wire/import.ts";
import { newModelName, parseModelName } from "../wire/model-names.ts";
import { parseRequest } from "../wire/validation.ts";
import { whenClientLeaves } from "./chat.ts";
import { Forbidden } from "./error-answers.ts";
import type { Once } from "./idempotency.ts";
import type { BaseModelCatalogue, ModelDirectory, ResolvedBase } from "./model-directory.ts";
import { isArchive } from "./request-bodies.ts";
import { keptUnlessRefused } from "./upload.ts";

/** The files of one import on their way. Every step throws what the files or the disk are at fault for. */
export interface ImportFolder {
  /** Where they are unpacked; empty at first. */
  received: string;
  contents(signal: AbortSignal): Promise<{
    kind: ImportedModel["kind"];
    format: ImportFormat;
    baseNames: string[];
    certificate: ImportedModel["certificate"];
    files: number;
    bytes: number;
  }>;
  checkAdapter(
    format: ImportFormat,
    base: { id: string; path: string },
    signal: AbortSignal,
  ): Promise<{ lora: { rank: number; alpha: number; dropout: number; targetModules: readonly string[] } }>;
  checkModel(format: ImportFormat, signal: AbortSignal): Promise<null>;
  /** Gives a checked adapter its place, relative to the home folder. */
  keepAdapter(): Promise<{ adapterDirectory: string; discard: () => Promise<void> }>;
  /** Gives a checked model its place: from then on it is a base model of this name. Throws Conflict where there is one. */
  keepModel(name: string): Promise<void>;
  /** Whatever is not kept. */
  remove(): Promise<void>;
}

export interface ModelImporter {
  begin(): Promise<ImportFolder>;
}

/** Each may take as much disk and memory as its model; a second one would only make both slower. */
const MAX_IMPORTS = 1;
/** An adapter of the largest rank on every layer of a model of 8B has 2.7 GB as f32. */
const MAX_ADAPTER_BYTES = 4 * 2 ** 30;
/** A whole model, from an administrator: more than any that trains on one machine. */
const MAX_MODEL_BYTES = 256 * 2 ** 30;

export function importRoutes(parts: {
  importer: ModelImporter;
  models: ModelStore;
  catalogue: BaseModelCatalogue;
  directory: ModelDirectory;
  organization: string;
  once: Once;
  stopping: AbortSignal;
  /** Milliseconds since 1970. */
  now: () => number;
}) {
  const { importer, models, catalogue, directory, organization, once } = parts;
  let running = 0;

  /** The base model here that an adapter is for. Throws InvalidRequest where none of the names is known. */
  function baseOf(asked: string | undefined, named: readonly string[]): ResolvedBase {
    for (const name of asked === undefined ? named : [asked]) {
      const known = directory.resolveBase(name) ?? directory.resolveHubId(name);
      if (known !== null) return known;
    }
    const names = asked === undefined ? named : [asked];
    const tried = names.map((name) => `'${name.slice(0, 200)}'`).join(", ");
    const known = catalogue.list().map(({ id }) => id);
    throw new InvalidRequest(
      `${names.length === 0 ? "The adapter's files name no base model" : `No base model here is known as ${tried}`}. Name the one that it was trained on with 'base': ${known.join(", ")}; or import that model first.`,
      { code: "unknown_base_model", param: "base" },
    );
  }

  async function importAdapter(
    request: FastifyRequest,
    folder: ImportFolder,
    contents: Awaited<ReturnType<ImportFolder["contents"]>>,
    query: { name?: string | undefined; base?: string | undefined },
    signal: AbortSignal,
  ): Promise<ImportedModel> {
    const { format, certificate, files, bytes } = contents;
    const base = baseOf(query.base, contents.baseNames);
    const { lora } = await folder.checkAdapter(
      format,
      await catalogue.resolve(base.baseModel, signal),
      signal,
    );
    const id = newModelName({
      base: base.name,
      organization,
      suffix:
        query.name ?? (certificate === null ? null : (parseModelName(certificate.model)?.suffix ?? null)),
    });
    const { adapterDirectory, discard } = await folder.keepAdapter();
    const row = models.addImported({
      id,
      projectId: request.project,
      ownedBy: organization,
      baseModel: base.baseModel,
      requestedModel: base.name,
      adapterDirectory,
    });
    const { createdAt } = await keptUnlessRefused(row, discard);
    const { rank, alpha, dropout, targetModules } = lora;
    return {
      object: "tunesmith.imported_model",
      id,
      created: createdAt,
      kind: "adapter",
      format,
      base_model: base.baseModel,
      lora: { rank, alpha, dropout, target_modules: [...targetModules] },
      certificate,
      files,
      bytes,
    };
  }

  async function importModel(
    folder: ImportFolder,
    contents: Awaited<ReturnType<ImportFolder["contents"]>>,
    query: { name?: string | undefined; base?: string | undefined },
    signal: AbortSignal,
  ): Promise<ImportedModel> {
    const { format, certificate, files, bytes } = contents;
    if (query.base !== undefined)
      throw new InvalidRequest(
        "The files are a whole model, which has no base model. Leave 'base' out; it is for adapters.",
        { code: "invalid_value", param: "base" },
      );
    const name = freeName(query.name);
    await folder.checkModel(format, signal);
    // Another request, or an operator's hand, may have been quicker.
    await folder.keepModel(freeName(name));
    return {
      object: "tunesmith.imported_model",
      id: name,
      created: Math.floor(parts.now() / 1000),
      kind: "base_model",
      format,
      base_model: name,
      lora: null,
      certificate,
      files,
      bytes,
    };
  }

  /** Throws InvalidRequest for what cannot be a base model's name, Conflict for one that something has. */
  function freeName(name: string | undefined): string {
    if (name === undefined)
      throw new InvalidRequest(
        "Missing required parameter: 'name'. The files are a whole model, which needs a name here.",
        { code: "missing_required_parameter", param: "name" },
      );
    if (!BASE_MODEL_NAME.test(name))
      throw new InvalidRequest(
        `Invalid 'name': '${name}' cannot be a base model's name. Expected letters, digits, dots, hyphens and underscores, a letter or digit first.`,
        { code: "invalid_value", param: "name" },
      );
    // Some disks take names that differ in case only for one.
    const isTaken = catalogue.list().some(({ id }) => id.toLowerCase() === name.toLowerCase());
    if (isTaken || directory.resolveBase(name) !== null || directory.resolveEmbedding(name) !== null)
      throw new Conflict(`The name '${name}' is that of another model or alias here. Take another name.`, {
        code: "model_exists",
        param: "name",
      });
    return name;
  }

  /** Unpacks what is sent; returns its sha256. */
  async function receive(
    request: FastifyRequest,
    folder: ImportFolder,
    signal: AbortSignal,
  ): Promise<string> {
    const isAdmin = request.caller?.scopes.includes("admin") ?? false;
    const hash = createHash("sha256");
    const chunks = boundedChunks(request.body as Readable, isAdmin ? MAX_MODEL_BYTES : MAX_ADAPTER_BYTES);
    async function* hashed() {
      for await (const chunk of chunks) {
        hash.update(chunk);
        yield chunk;
      }
    }
    await unpackInto(folder.received, Readable.from(hashed(), { objectMode: false }), {
      signal,
      refuse: brokenArchive,
    });
    return hash.digest("hex");
  }

  async function take(request: FastifyRequest, reply: FastifyReply): Promise<ImportedModel | string> {
    const query = parseRequest(importQuery, request.query);
    if (!isArchive(request))
      throw new InvalidRequest(
        "Expected a body of the content type 'application/x-tar': the files of one model, in a tar archive without folders.",
        { code: "invalid_value" },
      );
    if (running >= MAX_IMPORTS)
      throw new Unavailable(
        `This server takes ${MAX_IMPORTS} import at a time and is at it. Send the request again in a minute.`,
      );
    running += 1;
    const signal = AbortSignal.any([parts.stopping, whenClientLeaves(reply)]);
    let folder: ImportFolder | null = null;
    try {
      const begun = await importer.begin();
      folder = begun;
      const sha256 = await receive(request, begun, signal);
      return await once(request, reply, {
        content: { ...query, sha256 },
        create: async () => {
          const contents = await begun.contents(signal);
          if (contents.kind === "adapter") return importAdapter(request, begun, contents, query, signal);
          requireAdmin(request);
          return importModel(begun, contents, query, signal);
        },
      });
    } finally {
      await folder?.remove();
      running -= 1;
    }
  }

  return {
    create: async (request: FastifyRequest, reply: FastifyReply): Promise<ImportedModel | string> => {
      try {
        return await take(request, reply);
      } catch (error) {
        discardRest(request);
        throw error;
      }
    },
  };
}

/** Base models are common to all projects. */
function requireAdmin(request: FastifyRequest): void {
  if (request.caller?.scopes.includes("admin")) return;
  throw new Forbidden(
    `You have insufficient permissions for this operation. Missing scopes: admin. The files are a whole model, which would be there for every project. This key has: ${request.caller?.scopes.join(", ") ?? ""}; it may import adapters.`,
  );
}

/** The body's bytes, without ending the connection when they are enough: an answer still goes back on it. */
async function* boundedChunks(body: Readable, maxBytes: number): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes)
      throw new InvalidRequest(
        `The archive is too large: at most ${maxBytes} bytes are taken${maxBytes === MAX_ADAPTER_BYTES ? " from a key without the scope admin" : ""}.`,
        { code: FILE_TOO_LARGE },
      );
    yield chunk;
  }
}

/** Reads what is still sent of a refused archive and throws it away, as long as it is no more than a right one could be. */
function discardRest({ raw }: FastifyRequest): void {
  if (raw.readableEnded || raw.destroyed) return;
  let bytes = 0;
  raw.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_MODEL_BYTES) raw.destroy();
  });
  raw.on("error", () => undefined);
  raw.resume();
}

function brokenArchive(problem: string, cause?: unknown): InvalidRequest {
  return new InvalidRequest(
    `The archive cannot be imported: ${problem}. Expected a tar archive of plain files with plain names, without folders; nothing of it was kept.`,
    { code: "invalid_archive", cause },
  );
}

// Where the server's base models come from, by its settings: catalogues that clients may name, the command's download, and aliases
// that lead somewhere.
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { FastifyBaseLogger } from "fastify";
import type { BaseModelCatalogue } from "../api/model-directory.ts";
import { loadConfig } from "../config.ts";
import type { Config } from "../config.ts";
import { InvalidRequest, NotFound, Unavailable } from "../errors.ts";
import { CATALOGUE, catalogueEntry } from "../model/catalogue.ts";
import type { ModelKind } from "../model/catalogue.ts";
import type { Progress } from "../model/download.ts";
import { isModelName, modelDirectory, resolveBaseModel } from "../model/resolve-base-model.ts";
import type { ResolvedBaseModel } from "../model/resolve-base-model.ts";
import { shareWork } from "../model/shared-work.ts";

/** The base models that clients may name: those of the catalogue, and what the operator put under models or into an alias. A client's path is never opened. */
export function baseModelCatalogue(config: Config): BaseModelCatalogue {
  const aliased = new Set(
    Object.values(config.modelAliases).filter(
      (model) => !Object.hasOwn(config.modelAliases, model) && isOfKind("text", model) !== false,
    ),
  );
  const installed = (): string[] => {
    try {
      const folder = join(config.homeDirectory, "models");
      return readdirSync(folder)
        .filter((name) => isModelName(name) && isOfKind("text", name) !== false)
        .filter((name) => statSync(join(folder, name), { throwIfNoEntry: false })?.isDirectory() === true);
    } catch {
      return []; // nothing was ever downloaded
    }
  };
  const isKnown = (id: string) =>
    isOfKind("text", id) === true || aliased.has(id) || installed().includes(id);
  return {
    list: () =>
      [...new Set([...namesOfKind("text"), ...aliased, ...installed()])].map((id) => ({
        id,
        created: BASE_MODELS_CREATED,
        hubId: catalogueEntry(id)?.huggingFaceId ?? null,
      })),
    isKnown,
    resolve: shareWork((id, signal) => resolveBaseModel(id, { ...sourcesOf(config), signal })),
  };
}

/** The catalogue's models that make embeddings. */
export function embeddingCatalogue(config: Config): BaseModelCatalogue {
  return {
    list: () => namesOfKind("embedding").map((id) => ({ id, created: BASE_MODELS_CREATED })),
    isKnown: (id) => isOfKind("embedding", id) === true,
    resolve: shareWork((id, signal) => resolveBaseModel(id, { ...sourcesOf(config), signal })),
  };
}

const namesOfKind = (wanted: ModelKind): string[] =>
  CATALOGUE.filter(({ kind }) => kind === wanted).map(({ id }) => id);

/** Null for a model that is not in the catalogue. */
function isOfKind(wanted: ModelKind, id: string): boolean | null {
  const entry = catalogueEntry(id);
  return entry === undefined ? null : entry.kind === wanted;
}

/** Fetches a base model into the home folder, or finds it there. */
export async function pullBaseModel(
  name: string,
  options: { signal?: AbortSignal; onProgress?: (doneBytes: number, totalBytes: number) => void } = {},
): Promise<ResolvedBaseModel> {
  const { signal, onProgress } = options;
  return resolveBaseModel(name, {
    ...sourcesOf(loadConfig()),
    signal,
    onProgress:
      onProgress && ((progress: Progress) => onProgress(progress.receivedBytes, progress.totalBytes)),
  });
}

/** Null where it is not on this machine; nothing is fetched. */
export async function localModel(
  config: Config,
  id: string,
  signal: AbortSignal,
): Promise<ResolvedBaseModel | null> {
  try {
    return await resolveBaseModel(id, { ...sourcesOf(config), signal, offline: true });
  } catch (error) {
    if (error instanceof Unavailable || error instanceof NotFound) return null;
    throw error;
  }
}

/** Throws InvalidRequest for an alias that would never be looked at; one that leads to nothing yet is only named in the log. */
export function checkAliases({ modelAliases, homeDirectory }: Config, logger: FastifyBaseLogger): void {
  for (const [alias, model] of Object.entries(modelAliases)) {
    if (catalogueEntry(alias) !== undefined) {
      throw new InvalidRequest(
        `TUNESMITH_MODEL_ALIASES: '${alias}' is the name of a base model and cannot stand for '${model}'. Take another name for the alias.`,
      );
    }
    const isThere =
      Object.hasOwn(modelAliases, model) ||
      catalogueEntry(model) !== undefined ||
      existsSync(model) ||
      existsSync(modelDirectory(homeDirectory, model));
    if (!isThere) {
      logger.warn(
        { alias, model },
        "This alias stands for a model that is neither in the catalogue, nor under models in the home folder, nor a path that exists",
      );
    }
  }
}

/** Clients want a time of creation; for files somebody else made, any fixed one is as good. Unix seconds. */
const BASE_MODELS_CREATED = Date.UTC(2025, 0, 1) / 1000;

export function sourcesOf(config: Config) {
  return {
    homeDirectory: config.homeDirectory,
    hubUrl: config.hubUrl,
    hubToken: config.hubToken ?? undefined,
  };
}

// Which model a name stands for: a base model of the catalogue, an embedding model, a name that the settings give one of them, a
// fine-tuned model that the project which asks may use, or an alias of the project's. Base models are common to all projects. Never a
// guess: a name that is none of them is unknown.
import { NotFound } from "../errors.ts";
import { Forbidden } from "./error-answers.ts";
import type { ServedModel } from "../serving/engine.ts";
import type { Alias } from "../store/alias-rows.ts";
import type { AliasStore } from "../store/aliases.ts";
import type { ModelStore, ModelSummary } from "../store/models.ts";
import { chooseModel } from "./alias-choice.ts";

/** Where base models come from, as the API needs it. */
export interface BaseModelCatalogue {
  list(): readonly {
    id: string;
    /** Unix seconds. */
    created: number;
    /** Where the world knows it: owner/name on the Hugging Face hub. */
    hubId?: string | null;
  }[];
  isKnown(id: string): boolean;
  /** Where the model lies; may fetch it first, and stops when the signal aborts. */
  resolve(id: string, signal: AbortSignal): Promise<{ id: string; path: string }>;
}

export interface ResolvedBase {
  /** The name to echo: the last alias before the base model, which for an undated OpenAI name is the snapshot. */
  name: string;
  /** The local base model. */
  baseModel: string;
}

export interface ServedEmbeddingModel {
  /** The name to echo, as ResolvedBase has it. */
  name: string;
  model: { id: string; path: string };
  /** Token ids that come with this name are the model's own: OpenAI's names bring OpenAI's. */
  hasOwnTokens: boolean;
}

export interface ListedModel {
  id: string;
  created: number;
  ownedBy: string;
  baseModel: string;
  /** The model that the name leads to, of an alias of the project's. */
  aliasOf?: string;
}

/** Who answers, and who answers a copy. */
export interface Answering {
  model: ServedModel;
  /** Null: nobody. */
  shadow: { alias: string; model: ServedModel } | null;
}

export class ModelDirectory {
  readonly #catalogue: BaseModelCatalogue;
  readonly #embeddings: BaseModelCatalogue;
  readonly #aliases: Readonly<Record<string, string>>;
  readonly #store: ModelStore;
  readonly #projectAliases: Pick<AliasStore, "get" | "list">;

  constructor(parts: {
    catalogue: BaseModelCatalogue;
    /** The models that make embeddings and nothing else; no name is in both. */
    embeddings: BaseModelCatalogue;
    /** Name to model; no chain runs in a circle. */
    aliases: Readonly<Record<string, string>>;
    store: ModelStore;
    projectAliases: Pick<AliasStore, "get" | "list">;
  }) {
    this.#catalogue = parts.catalogue;
    this.#embeddings = parts.embeddings;
    this.#aliases = parts.aliases;
    this.#store = parts.store;
    this.#projectAliases = parts.projectAliases;
  }

  /** Null when the name leads to no base model. */
  resolveBase(name: string): ResolvedBase | null {
    return this.#follow(name, (id) => this.#catalogue.isKnown(id));
  }

  /** The base model of the catalogue that has this id on the hub; null where there is none. */
  resolveHubId(id: string): ResolvedBase | null {
    const found = this.#catalogue.list().find(({ hubId }) => hubId?.toLowerCase() === id.toLowerCase());
    return found === undefined ? null : { name: found.id, baseModel: found.id };
  }

  /** Null when the name leads to no embedding model. */
  resolveEmbedding(name: string): ResolvedBase | null {
    return this.#follow(name, (id) => this.#embeddings.isKnown(id));
  }

  #follow(name: string, isKnown: (id: string) => boolean): ResolvedBase | null {
    let echoed = name;
    let current = name;
    // A base model's own name is never taken for an alias of another.
    while (!isKnown(current)) {
      const next = Object.hasOwn(this.#aliases, current) ? this.#aliases[current] : undefined;
      if (next === undefined) return null;
      echoed = current;
      current = next;
    }
    return { name: echoed, baseModel: current };
  }

  /** The model that answers under this name, fetched if need be. Throws as `answering` does. */
  async serve(
    projectId: string,
    name: string,
    signal: AbortSignal,
    user?: string | null,
  ): Promise<ServedModel> {
    return (await this.answering(projectId, name, signal, user)).model;
  }

  /**
   * The same with what answers a copy of the request. `user`: what the request says of who asks. Throws NotFound in the words of chat,
   * whose 404 differs from that of /models, and Cancelled.
   */
  async answering(
    projectId: string,
    name: string,
    signal: AbortSignal,
    user: string | null = null,
  ): Promise<Answering> {
    const found = await this.#version(projectId, name, signal);
    if (found !== null) return { model: found, shadow: null };
    if (this.resolveEmbedding(name) !== null) {
      throw new NotFound(
        `This is not a chat model: '${name}' makes embeddings and writes no text. Send it to /v1/embeddings, or take another model; GET /v1/models lists them.`,
        { param: "model" },
      );
    }
    for (let attempt = 1; attempt <= MAX_ALIAS_READS; attempt++) {
      const alias = await this.#projectAliases.get(projectId, name);
      if (alias === null) break;
      const choice = chooseModel(alias, user);
      const model = await this.#version(projectId, choice.model, signal);
      if (model === null) continue;
      const shadow = choice.shadow === null ? null : await this.#version(projectId, choice.shadow, signal);
      return { model, shadow: shadow === null ? null : { alias: name, model: shadow } };
    }
    throw unknownModel(name);
  }

  /** A model that is no alias of the project's; null where there is none of this name. */
  async #version(projectId: string, name: string, signal: AbortSignal): Promise<ServedModel | null> {
    const base = this.resolveBase(name);
    if (base !== null)
      return { id: base.name, baseModel: await this.#locate(base.baseModel, signal), adapterPath: null };
    const model = await this.#store.usable(projectId, name);
    if (model === null) return null;
    return {
      id: model.id,
      baseModel: await this.#locate(model.baseModel, signal),
      adapterPath: model.adapterDirectory,
    };
  }

  /** The model that a name of the project leads to now: itself, or what its alias names. */
  async leadsTo(projectId: string, name: string): Promise<string> {
    if (this.resolveBase(name) !== null || this.resolveEmbedding(name) !== null) return name;
    return (await this.#projectAliases.get(projectId, name))?.model ?? name;
  }

  /**
   * The embedding model that answers under this name, fetched if need be. Throws NotFound, Forbidden for a model that writes
   * text, as OpenAI does, and Cancelled.
   */
  async serveEmbeddings(projectId: string, name: string, signal: AbortSignal): Promise<ServedEmbeddingModel> {
    const resolved = this.resolveEmbedding(name);
    if (resolved !== null) {
      const { id, path } = await this.#embeddings.resolve(resolved.baseModel, signal);
      return {
        name: resolved.name,
        model: { id, path },
        hasOwnTokens: !OPENAI_EMBEDDING_MODEL.test(name),
      };
    }
    if ((await this.find(projectId, name)) === null) throw unknownModel(name);
    const names = this.#embeddings.list().map(({ id }) => `'${id}'`);
    throw new Forbidden(
      `You are not allowed to generate embeddings from this model: '${name}' writes text. Take ${names.join(" or ")}.`,
      { param: "model" },
    );
  }

  /** Whether token ids that come with this name are the answering model's own: OpenAI's names bring OpenAI's. */
  hasOwnTokens(name: string): boolean {
    return !OPENAI_TEXT_MODEL.test(name) || this.#catalogue.isKnown(name);
  }

  /** Null when there is no such model. */
  async find(projectId: string, name: string): Promise<ListedModel | null> {
    const base = this.resolveBase(name);
    if (base !== null) return listedBase(name, base, this.#catalogue.list());
    const embedding = this.resolveEmbedding(name);
    if (embedding !== null) return listedBase(name, embedding, this.#embeddings.list());
    const model = await this.#store.usable(projectId, name);
    if (model !== null) return listedFineTuned(model);
    const alias = await this.#projectAliases.get(projectId, name);
    if (alias === null) return null;
    const leadsTo = this.resolveBase(alias.model) ?? (await this.#store.usable(projectId, alias.model));
    return listedAlias(alias, leadsTo);
  }

  /** Aliases of the project first, then its models, newest first, the settings' names, base models and embedding models. */
  async list(projectId: string): Promise<ListedModel[]> {
    const aliases = await this.#projectAliases.list(projectId);
    const fineTuned = (await this.#store.list(projectId)).map(listedFineTuned);
    const catalogue = [...this.#catalogue.list(), ...this.#embeddings.list()];
    // No name is in both, and to ask the catalogue for each name would read its folder as often.
    const known = new Set(catalogue.map(({ id }) => id));
    const names = new Set([...Object.keys(this.#aliases), ...known]);
    const bases = [...names].flatMap((name) => {
      const base = this.#follow(name, (id) => known.has(id));
      return base === null ? [] : [listedBase(name, base, catalogue)];
    });
    const versions = new Map([...fineTuned, ...bases].map((model) => [model.id, model]));
    const named = aliases.map((alias) => listedAlias(alias, versions.get(alias.model) ?? null));
    return [...named, ...fineTuned, ...bases];
  }

  async #locate(baseModel: string, signal: AbortSignal): Promise<{ id: string; path: string }> {
    const { id, path } = await this.#catalogue.resolve(baseModel, signal);
    return { id, path };
  }
}

/**
 * Models that an alias leads to cannot be deleted, but between the look at an alias and the look at its model the alias may have moved
 * and the model gone; more than that, only a permission that was taken back explains.
 */
const MAX_ALIAS_READS = 3;

/** Whose token ids are of the vocabulary cl100k_base. */
const OPENAI_EMBEDDING_MODEL = /^text-embedding-/;

/** Whose token ids are of one of tiktoken's vocabularies. */
const OPENAI_TEXT_MODEL = /^(gpt-|chatgpt-|davinci-|babbage-|o\d)/;

function unknownModel(name: string): NotFound {
  return new NotFound(`The model '${name}' does not exist or you do not have access to it.`, {
    code: "model_not_found",
  });
}

function listedBase(
  name: string,
  base: ResolvedBase,
  catalogue: ReturnType<BaseModelCatalogue["list"]>,
): ListedModel {
  const created = catalogue.find(({ id }) => id === base.baseModel)?.created ?? 0;
  return { id: name, created, ownedBy: "tunesmith", baseModel: base.baseModel };
}

/** Of a model that may not be used any more, its name still says what it was made from. */
function listedAlias(
  { name, model, createdAt }: Alias,
  leadsTo: Pick<ListedModel, "baseModel"> | null,
): ListedModel {
  const baseModel = leadsTo?.baseModel ?? model;
  return { id: name, created: createdAt, ownedBy: "tunesmith", baseModel, aliasOf: model };
}

function listedFineTuned(model: ModelSummary): ListedModel {
  return {
    id: model.id,
    created: model.createdAt,
    ownedBy: model.ownedBy,
    baseModel: model.baseModel,
  };
}

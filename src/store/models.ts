// Fine-tuned models: what a succeeded job left, and adapters that were imported. Base models are not rows; the catalogue knows them. A deleted model keeps its
// row as a tombstone, so its name stays unknown to clients for ever and is never given out again.
import { isAbsolute, relative, resolve } from "node:path";
import type { Selectable } from "kysely";
import { Conflict } from "../errors.ts";
import type { Database, DatabaseTransaction } from "./database.ts";
import type { ModelsTable } from "./tables.ts";
import { aliasOf, usableBy } from "./usable-models.ts";

export interface NewModel {
  /** ft:… */
  id: string;
  ownedBy: string;
  /** The local base model. */
  baseModel: string;
  /** The base as the client named it (the resolved snapshot). */
  requestedModel: string;
  /** The PEFT adapter's folder, inside the home folder and written relative to it, so the home can be moved. */
  adapterDirectory: string;
}

/** `adapterDirectory` is absolute here. */
export interface Model extends NewModel {
  /** The job that made it; null for one that was imported. */
  jobId: string | null;
  /** Its job's, or that of whoever imported it. */
  projectId: string;
  /** Unix seconds. */
  createdAt: number;
}

export type ModelSummary = Pick<Model, "id" | "createdAt" | "ownedBy" | "baseModel">;

export class ModelStore {
  readonly #database: Database;
  readonly #home: string;
  readonly #now: () => number;

  constructor(database: Database, homeDirectory: string, now: () => number = Date.now) {
    this.#database = database;
    this.#home = homeDirectory;
    this.#now = now;
  }

  /** A model the project may use: its own, or another's by a permission. Null when there is none of this name. */
  async usable(projectId: string, id: string): Promise<Model | null> {
    const row = await this.#database
      .selectFrom("models")
      .selectAll()
      .where(usableBy(projectId))
      .where("id", "=", id)
      .where("deletedAt", "is", null)
      .executeTakeFirst();
    return row === undefined ? null : this.#toModel(row);
  }

  /** Whichever project it belongs to: for administrators. */
  async exists(id: string): Promise<boolean> {
    const row = await this.#database
      .selectFrom("models")
      .select("id")
      .where("id", "=", id)
      .where("deletedAt", "is", null)
      .executeTakeFirst();
    return row !== undefined;
  }

  /** Null when the project has no such model of its own. */
  async get(projectId: string, id: string): Promise<Model | null> {
    const row = await this.#database
      .selectFrom("models")
      .selectAll()
      .where("projectId", "=", projectId)
      .where("id", "=", id)
      .where("deletedAt", "is", null)
      .executeTakeFirst();
    return row === undefined ? null : this.#toModel(row);
  }

  /** All models that the project may use, newest first: this list of the protocol has no pages, so it reads what is listed only. */
  async list(projectId: string): Promise<ModelSummary[]> {
    return this.#database
      .selectFrom("models")
      .select(["id", "createdAt", "ownedBy", "baseModel"])
      .where(usableBy(projectId))
      .where("deletedAt", "is", null)
      .orderBy("sequence", "desc")
      .execute();
  }

  /** Shows an adapter that was imported: its folder is whole by now. */
  async addImported(model: NewModel & { projectId: string }): Promise<{ createdAt: number }> {
    const createdAt = Math.floor(this.#now() / 1000);
    await this.#database
      .transaction()
      .execute((transaction) => insertModel(transaction, { ...model, jobId: null, createdAt }));
    return { createdAt };
  }

  /** Folders of the imported adapters that there are, absolute: any other beside them is nobody's. */
  async importedDirectories(): Promise<Set<string>> {
    const rows = await this.#database
      .selectFrom("models")
      .select("adapterDirectory")
      .where("jobId", "is", null)
      .where("deletedAt", "is", null)
      .execute();
    return new Set(rows.map(({ adapterDirectory }) => resolve(this.#home, adapterDirectory)));
  }

  /**
   * The model that was deleted, for whoever removes its adapter; null when there was none. Throws Conflict while an alias leads to
   * it: whoever asks for the alias would find no model.
   */
  async delete(projectId: string, id: string): Promise<Model | null> {
    return this.#database.transaction().execute(async (transaction) => {
      const row = await transaction
        .updateTable("models")
        .set({ deletedAt: Math.floor(this.#now() / 1000) })
        .where("projectId", "=", projectId)
        .where("id", "=", id)
        .where("deletedAt", "is", null)
        .returningAll()
        .executeTakeFirst();
      if (row === undefined) return null;
      const alias = await aliasOf(transaction, id);
      if (alias !== null) throw stillNamed(id, alias, projectId);
      return this.#toModel(row);
    });
  }

  #toModel(row: Selectable<ModelsTable>): Model {
    return {
      id: row.id,
      jobId: row.jobId,
      projectId: row.projectId,
      createdAt: row.createdAt,
      ownedBy: row.ownedBy,
      baseModel: row.baseModel,
      requestedModel: row.requestedModel,
      adapterDirectory: resolve(this.#home, row.adapterDirectory),
    };
  }
}

function stillNamed(model: string, alias: { projectId: string; name: string }, projectId: string): Conflict {
  const where = alias.projectId === projectId ? `The alias '${alias.name}'` : "An alias of another project";
  return new Conflict(
    `${where} leads to the model '${model}', or has it as its candidate. Move or delete the alias first, so that nobody who asks for it finds no model.`,
    { param: "model" },
  );
}

/** For the transaction that ends a job, and that of an import. */
export async function insertModel(
  transaction: DatabaseTransaction,
  model: NewModel & { jobId: string | null; projectId: string; createdAt: number },
): Promise<void> {
  const { id, jobId, projectId, createdAt, ownedBy, baseModel, requestedModel, adapterDirectory } = model;
  const inside = relative(".", adapterDirectory);
  // Deleting a model removes this folder: it must be a folder below the home, never the home itself.
  if (isAbsolute(adapterDirectory) || inside === "" || inside.startsWith("..")) {
    throw new Error(
      `internal: the adapter folder ${adapterDirectory} of ${id} is not relative to the home folder`,
    );
  }
  await transaction
    .insertInto("models")
    .values({ id, jobId, projectId, createdAt, ownedBy, baseModel, requestedModel, adapterDirectory })
    .execute();
}

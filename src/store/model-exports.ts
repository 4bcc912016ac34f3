// Which exports of a model were handed out, when and to whom: part of a model's lineage. The files themselves are not kept.
import type { ExportFormat, ExportPrecision } from "../wire/export.ts";
import type { Database } from "./database.ts";

export interface ModelExport {
  /** Unix seconds. */
  createdAt: number;
  format: ExportFormat;
  precision: ExportPrecision | null;
  /** A key's id, or owner. */
  by: string;
}

/** Exports of a model that its lineage tells of, the newest. */
export const MAX_LISTED_EXPORTS = 100;

export class ModelExportStore {
  readonly #database: Database;
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  async add(model: string, { format, precision, by }: Omit<ModelExport, "createdAt">): Promise<void> {
    const createdAt = Math.floor(this.#now() / 1000);
    await this.#database
      .insertInto("modelExports")
      .values({ model, createdAt, format, precision, madeBy: by })
      .execute();
  }

  /** Newest first. */
  async list(model: string): Promise<ModelExport[]> {
    const rows = await this.#database
      .selectFrom("modelExports")
      .selectAll()
      .where("model", "=", model)
      .orderBy("sequence", "desc")
      .limit(MAX_LISTED_EXPORTS)
      .execute();
    return rows.map(({ createdAt, format, precision, madeBy }) => ({
      ...{ createdAt, format: format as ExportFormat, by: madeBy },
      precision: precision as ExportPrecision | null,
    }));
  }
}

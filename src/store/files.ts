// Uploaded and produced files: what is known about each. The bytes are blobs of the same id (blobs.ts). Another project's file
// is an unknown file.
import { sql } from "kysely";
import type { Expression, Selectable, SqlBool } from "kysely";
import type { FilePurpose } from "../wire/files.ts";
import type { Database } from "./database.ts";
import type { FilesTable } from "./tables.ts";
import { pageOf, placeOf } from "./page.ts";
import type { Page, PageRequest } from "./page.ts";

export interface NewFile {
  /** From `newId("file")`, made before the bytes are written. */
  id: string;
  projectId: string;
  filename: string;
  purpose: FilePurpose;
  bytes: number;
  /** Lower-case hex of the content. */
  sha256: string;
  /** Unix seconds; null: never. */
  expiresAt: number | null;
}

/** A file whose life starts when it is stored. */
export interface NewUpload extends Omit<NewFile, "expiresAt"> {
  /** Null: it is kept until it is deleted. */
  expiresAfterSeconds: number | null;
}

export interface StoredFile extends NewFile {
  /** Unix seconds. */
  createdAt: number;
}

/** Rows that are read at once: a page of 10,000 in one piece would hold up every other request for as long as 20 of these. */
const READ_FILES = 500;

export class FileStore {
  readonly #database: Database;
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** Makes a written blob a file that clients see. */
  async create(file: NewFile): Promise<StoredFile> {
    return insertFile(this.#database, { ...file, createdAt: this.#seconds() });
  }

  /** The same for a file that lives for a time. */
  async createUpload(upload: NewUpload): Promise<StoredFile> {
    return insertUpload(this.#database, upload, this.#seconds());
  }

  /** Null when there is no such file, or it was deleted or has expired. */
  async get(projectId: string, id: string): Promise<StoredFile | null> {
    const row = await this.#live().where("projectId", "=", projectId).where("id", "=", id).executeTakeFirst();
    return row === undefined ? null : toFile(row);
  }

  async list(
    projectId: string,
    page: PageRequest & { order: "asc" | "desc"; purpose?: string | undefined },
  ): Promise<Page<StoredFile>> {
    const { order, limit, purpose } = page;
    let query = this.#live().where("projectId", "=", projectId).orderBy("sequence", order);
    if (purpose !== undefined) query = query.where("purpose", "=", purpose);
    let cursor =
      page.after === undefined ? null : await placeOf(this.#database, "files", { projectId }, page.after);
    const rows: StoredFile[] = [];
    for (;;) {
      const wanted = Math.min(READ_FILES, limit + 1 - rows.length);
      const next = cursor === null ? query : query.where("sequence", order === "asc" ? ">" : "<", cursor);
      const some = await next.limit(wanted).execute();
      rows.push(...some.map(toFile));
      if (some.length < wanted || rows.length > limit) return pageOf(rows, limit);
      cursor = some.at(-1)?.sequence ?? null;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** False when there was no such file. The caller removes the blob afterwards: a crash between leaves a blob nobody sees, not a file without bytes. */
  async delete(projectId: string, id: string): Promise<boolean> {
    const result = await this.#database
      .updateTable("files")
      .set({ deletedAt: this.#seconds() })
      .where("projectId", "=", projectId)
      .where("id", "=", id)
      .where("deletedAt", "is", null)
      .where(notExpired(this.#seconds()))
      .executeTakeFirst();
    return result.numUpdatedRows > 0n;
  }

  /** Those of the files that clients of any project can see; blobs of others are swept. */
  async liveAmong(ids: readonly string[]): Promise<Set<string>> {
    const rows = await this.#live().clearSelect().select("id").where("id", "in", ids).execute();
    return new Set(rows.map(({ id }) => id));
  }

  #live() {
    return this.#database
      .selectFrom("files")
      .selectAll()
      .where("deletedAt", "is", null)
      .where(notExpired(this.#seconds()));
  }

  #seconds(): number {
    return Math.floor(this.#now() / 1000);
  }
}

/** Also for the transaction that ends a job with its result file. */
export async function insertFile(database: Database, file: StoredFile): Promise<StoredFile> {
  const { id, projectId, filename, purpose, bytes, sha256, expiresAt, createdAt } = file;
  const row = await database
    .insertInto("files")
    .values({ id, projectId, filename, purpose, bytes, sha256, expiresAt, createdAt })
    .returningAll()
    .executeTakeFirstOrThrow();
  return toFile(row);
}

/** Likewise for files that live for a time from now (Unix seconds) on. */
export async function insertUpload(
  database: Database,
  { expiresAfterSeconds, ...file }: NewUpload,
  now: number,
): Promise<StoredFile> {
  const expiresAt = expiresAfterSeconds === null ? null : now + expiresAfterSeconds;
  return insertFile(database, { ...file, createdAt: now, expiresAt });
}

function notExpired(now: number): Expression<SqlBool> {
  return sql<SqlBool>`(expires_at IS NULL OR expires_at > ${now})`;
}

function toFile(row: Selectable<FilesTable>): StoredFile {
  return {
    id: row.id,
    projectId: row.projectId,
    createdAt: row.createdAt,
    filename: row.filename,
    purpose: row.purpose as FilePurpose,
    bytes: row.bytes,
    sha256: row.sha256,
    expiresAt: row.expiresAt,
  };
}

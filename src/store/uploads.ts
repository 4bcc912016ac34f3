// Uploads in parts: what is known of each and of its parts until it becomes a file or ends. The bytes of parts are blobs of the
// same ids (blobs.ts). Another project's upload is an unknown upload.
import { sql } from "kysely";
import type { Selectable } from "kysely";
import { InvalidRequest } from "../errors.ts";
import type { UploadPurpose } from "../wire/files.ts";
import { newId } from "../wire/ids.ts";
import { MAX_PART_BYTES, MAX_PARTS, UPLOAD_TTL_SECONDS } from "../wire/uploads.ts";
import type { UploadStatus } from "../wire/uploads.ts";
import type { WrittenBlob } from "./blobs.ts";
import type { Database, DatabaseTransaction } from "./database.ts";
import type { UploadPartsTable, UploadsTable } from "./tables.ts";
import { insertFile } from "./files.ts";
import type { StoredFile } from "./files.ts";

export interface NewPartedUpload {
  projectId: string;
  filename: string;
  purpose: UploadPurpose;
  /** Of all parts together, when it is completed. */
  bytes: number;
  /** Of the file it becomes, from the upload's creation on; null: it is kept until it is deleted. */
  fileTtlSeconds: number | null;
}

export interface PartedUpload extends NewPartedUpload {
  id: string;
  /** Unix seconds. */
  createdAt: number;
  /** Unix seconds. */
  expiresAt: number;
  status: UploadStatus;
  /** Null until it is completed. */
  fileId: string | null;
}

export interface UploadPart {
  id: string;
  uploadId: string;
  /** Unix seconds. */
  createdAt: number;
  bytes: number;
}

/** Uploads of a project that are pending at a time; a client that dies leaves one for an hour. */
const MAX_PENDING_UPLOADS = 1_000;

/** Bytes that an upload's parts may hold, as a multiple of its size: a client that repeats a part leaves its first one unused. */
const MAX_STORED_RATIO = 2;

/** Written into the statement: with a bound value SQLite plans it anew each time, to see whether the index of pending uploads will do. */
const PENDING = sql.lit("pending" satisfies UploadStatus);

/** Counted from the creation, as clients are told; a completion that ends beyond that gives the file its life from then on. */
function endOfLife(createdAt: number, ttlSeconds: number, now: number): number {
  const end = createdAt + ttlSeconds;
  return end > now ? end : now + ttlSeconds;
}

export class UploadStore {
  /** Uploads that this process is making into files: they do not expire meanwhile. */
  readonly completing = new Set<string>();
  readonly #database: Database;
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** Throws InvalidRequest when the project has too many that are pending. */
  async create(upload: NewPartedUpload): Promise<PartedUpload> {
    const now = this.#seconds();
    return this.#database.transaction().execute(async (transaction) => {
      const { count } = await transaction
        .selectFrom("uploads")
        .select((select) => select.fn.countAll<number>().as("count"))
        .where("projectId", "=", upload.projectId)
        .where("status", "=", PENDING)
        .where("expiresAt", ">", now)
        .executeTakeFirstOrThrow();
      if (count >= MAX_PENDING_UPLOADS) {
        throw new InvalidRequest(
          `This project has ${MAX_PENDING_UPLOADS} pending uploads, the most that it may have. Complete or cancel one first, or wait until they expire.`,
          { code: "too_many_pending_uploads" },
        );
      }
      const row = await transaction
        .insertInto("uploads")
        .values({
          ...upload,
          id: newId("upload"),
          createdAt: now,
          expiresAt: now + UPLOAD_TTL_SECONDS,
          status: "pending" satisfies UploadStatus,
        })
        .returningAll()
        .executeTakeFirstOrThrow();
      return this.#toUpload(row);
    });
  }

  /** Null when the project has no such upload. */
  async get(projectId: string, id: string): Promise<PartedUpload | null> {
    const row = await this.#database
      .selectFrom("uploads")
      .selectAll()
      .where("projectId", "=", projectId)
      .where("id", "=", id)
      .executeTakeFirst();
    return row === undefined ? null : this.#toUpload(row);
  }

  /** Throws InvalidRequest when the upload takes no further part: it has ended, or its parts are too many or too large already. */
  async admitPart(uploadId: string): Promise<void> {
    await this.#admit(this.#database, uploadId, 0);
  }

  /** Makes a written blob a part. Throws InvalidRequest when the upload has ended meanwhile, or its parts are too many or too large. */
  async addPart(part: { id: string; uploadId: string; bytes: number }): Promise<UploadPart> {
    return this.#database.transaction().execute(async (transaction) => {
      await this.#admit(transaction, part.uploadId, part.bytes);
      const row = await transaction
        .insertInto("uploadParts")
        .values({ ...part, createdAt: this.#seconds() })
        .returningAll()
        .executeTakeFirstOrThrow();
      return toPart(row);
    });
  }

  /** In no order: the client says it. At most `MAX_PARTS`. Throws InvalidRequest when the upload has ended. */
  async partsOf(uploadId: string): Promise<UploadPart[]> {
    await this.#pending(this.#database, uploadId);
    const rows = await this.#database
      .selectFrom("uploadParts")
      .selectAll()
      .where("uploadId", "=", uploadId)
      .execute();
    return rows.map(toPart);
  }

  /**
   * Makes the upload a file whose blob is written, in one step with the end of its parts. The caller removes their blobs afterwards.
   * Throws InvalidRequest when the upload has ended meanwhile.
   */
  async complete(
    uploadId: string,
    blob: WrittenBlob & { fileId: string },
  ): Promise<{ upload: PartedUpload; file: StoredFile }> {
    return this.#database.transaction().execute(async (transaction) => {
      const { id, projectId, filename, purpose, createdAt, fileTtlSeconds } = await this.#pending(
        transaction,
        uploadId,
      );
      const file = await insertFile(transaction, {
        id: blob.fileId,
        projectId,
        filename,
        purpose,
        bytes: blob.bytes,
        sha256: blob.sha256,
        createdAt,
        expiresAt: fileTtlSeconds === null ? null : endOfLife(createdAt, fileTtlSeconds, this.#seconds()),
      });
      const row = await end(transaction, id, { status: "completed", fileId: file.id });
      return { upload: this.#toUpload(row), file };
    });
  }

  /** The caller removes the parts' blobs afterwards. Throws InvalidRequest when the upload has ended already. */
  async cancel(uploadId: string): Promise<PartedUpload> {
    return this.#database.transaction().execute(async (transaction) => {
      await this.#pending(transaction, uploadId);
      return this.#toUpload(await end(transaction, uploadId, { status: "cancelled" }));
    });
  }

  /** Ends the uploads whose hour is over; blobs of their parts are swept. */
  async expire(): Promise<void> {
    await this.#database.transaction().execute(async (transaction) => {
      const due = await transaction
        .selectFrom("uploads")
        .select("id")
        .where("status", "=", PENDING)
        .where("expiresAt", "<=", this.#seconds())
        .execute();
      for (const { id } of due) {
        if (!this.completing.has(id)) await end(transaction, id, { status: "expired" });
      }
    });
  }

  /** Those of the ids that are parts of a pending upload; blobs of others are swept. */
  async livePartsAmong(ids: readonly string[]): Promise<Set<string>> {
    const rows = await this.#database.selectFrom("uploadParts").select("id").where("id", "in", ids).execute();
    return new Set(rows.map(({ id }) => id));
  }

  async #pending(database: Database, uploadId: string): Promise<PartedUpload> {
    const row = await database
      .selectFrom("uploads")
      .selectAll()
      .where("id", "=", uploadId)
      .executeTakeFirstOrThrow();
    const upload = this.#toUpload(row);
    if (upload.status !== "pending") throw endedUpload(upload);
    return upload;
  }

  async #admit(database: Database, uploadId: string, bytes: number): Promise<void> {
    const upload = await this.#pending(database, uploadId);
    const stored = await database
      .selectFrom("uploadParts")
      .select((select) => [
        select.fn.countAll<number>().as("parts"),
        select.fn.coalesce(select.fn.sum<number>("bytes"), select.val(0)).as("bytes"),
      ])
      .where("uploadId", "=", uploadId)
      .executeTakeFirstOrThrow();
    if (stored.parts >= MAX_PARTS) {
      throw new InvalidRequest(
        `Upload ${uploadId} has ${MAX_PARTS} parts, the most that an upload may have. Send larger parts in a new upload.`,
        { param: "data", code: "too_many_parts" },
      );
    }
    if (stored.bytes + bytes > upload.bytes * MAX_STORED_RATIO + MAX_PART_BYTES) {
      throw new InvalidRequest(
        `The parts of upload ${uploadId} hold far more than the ${upload.bytes} bytes it was created for. Complete it with the parts that make up the file, or cancel it.`,
        { param: "data", code: "too_many_bytes" },
      );
    }
  }

  /** An upload that nobody has swept yet has expired all the same. */
  #toUpload(row: Selectable<UploadsTable>): PartedUpload {
    const isOver =
      row.status === "pending" && row.expiresAt <= this.#seconds() && !this.completing.has(row.id);
    return {
      id: row.id,
      projectId: row.projectId,
      createdAt: row.createdAt,
      expiresAt: row.expiresAt,
      bytes: row.bytes,
      filename: row.filename,
      purpose: row.purpose as UploadPurpose,
      fileTtlSeconds: row.fileTtlSeconds,
      status: isOver ? "expired" : (row.status as UploadStatus),
      fileId: row.fileId,
    };
  }

  #seconds(): number {
    return Math.floor(this.#now() / 1000);
  }
}

async function end(
  transaction: DatabaseTransaction,
  id: string,
  changes: { status: UploadStatus; fileId?: string },
): Promise<Selectable<UploadsTable>> {
  await transaction.deleteFrom("uploadParts").where("uploadId", "=", id).execute();
  return transaction
    .updateTable("uploads")
    .set(changes)
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

function toPart(row: Selectable<UploadPartsTable>): UploadPart {
  return { id: row.id, uploadId: row.uploadId, createdAt: row.createdAt, bytes: row.bytes };
}

/** Why a part, a completion or a cancellation comes too late. */
function endedUpload({ id, status, fileId, expiresAt }: PartedUpload): InvalidRequest {
  const words =
    status === "completed"
      ? `is completed: it is the file ${fileId}`
      : status === "expired"
        ? `has expired: an upload takes parts for ${UPLOAD_TTL_SECONDS} seconds, this one until ${expiresAt}`
        : `is ${status}`;
  return new InvalidRequest(`Upload ${id} ${words}. Create a new one to send more.`, {
    code: `upload_${status}`,
  });
}

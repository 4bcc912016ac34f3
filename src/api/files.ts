// /v1/files: upload, list, retrieve, content, delete.
import { Transform } from "node:stream";
import type { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { NotFound } from "../errors.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { FileStore, StoredFile } from "../store/files.ts";
import { listFilesQuery } from "../wire/files.ts";
import type { FileDeleted, FileObject } from "../wire/files.ts";
import { listWithIds } from "../wire/list.ts";
import type { ListWithIds } from "../wire/list.ts";
import { parseRequest } from "../wire/validation.ts";
import type { Once } from "./idempotency.ts";
import { keptUnlessRefused, receiveUpload } from "./upload.ts";

export function fileRoutes(parts: {
  files: FileStore;
  blobs: BlobStore;
  maxUploadBytes: number;
  resultFileEncoding: "base64" | "csv";
  once: Once;
}) {
  const { files, blobs, maxUploadBytes, resultFileEncoding, once } = parts;

  async function existingFile(request: FastifyRequest): Promise<StoredFile> {
    const { file: id } = request.params as { file: string };
    const file = await files.get(request.project, id);
    if (file === null) throw unknownFile(id);
    return file;
  }

  return {
    create: async (request: FastifyRequest, reply: FastifyReply): Promise<FileObject | string> => {
      const { id, ...upload } = await receiveUpload(request, blobs, maxUploadBytes);
      const discard = () => blobs.delete(id);
      return once(request, reply, {
        content: upload,
        discard,
        create: async () =>
          toFileObject(await keptUnlessRefused(files.createUpload({ id, ...upload }), discard)),
      });
    },

    list: async (request: FastifyRequest): Promise<ListWithIds<FileObject>> => {
      const page = await files.list(request.project, parseRequest(listFilesQuery, request.query));
      return listWithIds(page.data.map(toFileObject), page.hasMore);
    },

    retrieve: async (request: FastifyRequest): Promise<FileObject> => {
      return toFileObject(await existingFile(request));
    },

    content: async (request: FastifyRequest, reply: FastifyReply): Promise<Readable> => {
      const file = await existingFile(request);
      const encoded = file.purpose === "fine-tune-results" && resultFileEncoding === "base64";
      const bytes = await blobs.read(file.id).catch(async (error: unknown) => {
        // Deleted since its row was read: that is what to say then.
        await existingFile(request);
        throw error;
      });
      void reply
        .type("application/octet-stream")
        .header("content-disposition", attachment(file.filename))
        // A stored file is a stranger's text: no browser may take it for a page.
        .header("x-content-type-options", "nosniff")
        .header("content-length", encoded ? Math.ceil(file.bytes / 3) * 4 : file.bytes);
      return encoded ? (bytes.compose(base64Encoder()) as Readable) : bytes;
    },

    delete: async (request: FastifyRequest): Promise<FileDeleted> => {
      const { file: id } = request.params as { file: string };
      if (!(await files.delete(request.project, id))) throw unknownFile(id);
      await blobs.delete(id);
      return { id, object: "file", deleted: true };
    },
  };
}

export function toFileObject(file: StoredFile): FileObject {
  return {
    object: "file",
    id: file.id,
    purpose: file.purpose,
    filename: file.filename,
    bytes: file.bytes,
    created_at: file.createdAt,
    expires_at: file.expiresAt,
    // What a training file holds is judged by the job, so an upload is done when it is stored.
    status: "processed",
    status_details: null,
  };
}

/** RFC 6266: an ASCII name for old clients, and the real one in UTF-8. */
export function attachment(filename: string): string {
  const ascii = filename.replaceAll(/[^\x20-\x7e]|["\\%]/g, "_");
  const plain = `attachment; filename="${ascii}"`;
  if (ascii === filename) return plain;
  const encoded = encodeURIComponent(Buffer.from(filename).toString()).replaceAll(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `${plain}; filename*=UTF-8''${encoded}`;
}

/** Base64 of a stream: three bytes make four characters, so up to two bytes wait for the next chunk. */
function base64Encoder(): Transform {
  let waiting = Buffer.alloc(0);
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const bytes = Buffer.concat([waiting, chunk]);
      const whole = bytes.length - (bytes.length % 3);
      waiting = bytes.subarray(whole);
      done(null, bytes.toString("base64", 0, whole));
    },
    flush(done) {
      done(null, waiting.toString("base64"));
    },
  });
}

function unknownFile(id: string): NotFound {
  return new NotFound(`No such File object: ${id}`, { param: "id" });
}

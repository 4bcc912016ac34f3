// /v1/uploads: a file in parts. Parts are blobs of their own until a completion streams them, in the client's order, into the
// blob of the file; then one transaction makes the upload a file, so a crash leaves a pending upload or a whole file.
import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { InvalidRequest, NotFound } from "../errors.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { StoredFile } from "../store/files.ts";
import type { PartedUpload, UploadPart, UploadStore } from "../store/uploads.ts";
import { newId } from "../wire/ids.ts";
import { completeUploadRequest, createUploadRequest } from "../wire/uploads.ts";
import type { CompleteUploadRequest, UploadObject, UploadPartObject } from "../wire/uploads.ts";
import { parseRequest } from "../wire/validation.ts";
import { Busy } from "./error-answers.ts";
import { toFileObject } from "./files.ts";
import type { Once } from "./idempotency.ts";
import { cleanFilename, keptUnlessRefused, lifeSeconds, receivePart } from "./upload.ts";

export function uploadRoutes(parts: {
  uploads: UploadStore;
  /** Of files. */
  blobs: BlobStore;
  /** Of parts. */
  partBlobs: BlobStore;
  once: Once;
}) {
  const { uploads, blobs, partBlobs, once } = parts;
  /** Completions, and cancellations, at work: a client that asks again for the same completion gets its answer. */
  const completions = new Map<string, { wish: string; answer: Promise<UploadObject> }>();

  async function existingUpload(request: FastifyRequest): Promise<PartedUpload> {
    const { upload: id } = request.params as { upload: string };
    const upload = await uploads.get(request.project, id);
    if (upload === null) throw new NotFound(`No such Upload object: ${id}`, { param: "id" });
    return upload;
  }

  async function complete(upload: PartedUpload, wish: CompleteUploadRequest): Promise<UploadObject> {
    const stored = await uploads.partsOf(upload.id);
    const chosen = chooseParts(upload, stored, wish.part_ids);
    const md5 = wish.md5 === null ? null : { expected: wish.md5, hash: createHash("md5") };
    const fileId = newId("file");
    let written;
    try {
      written = await blobs.write(fileId, joined(chosen, partBlobs, md5?.hash), { maxBytes: upload.bytes });
      if (md5 !== null) checkMd5(upload, md5);
    } catch (error) {
      await blobs.delete(fileId);
      throw error;
    }
    const completed = await keptUnlessRefused(uploads.complete(upload.id, { fileId, ...written }), () =>
      blobs.delete(fileId),
    );
    await deleteBlobs(stored);
    return toUploadObject(completed.upload, completed.file);
  }

  async function cancel(id: string): Promise<UploadObject> {
    const stored = await uploads.partsOf(id);
    const cancelled = await uploads.cancel(id);
    await deleteBlobs(stored);
    return toUploadObject(cancelled);
  }

  /** Of parts that nobody can name any more; what cannot be removed now is swept later. */
  async function deleteBlobs(stored: readonly UploadPart[]): Promise<void> {
    await Promise.allSettled(stored.map(({ id }) => partBlobs.delete(id)));
  }

  return {
    create: async (request: FastifyRequest): Promise<UploadObject> => {
      const body = parseRequest(createUploadRequest, request.body);
      const upload = await uploads.create({
        projectId: request.project,
        filename: cleanFilename(body.filename),
        purpose: body.purpose,
        bytes: body.bytes,
        fileTtlSeconds: lifeSeconds(body.purpose, body.expires_after),
      });
      return toUploadObject(upload);
    },

    addPart: async (request: FastifyRequest, reply: FastifyReply): Promise<UploadPartObject | string> => {
      let uploadId = "";
      const part = await receivePart(request, partBlobs, async () => {
        uploadId = (await existingUpload(request)).id;
        await uploads.admitPart(uploadId);
      });
      const { id, bytes, sha256 } = part;
      const discard = () => partBlobs.delete(id);
      return once(request, reply, {
        content: { bytes, sha256 },
        discard,
        create: async () =>
          toPartObject(await keptUnlessRefused(uploads.addPart({ id, uploadId, bytes }), discard)),
      });
    },

    complete: async (request: FastifyRequest): Promise<UploadObject> => {
      const body = parseRequest(completeUploadRequest, request.body);
      const wish = JSON.stringify(body);
      const upload = await existingUpload(request);
      const running = completions.get(upload.id);
      if (running?.wish === wish) return running.answer;
      if (running !== undefined) throw beingCompleted(upload.id);
      // An upload that has expired already stays so.
      if (upload.status === "pending") uploads.completing.add(upload.id);
      const answer = complete(upload, body).finally(() => {
        uploads.completing.delete(upload.id);
        completions.delete(upload.id);
      });
      completions.set(upload.id, { wish, answer });
      return answer;
    },

    cancel: async (request: FastifyRequest): Promise<UploadObject> => {
      const { id } = await existingUpload(request);
      if (completions.has(id)) throw beingCompleted(id);
      const cancelling = cancel(id).finally(() => completions.delete(id));
      // A completion that begins meanwhile would lose its parts under its hands.
      completions.set(id, { wish: CANCELLATION, answer: cancelling });
      return cancelling;
    },
  };
}

/** In place of what a completion asks for; no JSON is this. */
const CANCELLATION = "cancellation";

/** The parts in the client's order. Throws InvalidRequest when they are not this upload's, or not its size. */
function chooseParts(
  upload: PartedUpload,
  stored: readonly UploadPart[],
  ids: readonly string[],
): UploadPart[] {
  const byId = new Map(stored.map((part) => [part.id, part]));
  const chosen = ids.map((id, index) => {
    const part = byId.get(id);
    if (part !== undefined) return part;
    throw new InvalidRequest(
      `Invalid 'part_ids[${index}]': upload ${upload.id} has no part '${id.slice(0, 80)}'. Send the ids that adding its parts answered.`,
      { param: `part_ids[${index}]`, code: "invalid_value" },
    );
  });
  const bytes = chosen.reduce((sum, part) => sum + part.bytes, 0);
  if (bytes !== upload.bytes) {
    throw new InvalidRequest(
      `Invalid 'part_ids': these parts hold ${bytes} bytes, but upload ${upload.id} was created for ${upload.bytes}. It is still pending: name all its parts, add what is missing, or cancel it.`,
      { param: "part_ids", code: "bytes_mismatch" },
    );
  }
  return chosen;
}

/** Throws InvalidRequest. */
function checkMd5(upload: PartedUpload, { expected, hash }: { expected: string; hash: Hash }): void {
  const found = hash.digest("hex");
  if (found === expected) return;
  throw new InvalidRequest(
    `Invalid 'md5': the parts in this order have ${found}, not ${expected}. Upload ${upload.id} is still pending: check the order of 'part_ids', or add the part that is damaged again.`,
    { param: "md5", code: "md5_mismatch" },
  );
}

/** The bytes of the parts, one after the other; at no time is more than a piece of one in memory. */
async function* joined(
  chosen: readonly UploadPart[],
  partBlobs: BlobStore,
  md5: Hash | undefined,
): AsyncGenerator<Uint8Array> {
  for (const { id } of chosen) {
    for await (const chunk of (await partBlobs.read(id)) as AsyncIterable<Uint8Array>) {
      md5?.update(chunk);
      yield chunk;
    }
  }
}

function beingCompleted(id: string): Busy {
  return new Busy(
    `Upload ${id} is being completed or cancelled. Wait for that answer; if a completion fails, the upload is pending again.`,
    { code: "upload_being_completed" },
  );
}

function toUploadObject(upload: PartedUpload, file?: StoredFile): UploadObject {
  return {
    id: upload.id,
    object: "upload",
    bytes: upload.bytes,
    created_at: upload.createdAt,
    filename: upload.filename,
    purpose: upload.purpose,
    status: upload.status,
    expires_at: upload.expiresAt,
    ...(file === undefined ? {} : { file: toFileObject(file) }),
  };
}

function toPartObject(part: UploadPart): UploadPartObject {
  return { id: part.id, object: "upload.part", created_at: part.createdAt, upload_id: part.uploadId };
}

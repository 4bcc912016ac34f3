// Receiving a multipart upload: the file goes straight to the disk, whatever the order of the form's members; a request that
// is wrong or breaks off leaves nothing behind. It stores bytes and returns what is known of them; rows are files.ts's.
import type { FastifyRequest } from "fastify";
import { InvalidRequest, TunesmithError } from "../errors.ts";
import type { BlobStore, WrittenBlob } from "../store/blobs.ts";
import type { NewUpload } from "../store/files.ts";
import { BATCH_FILE_TTL_SECONDS, createFileFields, UPLOAD_PURPOSES } from "../wire/files.ts";
import type { CreateFileFields } from "../wire/files.ts";
import { newId } from "../wire/ids.ts";
import { parseRequest } from "../wire/validation.ts";

/** Members of an upload are few and short; more is a mistake or an attack. */
const MULTIPART_LIMITS = {
  files: 2,
  fields: 10,
  fieldSize: 4096,
  fieldNameSize: 100,
  headerPairs: 50,
  parts: 12,
  // The blob store counts the file's bytes and refuses in the protocol's words.
  fileSize: Number.POSITIVE_INFINITY,
};
const MAX_FILENAME_LENGTH = 255;

/** Writes the upload's blob and returns the row to store for it. */
export async function receiveUpload(
  request: FastifyRequest,
  blobs: BlobStore,
  maxUploadBytes: number,
): Promise<NewUpload> {
  if (!request.isMultipart()) {
    throw new InvalidRequest("Expected a 'multipart/form-data' body with a 'file' and a 'purpose'.", {
      param: "file",
    });
  }
  const id = newId("file");
  let received: { blob: WrittenBlob; filename: string } | null = null;
  // Without a prototype, or a member named __proto__[purpose] would be read as one named purpose.
  const fields = Object.create(null) as Record<string, unknown>;
  try {
    for await (const part of request.parts({ limits: MULTIPART_LIMITS })) {
      if (part.type === "field") {
        addField(fields, part.fieldname, part.value, part.valueTruncated);
        continue;
      }
      if (part.fieldname !== "file" || received !== null) {
        throw new InvalidRequest(
          part.fieldname === "file"
            ? "Expected one 'file', but got a second one. Send each file in a request of its own."
            : `Unknown parameter: '${part.fieldname}'.`,
          { code: "unknown_parameter", param: part.fieldname },
        );
      }
      const filename = cleanFilename(part.filename);
      received = { blob: await blobs.write(id, part.file, { maxBytes: maxUploadBytes }), filename };
    }
    if (received === null) {
      throw new InvalidRequest(
        "file" in fields
          ? "'file' must be a file: send it as a form member with a filename."
          : "Missing required parameter: 'file'.",
        { code: "missing_required_parameter", param: "file" },
      );
    }
    const parsed = parseFields(fields);
    return {
      id,
      projectId: request.project,
      filename: received.filename,
      purpose: parsed.purpose,
      bytes: received.blob.bytes,
      sha256: received.blob.sha256,
      expiresAfterSeconds: lifeSeconds(parsed),
    };
  } catch (error) {
    await blobs.delete(id);
    await drain(request, maxUploadBytes);
    throw isMalformedForm(error) ? brokenOff(error) : error;
  }
}

const brokenOff = (cause?: unknown) =>
  new InvalidRequest(
    "The upload ended before its form did, or is no well-formed 'multipart/form-data', so nothing was stored. Send it again.",
    { param: "file", cause },
  );

/** The form parser throws plain errors and tells of itself in the text only; the needle is a boundary above 252 characters. */
function isMalformedForm(error: unknown): boolean {
  return (
    error instanceof Error &&
    !(error instanceof TunesmithError) &&
    /multipart|boundary|needle/i.test(error.message)
  );
}

/**
 * Reads the rest of a refused upload and throws it away: most clients look for an answer only when they have sent everything,
 * and would otherwise report a broken connection. Whoever sends much more is cut off.
 */
async function drain(request: FastifyRequest, maxUploadBytes: number): Promise<void> {
  const { raw } = request;
  raw.unpipe();
  let bytes = 0;
  await new Promise<void>((resolve) => {
    if (raw.readableEnded) return resolve();
    raw.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > maxUploadBytes) raw.destroy();
    });
    raw.once("end", resolve).once("close", resolve).once("error", resolve);
    if (raw.destroyed) resolve();
    raw.resume();
  });
}

/** `expires_after[seconds]` becomes `expires_after: {seconds}`. */
function addField(fields: Record<string, unknown>, name: string, value: unknown, isTruncated: boolean): void {
  if (isTruncated) {
    throw new InvalidRequest(
      `Invalid '${name}': string too long. Expected at most ${MULTIPART_LIMITS.fieldSize} bytes.`,
      { code: "string_above_max_length", param: name },
    );
  }
  const [, object, key] = /^([^[\]]+)\[([^[\]]+)\]$/.exec(name) ?? [];
  if (object === undefined || key === undefined) fields[name] = value;
  else fields[object] = { ...(fields[object] as object | undefined), [key]: value };
}

function parseFields(
  fields: Record<string, unknown>,
): CreateFileFields & { purpose: (typeof UPLOAD_PURPOSES)[number] } {
  const parsed = parseRequest(createFileFields, fields);
  const purpose = UPLOAD_PURPOSES.find((each) => each === parsed.purpose);
  if (purpose === undefined) {
    const allowed = UPLOAD_PURPOSES.map((each) => `'${each}'`).join(", ");
    throw new InvalidRequest(`'${parsed.purpose.slice(0, 80)}' is not one of [${allowed}] - 'purpose'`, {
      param: "purpose",
    });
  }
  return { ...parsed, purpose };
}

/** Null: it is kept until it is deleted. */
function lifeSeconds(fields: CreateFileFields): number | null {
  return fields.expires_after?.seconds ?? (fields.purpose === "batch" ? BATCH_FILE_TTL_SECONDS : null);
}

/**
 * The last part of a path, without control characters; the name is shown to people and never opened. The form parser's types
 * promise a name, but a part of a binary type may come without.
 */
function cleanFilename(filename: string | undefined = ""): string {
  const [last = ""] = filename.split(/[/\\]/).slice(-1);
  const clean = last.replaceAll(/[\u0000-\u001f\u007f]/g, "").trim();
  return clean === "" ? "file" : clean.slice(0, MAX_FILENAME_LENGTH);
}

// Receiving a multipart form with a file, or with a part of one: its bytes go straight to the disk, whatever the order of the
// form's members; a request that is wrong or breaks off leaves nothing behind. It stores bytes and returns what is known of them;
// rows are the routes'.
import type { FastifyRequest } from "fastify";
import { InvalidRequest, TunesmithError } from "../errors.ts";
import { FILE_TOO_LARGE } from "../store/blobs.ts";
import type { BlobLimit, BlobStore, WrittenBlob } from "../store/blobs.ts";
import type { NewUpload } from "../store/files.ts";
import { firstCharacters } from "../wire/characters.ts";
import { BATCH_FILE_TTL_SECONDS, createFileFields, UPLOAD_PURPOSES } from "../wire/files.ts";
import type { CreateFileFields, UploadPurpose } from "../wire/files.ts";
import { newId } from "../wire/ids.ts";
import { createPartFields, MAX_PART_BYTES } from "../wire/uploads.ts";
import { parseRequest } from "../wire/validation.ts";
import { ExtendedFilename } from "./extended-filename.ts";

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
/** Characters of a name that are kept; what a file system takes. */
const MAX_FILENAME_LENGTH = 255;

/** What a form brought: its file, which is a blob now, and its other members. */
interface ReceivedForm {
  blob: WrittenBlob;
  filename: string;
  fields: Record<string, unknown>;
}

interface FormOptions {
  /** The member that is the file. */
  member: string;
  /** The others that the form may have. */
  members: readonly string[];
  /** The form as a message names it. */
  expected: string;
  /** Of the blob. */
  id: string;
  blobs: BlobStore;
  limit: BlobLimit;
}

/**
 * Receives the form and does with it what `use` says; when either throws, the blob is removed. `admit` runs before anything is
 * read.
 */
async function receiveForm<T>(
  request: FastifyRequest,
  options: FormOptions,
  use: (form: ReceivedForm) => T | Promise<T>,
  admit?: () => Promise<void>,
): Promise<T> {
  const { id, blobs, limit } = options;
  try {
    await admit?.();
    return await use(await readForm(request, options));
  } catch (error) {
    await blobs.delete(id);
    await drain(request, limit.maxBytes);
    if (isAboveLimits(error)) throw tooManyMembers(options, error);
    throw isMalformedForm(error) ? brokenOff(options.member, error) : error;
  }
}

async function readForm(request: FastifyRequest, options: FormOptions): Promise<ReceivedForm> {
  const { member, members, id, blobs, limit } = options;
  if (!request.isMultipart()) {
    throw new InvalidRequest(`Expected a 'multipart/form-data' body with ${options.expected}.`, {
      param: member,
    });
  }
  let received: { blob: WrittenBlob; filename: string } | null = null;
  // Without a prototype, or a member named __proto__[purpose] would be read as one named purpose.
  const fields = Object.create(null) as Record<string, unknown>;
  const extended = new ExtendedFilename(request.headers["content-type"]);
  request.raw.on("data", (chunk: Buffer) => extended.see(chunk));
  for await (const part of request.parts({ limits: MULTIPART_LIMITS })) {
    // Typed as a text; a part whose header names none has none.
    if ((part.fieldname as string | undefined) === undefined) {
      throw new InvalidRequest(
        `A member of your form has no name. Expected ${options.expected}, each with a name in its 'Content-Disposition'.`,
        { code: "missing_required_parameter", param: member },
      );
    }
    if (part.type === "field") {
      // At once, so that the first one is named, however many there are.
      const [name = ""] = part.fieldname.split("[");
      if (name !== member && !members.includes(name)) throw unknownMember(name);
      addField(fields, part.fieldname, part.value, part.valueTruncated);
      continue;
    }
    if (part.fieldname !== member) throw unknownMember(part.fieldname);
    if (received !== null) {
      throw new InvalidRequest(
        `Expected one '${member}', but got a second one. Send each in a request of its own.`,
        { code: "unknown_parameter", param: member },
      );
    }
    const blob = await blobs.write(id, part.file, limit);
    received = { blob, filename: cleanFilename(extended.name ?? part.filename) };
  }
  if (received === null) {
    throw new InvalidRequest(
      member in fields
        ? `'${member}' must be a file: send it as a form member with a filename.`
        : `Missing required parameter: '${member}'.`,
      { code: "missing_required_parameter", param: member },
    );
  }
  return { ...received, fields };
}

/** Writes a file's blob and returns the row to store for it. */
export async function receiveUpload(
  request: FastifyRequest,
  blobs: BlobStore,
  maxUploadBytes: number,
): Promise<NewUpload> {
  const options: FormOptions = {
    member: "file",
    members: Object.keys(createFileFields.shape),
    expected: "a 'file' and a 'purpose'",
    id: newId("file"),
    blobs,
    limit: { maxBytes: maxUploadBytes },
  };
  return receiveForm(request, options, ({ blob, filename, fields }) => {
    const parsed = parseFields(fields);
    return {
      id: options.id,
      projectId: request.project,
      filename,
      purpose: parsed.purpose,
      bytes: blob.bytes,
      sha256: blob.sha256,
      expiresAfterSeconds: lifeSeconds(parsed.purpose, parsed.expires_after),
    };
  });
}

/** Writes the blob of an upload's part. `admit` throws when the upload takes none. */
export async function receivePart(
  request: FastifyRequest,
  blobs: BlobStore,
  admit: () => Promise<void>,
): Promise<WrittenBlob & { id: string }> {
  const options: FormOptions = {
    member: "data",
    members: Object.keys(createPartFields.shape),
    expected: "the part's bytes as 'data'",
    id: newId("uploadPart"),
    blobs,
    limit: { maxBytes: MAX_PART_BYTES, refuse: partTooLarge },
  };
  const use = ({ blob, fields }: ReceivedForm) => {
    parseRequest(createPartFields, fields);
    return { id: options.id, ...blob };
  };
  return receiveForm(request, options, use, admit);
}

/**
 * Waits for the row of bytes that are written, and discards them when it is refused. After any other failure the row may stand all
 * the same, committed but not flushed: bytes without a row are swept, a row without bytes could not be helped.
 */
export async function keptUnlessRefused<T>(row: Promise<T>, discard: () => Promise<void>): Promise<T> {
  try {
    return await row;
  } catch (error) {
    if (error instanceof TunesmithError) await discard();
    throw error;
  }
}

const partTooLarge = (maxBytes: number) =>
  new InvalidRequest(
    `Part is too large: expected at most ${maxBytes} bytes (${maxBytes / 2 ** 20} MB). Send it as several parts.`,
    { param: "data", code: FILE_TOO_LARGE },
  );

const unknownMember = (name: string) =>
  new InvalidRequest(`Unknown parameter: '${name.slice(0, 80)}'.`, {
    code: "unknown_parameter",
    param: name,
  });

const tooManyMembers = ({ member, expected }: FormOptions, cause: unknown) =>
  new InvalidRequest(
    `Your form has more members than any that is right. Expected ${expected}, each once, and at most ${MULTIPART_LIMITS.fields} members beside the file.`,
    { param: member, cause },
  );

const brokenOff = (param: string, cause?: unknown) =>
  new InvalidRequest(
    "The upload ended before its form did, or is no well-formed 'multipart/form-data', so nothing was stored. Send it again.",
    { param, cause },
  );

/** The parser's own words for more members than MULTIPART_LIMITS. */
function isAboveLimits(error: unknown): boolean {
  return (
    error instanceof Error && "code" in error && /^FST_(PARTS|FILES|FIELDS)_LIMIT$/.test(String(error.code))
  );
}

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

/** `expires_after[seconds]` becomes `expires_after: {seconds}`. Of two values for one member neither would be the right one. */
function addField(fields: Record<string, unknown>, name: string, value: unknown, isTruncated: boolean): void {
  if (isTruncated) {
    throw new InvalidRequest(
      `Invalid '${name}': string too long. Expected at most ${MULTIPART_LIMITS.fieldSize} bytes.`,
      { code: "string_above_max_length", param: name },
    );
  }
  const [, object, key] = /^([^[\]]+)\[([^[\]]+)\]$/.exec(name) ?? [];
  const isNested = object !== undefined && key !== undefined;
  const given = isNested ? fields[object] : undefined;
  if (isNested ? typeof given === "string" || Object.hasOwn(given ?? {}, key) : name in fields) {
    throw new InvalidRequest(`Invalid '${name}': expected it once in the form, but got it twice.`, {
      code: "invalid_value",
      param: name,
    });
  }
  if (isNested) fields[object] = { ...(given as object | undefined), [key]: value };
  else fields[name] = value;
}

function parseFields(fields: Record<string, unknown>): CreateFileFields & { purpose: UploadPurpose } {
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
export function lifeSeconds(
  purpose: UploadPurpose,
  expiresAfter: { seconds: number } | null | undefined,
): number | null {
  return expiresAfter?.seconds ?? (purpose === "batch" ? BATCH_FILE_TTL_SECONDS : null);
}

/**
 * The last part of a path, without control characters; the name is shown to people and never opened. The form parser's types
 * promise a name, but a part of a binary type may come without.
 */
export function cleanFilename(filename: string | undefined = ""): string {
  const [last = ""] = filename.split(/[/\\]/).slice(-1);
  const clean = last.replaceAll(/[\u0000-\u001f\u007f]/g, "").trim();
  return clean === "" ? "file" : firstCharacters(clean, MAX_FILENAME_LENGTH);
}

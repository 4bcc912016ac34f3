// Every error class of the project, named by what the caller can do about it. Anything else that is thrown is a bug:
// the API answers 500 for it and does not leak its message. Status codes are decided in api/app.ts, not here.

/** Root of all errors whose message is meant for the person who made the request. */
export class TunesmithError extends Error {
  override readonly name: string = "TunesmithError";
  /** OpenAI's machine-readable reason, where it has one for the case. */
  readonly code: string | null;
  /** The request member, config field or file field at fault. */
  readonly param: string | null;

  constructor(
    message: string,
    details: { code?: string | null; param?: string | null; cause?: unknown } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = details.code ?? null;
    this.param = details.param ?? null;
  }
}

/** The request cannot be carried out as written. The caller changes the request. */
export class InvalidRequest extends TunesmithError {
  override readonly name = "InvalidRequest";
}

/** No object has this id, or it was deleted. The caller uses another id. */
export class NotFound extends TunesmithError {
  override readonly name = "NotFound";
}

/** The object is in a state that does not allow this. The caller looks at the object first. */
export class Conflict extends TunesmithError {
  override readonly name = "Conflict";
}

/** A base model that cannot be used: an unknown architecture, a missing tensor, a corrupt file. The caller takes another model. */
export class UnsupportedModel extends TunesmithError {
  override readonly name = "UnsupportedModel";
}

/** Training or validation data that cannot be trained on. The caller mends the file. */
export class DatasetError extends TunesmithError {
  override readonly name = "DatasetError";
  /** 1-based lines at fault, in file order, at most `MAX_NAMED_LINES` of data/dataset. */
  readonly lines: readonly number[];

  constructor(
    message: string,
    details: { code?: string | null; param?: string | null; cause?: unknown; lines?: readonly number[] } = {},
  ) {
    super(message, details);
    this.lines = details.lines ?? [];
  }
}

/** The machine lacks disk space or memory for this. The caller frees some and tries again; nothing was lost. */
export class OutOfSpace extends TunesmithError {
  override readonly name = "OutOfSpace";
}

/** Something outside this process (a download, a disk, another server) failed. The caller may try again. */
export class Unavailable extends TunesmithError {
  override readonly name = "Unavailable";
}

/** More is asked than there is room for at the moment. The caller waits a little and sends the same again. */
export class Overloaded extends TunesmithError {
  override readonly name = "Overloaded";
}

/** The work was stopped on request. */
export class Cancelled extends TunesmithError {
  override readonly name = "Cancelled";
  constructor(message = "The work was cancelled.") {
    super(message);
  }
}

/** An error as it goes from one process or thread to another, where its class is lost. */
export interface PlainError {
  name: string;
  message: string;
  code: string | null;
  param: string | null;
}

export function toPlain(error: unknown): PlainError {
  const { code, param } = error instanceof TunesmithError ? error : { code: null, param: null };
  return {
    name: error instanceof TunesmithError ? error.name : "Error",
    message: messageOf(error),
    code,
    param,
  };
}

/** What a caller can do something about. */
const KNOWN = {
  InvalidRequest,
  NotFound,
  Conflict,
  UnsupportedModel,
  DatasetError,
  OutOfSpace,
  Unavailable,
  Overloaded,
};

/** The error again; one that is none of the above is a bug there as well. */
export function fromPlain({ name, message, ...details }: PlainError): Error {
  const found = Object.entries(KNOWN).find(([known]) => known === name);
  return found === undefined ? new Error(message) : new found[1](message, details);
}

/** What the system, and SQLite in its place, says where there is no room: the last is for the index of its log, a file of its own. */
const NO_ROOM_CODES: readonly unknown[] = ["ENOSPC", "EDQUOT", "SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"];

/** Whether a write was refused because the disk is full or the user's quota is used up. */
export function isFullDisk(error: unknown): boolean {
  return error instanceof Error && "code" in error && NO_ROOM_CODES.includes(error.code);
}

/** The message of anything thrown, for logs and wrapping. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

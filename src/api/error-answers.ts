// The one mapping from what was thrown to what the client gets: status, type, code, param, and whether trying again helps.
import { STATUS_CODES } from "node:http";
import {
  Cancelled,
  Conflict,
  DatasetError,
  InvalidRequest,
  NotFound,
  OutOfSpace,
  Overloaded,
  TunesmithError,
  Unavailable,
  UnsupportedModel,
} from "../errors.ts";
import { FILE_TOO_LARGE } from "../store/blobs.ts";
import { TooManyIdempotencyKeys } from "../store/idempotency.ts";
import type { ErrorEnvelope, ErrorType } from "../wire/error.ts";
import { UNSUPPORTED_ENCODING } from "./content-encoding.ts";

/** The request lacks a valid key. The caller sends one. */
export class Unauthorized extends TunesmithError {
  override readonly name = "Unauthorized";
}

/** The request comes from where it must not, whoever sent it. */
export class Forbidden extends TunesmithError {
  override readonly name = "Forbidden";
}

/** Something else is at work on this. The caller tries again in a moment. */
export class Busy extends TunesmithError {
  override readonly name = "Busy";
}

/** The key has used up what it may in this time. The caller waits. */
export class RateLimited extends TunesmithError {
  override readonly name = "RateLimited";
  readonly kind: "requests" | "tokens";
  readonly retryAfterMs: number;

  constructor(message: string, details: { kind: "requests" | "tokens"; retryAfterMs: number }) {
    super(message, { code: "rate_limit_exceeded" });
    this.kind = details.kind;
    this.retryAfterMs = details.retryAfterMs;
  }
}

export interface ErrorAnswer {
  status: number;
  body: ErrorEnvelope;
  /** False: the same request will fail again, so clients are told not to repeat it. */
  retry: boolean;
  /** When to try again, where that is known. */
  retryAfterSeconds?: number;
  /** A fault of this server, to be logged with its stack. */
  isBug: boolean;
}

export function errorAnswer(thrown: unknown, requestId: string): ErrorAnswer {
  if (thrown instanceof TunesmithError) return ofTunesmith(thrown);
  const status = clientFaultStatus(thrown);
  if (status !== null) {
    return answer(status, "invalid_request_error", { message: clientFaultMessage(thrown as Error) });
  }
  return {
    ...answer(500, "server_error", {
      message: `The server had an error while processing your request. It is in the server's log under the request id ${requestId}.`,
    }),
    // The same bug would meet the same request.
    retry: false,
    isBug: true,
  };
}

/** An address that leads nowhere. */
export function unknownUrl(method: string, url: string): ErrorAnswer {
  const [path = ""] = url.split("?");
  return answer(404, "invalid_request_error", {
    message: `Invalid URL (${method} ${path.slice(0, 200)})`,
  });
}

/** What the HTTP parser refused, by its code. */
export function unreadableRequest(code: string | undefined, maxHeaderBytes: number): ErrorAnswer {
  const refused = (status: number, message: string) => answer(status, "invalid_request_error", { message });
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return refused(
        431,
        `The address and headers of your request are too large: at most ${maxHeaderBytes} bytes are read. Send a shorter address, or shorter headers (the API key is one).`,
      );
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return {
        ...refused(408, "Your request did not arrive in time. Send it again, all of it at once."),
        retry: true,
      };
    default:
      return refused(
        400,
        "Your request could not be read as HTTP/1.1. Check the address (http, not https) and what writes the request.",
      );
  }
}

/** A request to be a proxy. */
export function refusedTunnel(): ErrorAnswer {
  return answer(405, "invalid_request_error", {
    message:
      "Not allowed to CONNECT: this server is no proxy. Send your request to it itself, and name no proxy for it.",
    code: "method_not_supported",
  });
}

/** Another `Expect` than the one HTTP knows. */
export function refusedExpectation(expected: string): ErrorAnswer {
  return answer(417, "invalid_request_error", {
    message: `The header 'Expect' must be "100-continue", found ${JSON.stringify(expected.slice(0, 80))}. Leave it out.`,
  });
}

/** A known address with a method it does not have. */
export function wrongMethod(method: string, allowed: readonly string[]): ErrorAnswer {
  return answer(405, "invalid_request_error", {
    message: `Not allowed to ${method} on this address. Use ${allowed.join(" or ")}.`,
    code: "method_not_supported",
  });
}

/** OpenAI's clients wait no longer for a retry-after: beyond it they would come back within seconds, in vain. */
const MAX_AWAITED_SECONDS = 60;

/** When to try again where a queue is full: answers take seconds, and clients that come back together would only queue again. */
const OVERLOADED_RETRY_SECONDS = 2;

function ofTunesmith(error: TunesmithError): ErrorAnswer {
  const details = { message: error.message, code: error.code, param: error.param };
  const refused = (status: number) => answer(status, "invalid_request_error", details);
  if (error instanceof Unauthorized) return refused(401);
  if (error instanceof Forbidden) return refused(403);
  if (error instanceof RateLimited) {
    const retryAfterSeconds = Math.max(1, Math.ceil(error.retryAfterMs / 1000));
    const retry = retryAfterSeconds <= MAX_AWAITED_SECONDS;
    return { ...answer(429, error.kind, details), retry, retryAfterSeconds };
  }
  if (error instanceof Overloaded) {
    return { ...answer(429, "requests", details), retry: true, retryAfterSeconds: OVERLOADED_RETRY_SECONDS };
  }
  if (error instanceof Busy) return { ...refused(409), retry: true, retryAfterSeconds: 1 };
  if (error instanceof TooManyIdempotencyKeys) return answer(429, "requests", details);
  if (error instanceof NotFound) return refused(404);
  if (error instanceof Conflict) return refused(409);
  if (error instanceof InvalidRequest && error.code === FILE_TOO_LARGE) return refused(413);
  if (error instanceof InvalidRequest && error.code === UNSUPPORTED_ENCODING) return refused(415);
  if (error instanceof InvalidRequest && error.code === "max_tokens_per_request") {
    return answer(400, error.code, details);
  }
  if (error instanceof InvalidRequest || error instanceof DatasetError) return refused(400);
  if (error instanceof UnsupportedModel) return refused(400);
  if (error instanceof OutOfSpace) {
    return answer(507, "server_error", { ...details, code: error.code ?? "insufficient_storage" });
  }
  if (error instanceof Unavailable || error instanceof Cancelled) {
    return { ...answer(503, "service_unavailable_error", details), retry: true };
  }
  return { ...answer(500, "server_error", details), isBug: true };
}

function answer(
  status: number,
  type: ErrorType,
  details: { message: string; code?: string | null; param?: string | null },
): ErrorAnswer {
  const { message, code = null, param = null } = details;
  return { status, body: { error: { message, type, param, code } }, retry: false, isBug: false };
}

/** The status that the HTTP framework found for a bad request; null for everything that is no fault of the client's. */
function clientFaultStatus(thrown: unknown): number | null {
  if (!(thrown instanceof Error) || !("statusCode" in thrown)) return null;
  const status = thrown.statusCode;
  return typeof status === "number" && status >= 400 && status < 500 ? status : null;
}

export const UNREADABLE_JSON =
  "We could not parse the JSON body of your request. Expected one JSON object, encoded as UTF-8.";

function clientFaultMessage(error: Error & { code?: unknown; statusCode?: unknown }): string {
  switch (error.code) {
    case "FST_ERR_CTP_INVALID_JSON_BODY":
    case "FST_ERR_CTP_EMPTY_JSON_BODY":
      return UNREADABLE_JSON;
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
      return "Unsupported media type. Send 'Content-Type: application/json', or 'multipart/form-data' to upload a file.";
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return "The request body is too large. Send less at once; files of any size go through POST /v1/files.";
    default:
      return `${STATUS_CODES[Number(error.statusCode)] ?? "Bad request"}: ${error.message}`;
  }
}

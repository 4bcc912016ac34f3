// A small HTTP client of the OpenAI-compatible API: requests, error envelopes, server-sent events. It retries nothing: a
// person or a script sees each failure at once.
import { Readable } from "node:stream";
import { InvalidRequest, messageOf, TunesmithError } from "../errors.ts";
import { patientFetch } from "./patient-fetch.ts";

/** The server answered with an error envelope. */
export class ApiError extends TunesmithError {
  override readonly name = "ApiError";
  readonly status: number;
  readonly type: string | null;
  readonly requestId: string | null;

  constructor(
    message: string,
    details: {
      status: number;
      type: string | null;
      code: string | null;
      param: string | null;
      requestId: string | null;
    },
  ) {
    super(message, { code: details.code, param: details.param });
    this.status = details.status;
    this.type = details.type;
    this.requestId = details.requestId;
  }
}

/** Nothing answered at the base URL. */
export class ServerUnreachable extends TunesmithError {
  override readonly name = "ServerUnreachable";
}

export interface ApiClient {
  readonly baseUrl: string;
  // The type parameter names the wire type of the answer. It is believed, not checked: the server of the same package
  // prints it with that type.
  get<Answer>(path: string, query?: Query): Promise<Answer>;
  post<Answer>(path: string, body?: object | FormData, headers?: Record<string, string>): Promise<Answer>;
  delete<Answer>(path: string): Promise<Answer>;
  /** The untouched answer of a GET, for file contents and for what takes the server its time. */
  download(path: string): Promise<Response>;
  /** Posts an archive as it is read; the answer may take as long as it needs. */
  postArchive<Answer>(path: string, query: Query, archive: Readable): Promise<Answer>;
  /** The JSON of each server-sent event up to `[DONE]`; throws ApiError when an event carries an error. */
  stream<Event>(path: string, body: object, signal: AbortSignal): AsyncIterable<Event>;
}

export type Query = Record<string, string | number | undefined>;

export function createClient(options: {
  baseUrl: string;
  apiKey: string | null;
  signal: AbortSignal;
}): ApiClient {
  const baseUrl = checkedBaseUrl(options.baseUrl);
  const apiKey = options.apiKey === null ? null : checkedKey(options.apiKey);

  async function send(
    method: string,
    path: string,
    body?: object | FormData | Readable,
    signal: AbortSignal = options.signal,
    isPatient = false,
    more: Record<string, string> = {},
  ): Promise<Response> {
    const headers: Record<string, string> = { ...more };
    if (apiKey !== null) headers["authorization"] = `Bearer ${apiKey}`;
    const archive = body instanceof Readable ? body : undefined;
    if (archive !== undefined) headers["content-type"] = "application/x-tar";
    else if (body !== undefined && !(body instanceof FormData)) headers["content-type"] = "application/json";
    let response: Response;
    try {
      const url = addressOf(baseUrl, path);
      response = isPatient
        ? await patientFetch(url, {
            method: archive === undefined ? "GET" : "POST",
            headers,
            signal,
            body: archive,
          })
        : await fetch(url, {
            method,
            headers,
            signal,
            body: body === undefined ? null : body instanceof FormData ? body : JSON.stringify(body),
          });
    } catch (error) {
      if (signal.aborted || error instanceof TunesmithError) throw error;
      throw unreachable(baseUrl, error);
    }
    if (!response.ok) throw await errorOf(response, baseUrl);
    return response;
  }

  async function json<Answer>(response: Response): Promise<Answer> {
    const text = await bodyText(response, baseUrl, options.signal);
    try {
      return JSON.parse(text) as Answer;
    } catch (error) {
      throw new TunesmithError(
        `Expected JSON from ${response.url}, found ${quoteStart(text)}. Check that the base URL names a tunesmith or OpenAI-compatible API and ends in /v1.`,
        { cause: error },
      );
    }
  }

  return {
    baseUrl,
    get: async <Answer>(path: string, query: Query = {}) =>
      json<Answer>(await send("GET", path + queryText(query))),
    post: async <Answer>(path: string, body?: object | FormData, headers: Record<string, string> = {}) =>
      json<Answer>(await send("POST", path, body, options.signal, false, headers)),
    delete: async <Answer>(path: string) => json<Answer>(await send("DELETE", path)),
    download: (path) => send("GET", path, undefined, options.signal, true),
    postArchive: async <Answer>(path: string, query: Query, archive: Readable) =>
      json<Answer>(await send("POST", path + queryText(query), archive, options.signal, true)),
    async *stream<Event>(path: string, body: object, signal: AbortSignal) {
      const response = await send("POST", path, body, signal);
      try {
        for await (const data of eventData(response)) {
          if (data === "[DONE]") return;
          const event: unknown = JSON.parse(data);
          const failure = envelopeError(event);
          if (failure !== null) {
            throw new ApiError(failure.message, {
              ...failure,
              status: response.status,
              requestId: response.headers.get("x-request-id"),
            });
          }
          yield event as Event;
        }
      } catch (error) {
        if (signal.aborted || error instanceof TunesmithError) throw error;
        throw brokenOff(baseUrl, error);
      }
      throw brokenOff(baseUrl, new Error("the stream ended without [DONE]"));
    },
  };
}

/** Without slashes at its end. Throws InvalidRequest for what `fetch` would not take, or would not send. */
function checkedBaseUrl(given: string): string {
  const problem = (found: string): InvalidRequest =>
    new InvalidRequest(
      `"${shownUrl(given)}" is no base URL: expected one like http://127.0.0.1:8080/v1, from --base-url or TUNESMITH_BASE_URL${found}.`,
    );
  if (!/^https?:\/\/./i.test(given) || !URL.canParse(given)) throw problem("");
  const url = new URL(given);
  if (url.username !== "" || url.password !== "")
    throw problem(", without a user and a password; a key goes into --api-key or TUNESMITH_API_KEY");
  if (url.search !== "" || url.hash !== "" || given.includes("?"))
    throw problem(", without anything from ? or # on");
  return (url.origin + url.pathname).replace(/\/+$/, "");
}

/** A base URL for people: what stands before an @ may be a password. */
export function shownUrl(text: string): string {
  return text.replace(/^([a-z]+:\/\/)?.*@/is, "$1…@");
}

/** Without blanks around it, as a file's last line end is one. Throws InvalidRequest, without the key, for what no header can carry. */
function checkedKey(given: string): string {
  const key = given.trim();
  if (/^[\x21-\x7e]+$/.test(key)) return key;
  const found = key === "" ? "nothing" : "other characters";
  throw new InvalidRequest(
    `Expected a key of visible ASCII characters in --api-key or TUNESMITH_API_KEY, found ${found}. See that it was copied whole and alone.`,
  );
}

/** Our own additions lie beside OpenAI's protocol, not below it. */
function addressOf(baseUrl: string, path: string): string {
  return (path.startsWith("/tunesmith/") ? baseUrl.replace(/\/v1$/, "") : baseUrl) + path;
}

/** Yields the data of each server-sent event. Comment lines and other fields are skipped. */
async function* eventData(response: Response): AsyncIterable<string> {
  if (response.body === null) return;
  let pending = "";
  let data: string[] = [];
  const decoder = new TextDecoder();
  for await (const chunk of response.body) {
    pending += decoder.decode(chunk as Uint8Array, { stream: true });
    const lines = pending.split(/\r?\n/);
    pending = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield data.join("\n");
        data = [];
      } else if (line.startsWith("data:")) {
        data.push(line.slice("data:".length).replace(/^ /, ""));
      }
    }
  }
}

async function bodyText(response: Response, baseUrl: string, signal: AbortSignal): Promise<string> {
  try {
    return await response.text();
  } catch (error) {
    if (signal.aborted) throw error;
    throw brokenOff(baseUrl, error);
  }
}

async function errorOf(response: Response, baseUrl: string): Promise<TunesmithError> {
  const requestId = response.headers.get("x-request-id");
  const text = await response.text().catch(() => "");
  let failure: ReturnType<typeof envelopeError> = null;
  try {
    failure = envelopeError(JSON.parse(text));
  } catch {
    // Not JSON: some other program or a proxy answered; the message below says so.
  }
  const status = response.status;
  if (failure === null) {
    const message = `${baseUrl} answered ${status} with ${quoteStart(text)} instead of an OpenAI error. Check that the base URL names a tunesmith or OpenAI-compatible API and ends in /v1.`;
    return new ApiError(message, { status, type: null, code: null, param: null, requestId });
  }
  const hint = hintFor(status, failure.message, baseUrl);
  return new ApiError(failure.message + hint, { ...failure, status, requestId });
}

function hintFor(status: number, message: string, baseUrl: string): string {
  if (status === 401) return " Give the key with --api-key or in TUNESMITH_API_KEY.";
  // What a server of ours says of an address, not of an object.
  const isUnknownAddress = status === 404 && message.startsWith("Invalid URL");
  if (!isUnknownAddress || baseUrl.endsWith("/v1")) return "";
  return `. The base URL ${baseUrl} does not end in /v1, as that of the API does.`;
}

function envelopeError(
  body: unknown,
): { message: string; type: string | null; code: string | null; param: string | null } | null {
  if (typeof body !== "object" || body === null || !("error" in body)) return null;
  const error = body.error;
  if (typeof error !== "object" || error === null || !("message" in error)) return null;
  const text = (value: unknown): string | null => (typeof value === "string" ? value : null);
  const member = error as Record<string, unknown>;
  return {
    message: text(error.message) ?? "The server gave no message.",
    type: text(member["type"]),
    code: text(member["code"]),
    param: text(member["param"]),
  };
}

function unreachable(baseUrl: string, error: unknown): TunesmithError {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  if (messageOf(cause) === "bad port")
    return new InvalidRequest(
      `Port ${new URL(baseUrl).port} is one that HTTP clients refuse to speak to. Let the server listen on another, with "tunesmith serve --port".`,
      { cause: error },
    );
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : "";
  const reason = code === "ECONNREFUSED" ? "connection refused" : code || messageOf(cause);
  return new ServerUnreachable(
    `No server answers at ${baseUrl} (${reason}). Start one with "tunesmith serve", or name a running one with --base-url or TUNESMITH_BASE_URL.`,
    { cause: error },
  );
}

function brokenOff(baseUrl: string, error: unknown): ServerUnreachable {
  return new ServerUnreachable(
    `The connection to ${baseUrl} broke off before the answer was complete (${messageOf(error)}). See whether the server is still running, then try again.`,
    { cause: error },
  );
}

function queryText(query: Query): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) parameters.set(name, String(value));
  }
  return parameters.size === 0 ? "" : `?${parameters.toString()}`;
}

/** Enough of an unexpected body to recognise who sent it. */
const QUOTED_CHARACTERS = 80;

function quoteStart(text: string): string {
  if (text === "") return "an empty body";
  return JSON.stringify(text.length > QUOTED_CHARACTERS ? `${text.slice(0, QUOTED_CHARACTERS)}…` : text);
}

// The calls to OpenAI that the way out needs, by Node's own fetch: bounded retries, Retry-After, pages. What is sent once and never again
// without the caller's word is `attempt`. The key is in the Authorization header and nowhere else.
import { setMaxListeners } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import type { z } from "zod";
import { Cancelled, InvalidRequest, messageOf, TunesmithError, Unavailable } from "../errors.ts";
import { openAiPage } from "./openai-objects.ts";

export interface OpenAiAccess {
  baseUrl: string;
  apiKey: string | null;
  organization: string | null;
  project: string | null;
}

/** OpenAI answered, and the answer is no. */
export class OpenAiError extends TunesmithError {
  override readonly name = "OpenAiError";
  readonly status: number;
  readonly type: string | null;

  constructor(
    message: string,
    details: { status: number; type: string | null; code: string | null; param: string | null },
  ) {
    super(message, details);
    this.status = details.status;
    this.type = details.type;
  }
}

/** What became of one request. `lost`: nobody can say whether it was carried out. */
export type Attempt =
  | { kind: "answered"; response: Response }
  | { kind: "refused"; error: OpenAiError; mayRetry: boolean; retryAfterMs: number | null }
  | { kind: "lost"; error: Unavailable };

/** Tries of a request that changes nothing, before what went wrong is the answer. */
const MAX_ATTEMPTS = 6;
/** Wait before the second try in milliseconds; it doubles from try to try. */
const FIRST_WAIT_MS = 500;
/** Longest wait between two tries that nobody asked for. */
const MAX_WAIT_MS = 30_000;
/** Longest Retry-After that is waited for; beyond, a person should decide. */
const MAX_RETRY_AFTER_MS = 120_000;
/** Until a request's answer begins; of JSON, until it is complete. A listing of 10,000 files takes OpenAI seconds. */
const ANSWER_TIMEOUT_MS = 60_000;
/** More than any command has requests at a time. */
const MAX_LISTENERS = 64;
/** Pages of one list, so that a cursor that leads nowhere ends. */
const MAX_PAGES = 10_000;

export interface OpenAiClient {
  readonly baseUrl: string;
  /** The JSON of a GET; throws OpenAiError, or Unavailable once the tries are used up. */
  get(path: string, query?: Query): Promise<unknown>;
  /** Every element of a list with cursors, page after page. */
  list<Element extends { id: string }>(
    path: string,
    element: z.ZodType<Element>,
    query?: Query,
  ): AsyncGenerator<Element, void, void>;
  /** The answer of a GET with its body still to be read. */
  open(path: string, headers?: Record<string, string>): Promise<Response>;
  /** One POST, tried once. Waits for its turn when OpenAI has asked for a pause. */
  attempt(path: string, body: object, timeoutMs: number): Promise<Attempt>;
  /** Waits before another try, as long as was asked for or, from try to try, longer. Throws `error` where that is no use. */
  waitToRetry(tries: number, retryAfterMs: number | null, error: TunesmithError): Promise<void>;
}

export type Query = Record<string, string | number>;

/** Throws InvalidRequest without a key or with a base URL that is none. */
export function createOpenAiClient(access: OpenAiAccess, signal: AbortSignal): OpenAiClient {
  const baseUrl = access.baseUrl.replace(/\/+$/, "");
  if (!/^https?:\/\/./.test(baseUrl) || !URL.canParse(baseUrl))
    throw new InvalidRequest(
      `"${access.baseUrl}" is no base URL: expected one like https://api.openai.com/v1 in OPENAI_BASE_URL.`,
    );
  const { apiKey } = access;
  if (apiKey === null)
    throw new InvalidRequest(
      'There is no key for OpenAI: set OPENAI_API_KEY, which is read from the environment alone. Without a key, "tunesmith migrate openai pull --from FOLDER" takes files saved by hand.',
    );
  if (!/^[\x21-\x7e]+$/.test(apiKey))
    throw new InvalidRequest(
      "OPENAI_API_KEY is no key: expected visible ASCII characters without spaces. Copy it again.",
    );
  const credentials: Record<string, string> = { authorization: `Bearer ${apiKey}` };
  if (access.organization !== null) credentials["openai-organization"] = access.organization;
  if (access.project !== null) credentials["openai-project"] = access.project;
  // Every request in flight or at rest listens for the end; Node would warn of more than ten.
  setMaxListeners(MAX_LISTENERS, signal);
  /** Until when all requests rest, because one was told to. */
  let restUntilMs = 0;

  async function rest(): Promise<void> {
    for (let left = restUntilMs - performance.now(); left > 0; left = restUntilMs - performance.now())
      await sleep(left, signal);
  }

  async function send(
    method: string,
    path: string,
    options: { body?: object; headers?: Record<string, string>; timeoutMs: number; whole: boolean },
  ): Promise<Attempt> {
    await rest();
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), options.timeoutMs);
    try {
      const headers: Record<string, string> = { ...credentials, ...options.headers };
      if (options.body !== undefined) headers["content-type"] = "application/json";
      const response = await fetch(baseUrl + path, {
        method,
        headers,
        signal: AbortSignal.any([signal, timeout.signal]),
        body: options.body === undefined ? null : JSON.stringify(options.body),
      });
      if (!response.ok) return refusal(response, await response.text(), apiKey ?? "");
      if (!options.whole) return { kind: "answered", response };
      // Read within the time limit, so that an answer that breaks off is seen here.
      return { kind: "answered", response: new Response(await response.text(), response) };
    } catch (error) {
      if (signal.aborted) throw new Cancelled();
      const reason = timeout.signal.aborted
        ? `no answer within ${options.timeoutMs / 1000} seconds`
        : causeOf(error);
      return {
        kind: "lost",
        error: new Unavailable(
          `${baseUrl} could not be reached (${redacted(reason, apiKey ?? "")}). Check the network and OPENAI_BASE_URL, then run the command again.`,
          { cause: error },
        ),
      };
    } finally {
      clearTimeout(timer);
    }
  }

  async function waitToRetry(
    tries: number,
    retryAfterMs: number | null,
    error: TunesmithError,
  ): Promise<void> {
    if (tries >= MAX_ATTEMPTS) throw error;
    if (retryAfterMs !== null && retryAfterMs > MAX_RETRY_AFTER_MS) {
      const seconds = Math.ceil(retryAfterMs / 1000);
      throw new Unavailable(
        `OpenAI asks to wait ${seconds} seconds, longer than this program waits (${MAX_RETRY_AFTER_MS / 1000}). Run the command again then; what it has is kept. It said: ${error.message}`,
        { cause: error },
      );
    }
    if (retryAfterMs !== null) {
      restUntilMs = Math.max(restUntilMs, performance.now() + retryAfterMs);
      return rest();
    }
    // Some of the wait is chance, so that requests that failed together do not come again together.
    const waitMs = Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** (tries - 1));
    await sleep(waitMs * (1 - Math.random() / 4), signal);
  }

  async function getPatiently(
    path: string,
    options: { headers?: Record<string, string>; whole: boolean },
  ): Promise<Response> {
    for (let tries = 1; ; tries++) {
      const attempt = await send("GET", path, { ...options, timeoutMs: ANSWER_TIMEOUT_MS });
      if (attempt.kind === "answered") return attempt.response;
      if (attempt.kind === "refused" && !attempt.mayRetry) throw attempt.error;
      await waitToRetry(tries, attempt.kind === "refused" ? attempt.retryAfterMs : null, attempt.error);
    }
  }

  async function get(path: string, query: Query = {}): Promise<unknown> {
    const response = await getPatiently(path + queryText(query), { whole: true });
    const text = await response.text();
    try {
      return JSON.parse(text) as unknown;
    } catch (error) {
      throw new Unavailable(
        `Expected JSON from ${baseUrl}${path}, found something else. Check that OPENAI_BASE_URL names OpenAI's API and ends in /v1.`,
        { cause: error },
      );
    }
  }

  async function* list<Element extends { id: string }>(
    path: string,
    element: z.ZodType<Element>,
    query: Query = {},
  ): AsyncGenerator<Element, void, void> {
    let after: string | null = null;
    for (let pages = 0; pages < MAX_PAGES; pages++) {
      const body = await get(path, after === null ? query : { ...query, after });
      const page = openAiPage(element).safeParse(body);
      if (!page.success)
        throw new Unavailable(
          `Expected a list from ${baseUrl}${path}, found something else (${page.error.issues[0]?.path.join(".") ?? ""}: ${page.error.issues[0]?.message ?? ""}). Check that OPENAI_BASE_URL names OpenAI's API.`,
        );
      yield* page.data.data;
      const last = page.data.data.at(-1)?.id;
      if (page.data.has_more !== true || last === undefined) return;
      if (last === after)
        throw new Unavailable(`The list ${path} goes in a circle at "${last}". Run the command again later.`);
      after = last;
    }
    throw new Unavailable(`The list ${path} has more than ${MAX_PAGES} pages, more than this program reads.`);
  }

  return {
    baseUrl,
    get,
    list,
    open: (path, headers = {}) => getPatiently(path, { headers, whole: false }),
    attempt: (path, body, timeoutMs) => send("POST", path, { body, timeoutMs, whole: true }),
    waitToRetry,
  };
}

/** Billing, not pace: waiting does not help. */
const QUOTA_CODES = [
  "insufficient_quota",
  "credit_balance_exhausted",
  "organization_spend_limit_exceeded",
  "project_spend_limit_exceeded",
  "organization_usage_limit_exceeded",
];

function refusal(response: Response, body: string, apiKey: string): Attempt {
  const { status, headers } = response;
  const said = envelopeError(body);
  const quota =
    said !== null && (said.type === "insufficient_quota" || QUOTA_CODES.includes(said.code ?? ""));
  // What OpenAI says of a wrong key shows parts of it.
  const message =
    status === 401
      ? "OpenAI does not accept the key in OPENAI_API_KEY. Check it, and the organization and project it belongs to."
      : redacted(said?.message ?? `OpenAI answered ${status} without an error message.`, apiKey);
  const should = headers.get("x-should-retry");
  const isPassing = [408, 409, 429].includes(status) || status >= 500;
  return {
    kind: "refused",
    error: new OpenAiError(message, {
      status,
      type: said?.type ?? null,
      code: said?.code ?? null,
      param: said?.param ?? null,
    }),
    mayRetry: should === "true" || (should !== "false" && isPassing && !quota),
    retryAfterMs: retryAfterMs(headers),
  };
}

/** Milliseconds; null without a header that says something. */
function retryAfterMs(headers: Headers): number | null {
  const milliseconds = Number(headers.get("retry-after-ms") ?? NaN);
  if (milliseconds >= 0) return milliseconds;
  const text = headers.get("retry-after");
  if (text === null) return null;
  const seconds = Number(text);
  if (seconds >= 0) return seconds * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? null : Math.max(0, date - Date.now());
}

function envelopeError(
  body: string,
): { message: string; type: string | null; code: string | null; param: string | null } | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return null;
  }
  const error = (parsed as { error?: unknown } | null)?.error;
  if (typeof error !== "object" || error === null) return null;
  const text = (name: string): string | null => {
    const value = (error as Record<string, unknown>)[name];
    return typeof value === "string" ? value : null;
  };
  return {
    message: text("message") ?? "OpenAI gave no message.",
    type: text("type"),
    code: text("code"),
    param: text("param"),
  };
}

/** Without the key, and without anything that looks like one: messages end in terminals, files and logs. */
export function redacted(text: string, apiKey: string): string {
  const withoutKey = apiKey === "" ? text : text.replaceAll(apiKey, "[key]");
  return withoutKey.replaceAll(/\bsk-[A-Za-z0-9_*-]{4,}/g, "[key]");
}

function causeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : "";
  return code === "ECONNREFUSED" ? "connection refused" : code || messageOf(cause);
}

async function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(milliseconds, undefined, { signal });
  } catch {
    throw new Cancelled();
  }
}

function queryText(query: Query): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) parameters.set(name, String(value));
  return parameters.size === 0 ? "" : `?${parameters.toString()}`;
}

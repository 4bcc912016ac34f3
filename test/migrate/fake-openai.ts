// OpenAI over the network, as its contract and recordings have it: lists with cursors, error envelopes, base64 result files, `error: {}`.
// Faults are put in by path: the next requests of a path are answered by them first.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export const KEY = "sk-test-0123456789abcdefghijklmnop";

export interface FakeFile {
  id: string;
  filename: string;
  purpose: string;
  content: Buffer;
  /** Listed, but its content is gone. */
  expires_at?: number | null;
  /** What the object says instead of the content's length. */
  bytes?: number;
}

export interface Asked {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingMessage["headers"];
  body: string;
  atMs: number;
}

export type Fault = (response: ServerResponse, asked: Asked) => void;

export interface FakeOptions {
  files?: FakeFile[];
  jobs?: Record<string, unknown>[];
  /** By job id, newest first. */
  events?: Record<string, { id: string }[]>;
  checkpoints?: Record<string, { id: string }[]>;
  models?: Record<string, unknown>[];
  evals?: { id: string }[];
  runs?: Record<string, { id: string }[]>;
  completions?: { id: string }[];
  messages?: Record<string, { id: string }[]>;
  /** Most elements of a page, whatever is asked for. */
  pageSize?: number;
  /** Whether parts of files are sent. */
  ranges?: boolean;
  /** Answers of chat completions. */
  chat?: (body: Record<string, unknown>, asked: Asked) => Fault;
  key?: string;
}

export async function startFakeOpenAi(options: FakeOptions) {
  const asked: Asked[] = [];
  const faults = new Map<string, Fault[]>();
  const state = { ...options };
  const pageSize = options.pageSize ?? 2;

  const sendList = (response: ServerResponse, { query }: Asked, all: { id: string }[], ids = true): void => {
    const after = query.get("after");
    const start = after === null ? 0 : all.findIndex(({ id }) => id === after) + 1;
    const limit = Math.min(pageSize, Number(query.get("limit") ?? 20));
    const data = all.slice(start, start + limit);
    sendJson(200, {
      object: "list",
      data,
      has_more: start + limit < all.length,
      ...(ids ? { first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null } : {}),
    })(response);
  };

  function answer(response: ServerResponse, one: Asked): void {
    const { method, path } = one;
    const fault = faults.get(`${method} ${path}`)?.shift();
    if (fault !== undefined) return fault(response, one);
    if (one.headers.authorization !== `Bearer ${options.key ?? KEY}`)
      return sendError(
        401,
        `Incorrect API key provided: ${KEY.slice(0, 8)}*****${KEY.slice(-4)}.`,
        "invalid_api_key",
      )(response);
    const at = (pattern: RegExp): string | null => {
      const found = pattern.exec(path)?.[1];
      return found === undefined ? null : decodeURIComponent(found);
    };
    if (method === "POST" && path === "/v1/chat/completions") {
      const chat = state.chat?.(JSON.parse(one.body) as Record<string, unknown>, one) ?? NO_MODEL;
      return chat(response, one);
    }
    if (method !== "GET") return sendError(405, "Not allowed")(response);
    if (path === "/v1/files") {
      const files = (state.files ?? []).map(
        ({ id, filename, purpose, content, bytes, expires_at = null }) => ({
          object: "file",
          id,
          purpose,
          filename,
          bytes: bytes ?? content.length,
          created_at: 1_700_000_000,
          expires_at,
          status: "processed",
          status_details: null,
        }),
      );
      return sendList(response, one, files);
    }
    const fileId = at(/^\/v1\/files\/([^/]+)\/content$/);
    if (fileId !== null) return sendContent(response, one, fileId);
    if (path === "/v1/fine_tuning/jobs")
      return sendList(response, one, (state.jobs ?? []) as { id: string }[], false);
    const eventsOf = at(/^\/v1\/fine_tuning\/jobs\/([^/]+)\/events$/);
    if (eventsOf !== null) return sendList(response, one, state.events?.[eventsOf] ?? [], false);
    const checkpointsOf = at(/^\/v1\/fine_tuning\/jobs\/([^/]+)\/checkpoints$/);
    if (checkpointsOf !== null) return sendList(response, one, state.checkpoints?.[checkpointsOf] ?? []);
    if (path === "/v1/models") return sendJson(200, { object: "list", data: state.models ?? [] })(response);
    if (path === "/v1/evals") return sendList(response, one, state.evals ?? []);
    const runsOf = at(/^\/v1\/evals\/([^/]+)\/runs$/);
    if (runsOf !== null) return sendList(response, one, state.runs?.[runsOf] ?? []);
    if (path === "/v1/chat/completions") return sendList(response, one, state.completions ?? []);
    const messagesOf = at(/^\/v1\/chat\/completions\/([^/]+)\/messages$/);
    if (messagesOf !== null) return sendList(response, one, state.messages?.[messagesOf] ?? []);
    return sendError(404, `Invalid URL (${method} ${path})`)(response);
  }

  function sendContent(response: ServerResponse, { headers }: Asked, id: string): void {
    const file = (state.files ?? []).find((each) => each.id === id);
    const hasExpired = typeof file?.expires_at === "number" && file.expires_at < Date.now() / 1000;
    if (file === undefined || hasExpired)
      return sendError(404, `No such File object: ${id}`, null, "id")(response);
    const body =
      file.purpose === "fine-tune-results" ? Buffer.from(file.content.toString("base64")) : file.content;
    const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1] ?? 0);
    const isPart = options.ranges === true && from > 0;
    response.writeHead(isPart ? 206 : 200, {
      "content-type": "application/octet-stream",
      "content-length": isPart ? body.length - from : body.length,
      ...(isPart ? { "content-range": `bytes ${from}-${body.length - 1}/${body.length}` } : {}),
    });
    response.end(isPart ? body.subarray(from) : body);
  }

  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const url = new URL(request.url ?? "/", "http://fake");
      const one: Asked = {
        method: request.method ?? "",
        path: url.pathname,
        query: url.searchParams,
        headers: request.headers,
        body: Buffer.concat(chunks).toString(),
        atMs: performance.now(),
      };
      asked.push(one);
      answer(response, one);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    asked,
    state,
    /** Requests of a path without the query. */
    count: (method: string, path: string) =>
      asked.filter((one) => one.method === method && one.path === path).length,
    /** The next requests of this path fail in this way, one each. */
    fail: (method: string, path: string, ...ways: Fault[]) => void faults.set(`${method} ${path}`, ways),
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}

const NO_MODEL = sendError(
  404,
  "The model does not exist or you do not have access to it.",
  "model_not_found",
);

export type FakeOpenAi = Awaited<ReturnType<typeof startFakeOpenAi>>;

export function sendJson(status: number, body: object, headers: Record<string, string> = {}) {
  return (response: ServerResponse): void => {
    response.writeHead(status, {
      "content-type": "application/json",
      "x-request-id": "req_fake",
      ...headers,
    });
    response.end(JSON.stringify(body));
  };
}

export function sendError(
  status: number,
  message: string,
  code: string | null = null,
  param: string | null = null,
  headers: Record<string, string> = {},
) {
  return sendJson(status, { error: { message, type: "invalid_request_error", param, code } }, headers);
}

/** A 429 of the pace, with its Retry-After in seconds. */
export const tooFast = (seconds: number): Fault =>
  sendError(429, "Rate limit reached.", "rate_limit_exceeded", null, { "retry-after": String(seconds) });

/** Between what is sent and the break, in milliseconds: a stream that breaks drops what nobody has read yet, so that how much came is chance. */
const READ_TIME_MS = 150;

/** Promises the whole and closes the connection after some of it. */
export function cutAfter(body: Buffer, bytes: number): Fault {
  return (response) => {
    response.writeHead(200, { "content-type": "application/octet-stream", "content-length": body.length });
    response.write(body.subarray(0, bytes), () => setTimeout(() => response.destroy(), READ_TIME_MS));
  };
}

// Requests that the server sends to its own routes for its jobs (a line of a batch). They carry a secret of this process in
// place of a key, and the project they act for; nobody outside the process can know either header's value.
import { randomBytes, timingSafeEqual } from "node:crypto";
import type { FastifyInstance, FastifyRequest } from "fastify";

const SECRET_HEADER = "x-tunesmith-own-request";
const PROJECT_HEADER = "x-tunesmith-own-project";
const KEY_HEADER = "x-tunesmith-own-key";

export interface OwnRequest {
  project: string;
  keyId?: string | null;
  method: "GET" | "POST";
  url: string;
  body?: object;
  signal: AbortSignal;
}

export class OwnRequests {
  readonly #secret = randomBytes(32).toString("hex");

  /** The project that a request of this process acts for, and the key whose limits count; null when somebody else sent it. */
  originOf(request: FastifyRequest): { project: string; keyId: string | null } | null {
    const sent = Buffer.from(String(request.headers[SECRET_HEADER] ?? ""));
    const secret = Buffer.from(this.#secret);
    if (sent.length !== secret.length || !timingSafeEqual(sent, secret)) return null;
    const keyId = request.headers[KEY_HEADER];
    return {
      project: String(request.headers[PROJECT_HEADER]),
      keyId: typeof keyId === "string" ? keyId : null,
    };
  }

  /** Sends a request through the application's routes, without a socket. Rejects when the signal aborts. */
  async send(
    app: FastifyInstance,
    { project, keyId = null, method, url, body, signal }: OwnRequest,
  ): Promise<{ statusCode: number; requestId: string; body: unknown; retryAfterMs?: number }> {
    const answer = await app.inject({
      method,
      url,
      headers: {
        [SECRET_HEADER]: this.#secret,
        [PROJECT_HEADER]: project,
        ...(keyId === null ? {} : { [KEY_HEADER]: keyId }),
      },
      ...(body === undefined ? {} : { payload: body }),
      signal,
    });
    // A limit of the key, or a full queue: both say when to come again.
    const isFull = answer.statusCode === 429 && answer.headers["retry-after"] !== undefined;
    return {
      statusCode: answer.statusCode,
      requestId: String(answer.headers["x-request-id"]),
      body: answer.json<unknown>(),
      ...(isFull ? { retryAfterMs: Number(answer.headers["retry-after"]) * 1000 } : {}),
    };
  }
}

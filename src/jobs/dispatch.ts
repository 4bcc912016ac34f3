// How a job sends a request to this server: an interface that main.ts fills with the very routes that clients use, so there is
// one implementation of chat, and jobs know no HTTP.

/**
 * Answers one request as if a client of the project had sent it. Rejects when the signal aborts; whatever else goes wrong is an
 * answer with its status.
 */
export type Dispatch = (request: {
  project: string;
  /** The API key whose limits count; left out or null: none. */
  keyId?: string | null;
  method: "GET" | "POST";
  /** From /v1 on. */
  url: string;
  body?: object;
  signal: AbortSignal;
}) => Promise<{
  statusCode: number;
  requestId: string;
  body: unknown;
  /** When to come again, where a limit of the key or a full queue turned the request away; left out: neither did. */
  retryAfterMs?: number;
}>;

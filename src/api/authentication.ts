// Who may use the server: bearer keys when some are configured; without any, only callers that address this machine by a
// name of its own, so that no web page can reach a key-less server through the visitor's browser.
import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyRequest } from "fastify";
import { Forbidden, Unauthorized } from "./error-answers.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** The project whose objects this request may see and make. */
    project: string;
  }
}

/** Throws Unauthorized or Forbidden unless the request may pass. */
export type Authenticate = (request: FastifyRequest) => void;

export function createAuthentication(apiKeys: readonly string[]): Authenticate {
  if (apiKeys.length === 0) return refuseOtherSites;
  const hashes = apiKeys.map(hashOf);
  return (request) => {
    const header = request.headers.authorization;
    if (header === undefined || header.trim() === "") {
      throw new Unauthorized(
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
      );
    }
    const key = /^Bearer\s+(\S+)\s*$/i.exec(header)?.[1] ?? "";
    const sent = hashOf(key);
    // Every key is compared, in equal time: neither the right beginning of a key nor its place in the list shows.
    const matches = hashes.filter((hash) => timingSafeEqual(hash, sent));
    if (matches.length === 0) {
      throw new Unauthorized(
        `Incorrect API key provided: ${masked(key)}. Use one of the keys in the server's setting TUNESMITH_API_KEYS.`,
        { code: "invalid_api_key" },
      );
    }
  };
}

/** Without this, a page open in a browser on this machine could post to the server (form posts need no permission), or read it by rebinding a DNS name. */
function refuseOtherSites(request: FastifyRequest): void {
  const host = hostOf(`http://${request.headers.host ?? ""}`);
  const origin = request.headers.origin;
  const from = origin === undefined ? null : hostOf(origin);
  if (host !== null && isLocalName(host) && (from === null ? origin === undefined : isLocalName(from)))
    return;
  throw new Forbidden(
    "This server has no API keys and therefore answers only requests made to and from this machine itself (localhost). Set TUNESMITH_API_KEYS to use it under another name or from a web page.",
  );
}

function hostOf(url: string): string | null {
  return URL.canParse(url) ? new URL(url).hostname : null;
}

const isLocalName = (host: string) =>
  host === "localhost" || host.endsWith(".localhost") || host === "[::1]" || /^127(\.[0-9]+){3}$/.test(host);

const hashOf = (key: string) => createHash("sha256").update(key).digest();

/** The first 8 and last 4 characters, when that leaves most of the key unseen. */
function masked(key: string): string {
  if (key.length < 24) return "*".repeat(key.length);
  return key.slice(0, 8) + "*".repeat(Math.min(key.length - 12, 40)) + key.slice(-4);
}

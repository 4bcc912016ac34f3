// Web pages of other origins: which may use the server from a browser (CORS). None, unless the operator names them. A page still
// needs a key; cookies are never taken.
import type { FastifyInstance } from "fastify";

/** How long a browser need not ask again, in seconds: two hours are the most that Chromium keeps to. */
const PREFLIGHT_SECONDS = 7200;

const METHODS = "GET, POST, DELETE";

/** `origins`: as browsers write them, `https://app.example.com`, or `*` for all. With none, nothing is added. */
export function allowOrigins(app: FastifyInstance, origins: readonly string[]): void {
  if (origins.length === 0) return;
  const any = origins.includes("*");
  // Before authentication: a browser asks first without a key, and shows a refusal only to pages that may read it.
  app.addHook("onRequest", async (request, reply) => {
    const { origin } = request.headers;
    if (!any) void reply.header("vary", "Origin");
    if (origin === undefined || !(any || origins.includes(origin))) return;
    void reply
      .header("access-control-allow-origin", any ? "*" : origin)
      .header("access-control-expose-headers", "*");
    if (request.method !== "OPTIONS" || request.headers["access-control-request-method"] === undefined)
      return;
    // `*` would not stand for Authorization, and clients add headers of their own.
    const asked = request.headers["access-control-request-headers"];
    if (asked !== undefined) void reply.header("access-control-allow-headers", asked);
    return reply
      .code(204)
      .header("access-control-allow-methods", METHODS)
      .header("access-control-max-age", PREFLIGHT_SECONDS)
      .send();
  });
}

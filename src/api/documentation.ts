// /openapi.json and /docs: what this server can do, for programs and for people. Both are made once, from the table of operations.
import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { openApiDocument } from "../wire/openapi.ts";
import type { OpenApiDocument } from "../wire/openapi.ts";
import { documentationPage, ORIGIN, STYLE } from "./documentation-page.ts";
import { escaped } from "../wire/html-text.ts";
import { mayCreate } from "./idempotency.ts";
import { scopeOf } from "./scopes.ts";

/** Nothing is loaded and nothing runs: the page's own style, by its hash, is all there is. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash("sha256").update(STYLE).digest("base64")}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

export function documentationRoutes({ version }: { version: string }) {
  let made: { document: OpenApiDocument; page: string } | null = null;

  function make() {
    if (made === null) {
      const document = openApiDocument({ version, scopeOf, mayCreate });
      made = { document, page: documentationPage(document) };
    }
    return made;
  }

  return {
    document: async (): Promise<OpenApiDocument> => make().document,

    page: async (request: FastifyRequest, reply: FastifyReply): Promise<string> => {
      void reply.type("text/html; charset=utf-8").headers({
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
      });
      return make().page.replaceAll(ORIGIN, () => escaped(`${request.protocol}://${request.host}`));
    },
  };
}

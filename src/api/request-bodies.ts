// What holds for the body of every request: JSON in whole UTF-8, not too deep, and none where the operation takes none.
import { isUtf8 } from "node:buffer";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { InvalidRequest } from "../errors.ts";
import { isDeeperThan, MAX_REQUEST_DEPTH } from "../wire/depth.ts";
import { noBody } from "../wire/list.ts";
import { parseRequest } from "../wire/validation.ts";
import { UNREADABLE_JSON } from "./error-answers.ts";

/** Sets what kinds of body are read: JSON and, by its own plugin, forms. */
export function readJsonBodies(app: FastifyInstance): void {
  // A text/plain body is what a foreign web page may post without asking.
  app.removeContentTypeParser("text/plain");
  const parseJson = app.getDefaultJsonParser("error", "error");
  app.removeContentTypeParser("application/json");
  app.addContentTypeParser("application/json", { parseAs: "buffer" }, (request, body, done) => {
    // Several clients send an empty body with a JSON content type on cancel.
    if (body.length === 0) done(null, undefined);
    // Read as text, what is no UTF-8 would become other characters without a word.
    else if (!isUtf8(body as Buffer)) done(new InvalidRequest(UNREADABLE_JSON));
    else {
      void parseJson(request, body.toString(), (error: Error | null, value: unknown) => {
        done(error ?? (isDeeperThan(value, MAX_REQUEST_DEPTH) ? tooDeep() : null), value);
      });
    }
  });
}

const tooDeep = () =>
  new InvalidRequest(
    `The JSON body of your request nests deeper than ${MAX_REQUEST_DEPTH} levels of arrays and objects. Send flatter data.`,
    { code: "invalid_value" },
  );

/** Throws InvalidRequest for content sent to an operation that takes none; `{}` says as little as nothing. */
export function refuseUnusedBody(request: FastifyRequest): void {
  const operation = request.routeOptions.config.operation ?? null;
  if (operation === null || operation.body !== undefined || operation.form !== undefined) return;
  if (request.body !== undefined) parseRequest(noBody, request.body);
  // A form, which only its route would read, or the body of a GET, which nobody would.
  else if (request.isMultipart() || Number(request.headers["content-length"] ?? 0) > 0) {
    throw new InvalidRequest(
      `${request.method} on this address takes no body, but one was sent. Send the request without it.`,
    );
  }
}

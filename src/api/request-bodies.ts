// What holds for the body of every request: JSON in whole UTF-8, not too deep, an archive only where one is taken, and none where the
// operation takes none.
import { isUtf8 } from "node:buffer";
import { Readable } from "node:stream";
import { errorCodes } from "fastify";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { InvalidRequest } from "../errors.ts";
import { isDeeperThan, MAX_REQUEST_DEPTH } from "../wire/depth.ts";
import { noBody } from "../wire/list.ts";
import { parseRequest } from "../wire/validation.ts";
import { UNREADABLE_JSON } from "./error-answers.ts";

/** Sets what kinds of body are read: JSON, archives and, by its own plugin, forms. */
export function readBodies(app: FastifyInstance): void {
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
  // Handed on as the stream that it is: whoever takes it bounds it.
  app.addContentTypeParser(ARCHIVE, (request, payload, done) => {
    if (request.routeOptions.config.operation?.archive === true) done(null, payload);
    else done(new errorCodes.FST_ERR_CTP_INVALID_MEDIA_TYPE(), undefined);
  });
}

const ARCHIVE = "application/x-tar";

/** Whether the body is the stream of an archive. */
export function isArchive({ body }: FastifyRequest): boolean {
  return body instanceof Readable;
}

const tooDeep = () =>
  new InvalidRequest(
    `The JSON body of your request nests deeper than ${MAX_REQUEST_DEPTH} levels of arrays and objects. Send flatter data.`,
    { code: "invalid_value" },
  );

/** Throws InvalidRequest for content sent to an operation that takes none; `{}` says as little as nothing. */
export function refuseUnusedBody(request: FastifyRequest): void {
  const operation = request.routeOptions.config.operation ?? null;
  if (operation === null || operation.archive) return;
  if (operation.body !== undefined || operation.form !== undefined) return;
  if (request.body !== undefined) parseRequest(noBody, request.body);
  // A form, which only its route would read, or the body of a GET, which nobody would.
  else if (
    request.isMultipart() ||
    Number(request.headers["content-length"] ?? 0) > 0 ||
    // Of a length that is not said; read to find out, an empty one would hold the answer up.
    request.headers["transfer-encoding"] !== undefined
  ) {
    throw new InvalidRequest(
      `${request.method} on this address takes no body, but one was sent. Send the request without it.`,
    );
  }
}

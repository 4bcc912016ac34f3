// What holds for every request: ids, authentication, limits, headers and errors in the envelope. It knows no route.
import type { Socket } from "node:net";
import fastify from "fastify";
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ApiKeyStore } from "../store/api-keys.ts";
import { InvalidRequest, Unavailable } from "../errors.ts";
import { newId } from "../wire/ids.ts";
import { noQuery } from "../wire/list.ts";
import { parseRequest } from "../wire/validation.ts";
import { isOpen } from "./authentication.ts";
import type { Authenticate } from "./authentication.ts";
import { checkContentEncoding } from "./content-encoding.ts";
import { answerConnectionError, answerRefusals } from "./connection-errors.ts";
import type { OwnRequests } from "./own-requests.ts";
import { errorAnswer, unknownUrl } from "./error-answers.ts";
import type { ErrorAnswer } from "./error-answers.ts";
import { readBodies, refuseUnusedBody } from "./request-bodies.ts";
import { BATCH_RESERVE, RateLimits } from "./rate-limits.ts";

/** Of the protocol, as OpenAI's answers say it. */
const OPENAI_VERSION = "2020-10-01";

/** The longest path parameter: a model name with the longest suffix, slug and checkpoint, percent-encoded, and some. */
const MAX_PARAM_LENGTH = 1000;

/** The framework, with its limits and answers of its own. */
export function createFastify(
  logger: FastifyBaseLogger,
  { maxBodyBytes, organization }: { maxBodyBytes: number; organization: string },
): FastifyInstance {
  const headers = { "openai-version": OPENAI_VERSION, "openai-organization": organization };
  const app = fastify({
    loggerInstance: logger,
    // Node's own refusal has neither envelope nor id; requireHost refuses in its place.
    http: { requireHostHeader: false },
    bodyLimit: maxBodyBytes,
    // It bounds closing, too, and would end the grace that background responses get; that one is bounded by its own setting.
    pluginTimeout: 0,
    genReqId: () => newId("request"),
    // Only the ids made here count: a client's own comes in X-Client-Request-Id and is logged beside it.
    requestIdHeader: false,
    routerOptions: {
      ignoreTrailingSlash: true,
      ignoreDuplicateSlashes: true,
      maxParamLength: MAX_PARAM_LENGTH,
    },
    // Requests that come while the server stops are refused in the envelope, by the hook below.
    return503OnClosing: false,
    frameworkErrors: (error, request, reply) => {
      addCommonHeaders(request, reply);
      send(reply, errorAnswer(error, request.id));
    },
    clientErrorHandler: (error, socket) => answerConnectionError(error, socket, { logger, headers }),
  });
  answerRefusals(app.server, { logger, headers });
  readBodies(app);
  return app;
}

/** As HTTP/1.1 has it (RFC 9112, section 3.2). */
function requireHost({ raw }: FastifyRequest): void {
  if (raw.httpVersion === "1.1" && raw.headers.host === undefined)
    throw new InvalidRequest("HTTP/1.1 requests must have the header 'Host', found none. Send it.");
}

/** What every request passes before its handler, and every answer on its way out. */
export function addHooks(
  app: FastifyInstance,
  settings: { organization: string },
  authenticate: Authenticate,
  { ownRequests, keys }: { ownRequests: OwnRequests; keys: ApiKeyStore },
): void {
  let isClosing = false;
  const connections = new Set<Socket>();
  app.server.on("connection", (socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
  });
  app.addHook("preClose", async () => {
    isClosing = true;
    // Browsers and Node's fetch open connections in advance. Node counts one that never asked anything as busy, and would
    // wait for it until the grace is over.
    for (const socket of connections) if (socket.bytesRead === 0) socket.destroy();
  });
  app.addHook("onRequest", async (request, reply) => {
    addCommonHeaders(request, reply);
    void reply.header("openai-organization", settings.organization);
    if (isClosing) {
      void reply.header("connection", "close");
      throw new Unavailable("The server is stopping. Send the request again in a moment.");
    }
    requireHost(request);
    const own = ownRequests.originOf(request);
    if (own !== null) {
      request.project = own.project;
      const key = own.keyId === null ? null : await keys.get(own.keyId);
      if (key !== null) request.caller = { key, scopes: [], isBatch: true };
    } else if (!isOpen(request)) {
      await authenticate(request);
      void reply.header("openai-project", request.project);
    }
    checkClientRequestId(request);
    checkContentEncoding(request, reply);
  });
  // Operations with a query or a body check it themselves.
  app.addHook("preValidation", async (request) => {
    const operation = request.routeOptions.config.operation ?? null;
    if (operation !== null && operation.query === undefined) parseRequest(noQuery, request.query);
    refuseUnusedBody(request);
  });
  app.addHook("onResponse", async ({ raw: { socket } }) => {
    // A client would keep it for its next request, and the server would wait for that.
    if (isClosing && connections.has(socket)) socket.end();
  });
  app.addHook("onSend", async (_request, reply) => {
    if (isClosing) void reply.header("connection", "close");
    void reply.header("openai-processing-ms", Math.round(reply.elapsedTime));
  });
}

/** After authentication: only a key has limits. */
export function addRateLimits(app: FastifyInstance, now: () => number): void {
  const limits = new RateLimits(now);
  app.decorateRequest("spendTokens", function (this: FastifyRequest, count: number) {
    const key = this.caller?.key ?? null;
    if (key !== null) limits.spendTokens(key, count);
  });
  app.addHook("onRequest", async ({ caller }) => {
    const key = caller?.key ?? null;
    if (key !== null) limits.admit(key, caller?.isBatch === true ? BATCH_RESERVE : 0);
  });
  app.addHook("onSend", async ({ caller }, reply) => {
    const key = caller?.key ?? null;
    if (key !== null) void reply.headers(limits.headers(key));
  });
}

function addCommonHeaders(request: FastifyRequest, reply: FastifyReply): void {
  void reply.header("x-request-id", request.id).header("openai-version", OPENAI_VERSION);
}

/** Clients may name their requests, to find them in logs. */
function checkClientRequestId(request: FastifyRequest): void {
  const id = request.headers["x-client-request-id"];
  if (id === undefined) return;
  if (typeof id !== "string" || id.length > 512 || !/^[\x20-\x7e]*$/.test(id)) {
    throw new InvalidRequest("Invalid 'X-Client-Request-Id': expected at most 512 ASCII characters.", {
      code: "invalid_value",
    });
  }
  request.log.info({ clientRequestId: id }, "Named by the client");
}

export function addErrors(app: FastifyInstance): void {
  app.setErrorHandler((error, request, reply) => {
    const answer = errorAnswer(error, request.id);
    if (answer.isBug) request.log.error({ err: error }, "A request failed by a fault of the server");
    send(reply, answer);
  });
  app.setNotFoundHandler((request, reply) => send(reply, unknownUrl(request.method, request.url)));
}

export function send(reply: FastifyReply, answer: ErrorAnswer): void {
  if (answer.retryAfterSeconds !== undefined) void reply.header("retry-after", answer.retryAfterSeconds);
  void reply
    .code(answer.status)
    .header("x-should-retry", String(answer.retry))
    .type("application/json; charset=utf-8")
    .send(answer.body);
}

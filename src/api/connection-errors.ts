// Requests that the HTTP parser refuses before there is a request: they are answered in the envelope like all others.
import { maxHeaderSize, STATUS_CODES } from "node:http";
import type { IncomingMessage, Server } from "node:http";
import type { Socket } from "node:net";
import type { FastifyBaseLogger } from "fastify";
import { newId } from "../wire/ids.ts";
import { refusedExpectation, refusedTunnel, unreadableRequest } from "./error-answers.ts";
import type { ErrorAnswer } from "./error-answers.ts";

/** How long a connection stays open after its refusal: closed at once, its client, still writing, would not read why. */
const REFUSED_LINGER_MS = 1_000;

/** Answers what could not be parsed, and ends the connection. */
export function answerConnectionError(
  error: NodeJS.ErrnoException,
  socket: Socket,
  { logger, headers }: { logger: FastifyBaseLogger; headers: Readonly<Record<string, string>> },
): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const requestId = newId("request");
  logger.info({ reqId: requestId, error: error.message, code: error.code }, "A request could not be parsed");
  if (hasBegunToAnswer(socket)) {
    // A second answer would be read as part of the first.
    socket.destroy();
    return;
  }
  end(socket, unreadableRequest(error.code, maxHeaderSize), requestId, headers);
}

/** Answers what Node would refuse by itself with a bare status: a tunnel, and an expectation that nobody here fulfils. */
export function answerRefusals(
  server: Server,
  { logger, headers }: { logger: FastifyBaseLogger; headers: Readonly<Record<string, string>> },
): void {
  const refuse = (socket: Socket, answer: ErrorAnswer, event: string): void => {
    const requestId = newId("request");
    logger.info({ reqId: requestId }, event);
    end(socket, answer, requestId, headers);
  };
  server.on("connect", (_request, socket: Socket) => {
    socket.on("error", () => socket.destroy());
    refuse(socket, refusedTunnel(), "A tunnel was refused");
  });
  server.on("checkExpectation", ({ socket, headers: { expect } }: IncomingMessage) =>
    refuse(socket, refusedExpectation(expect ?? ""), "An expectation was refused"),
  );
}

function end(
  socket: Socket,
  { status, body, retry }: ErrorAnswer,
  requestId: string,
  headers: Readonly<Record<string, string>>,
): void {
  const text = JSON.stringify(body);
  const head = {
    ...headers,
    "x-request-id": requestId,
    "x-should-retry": String(retry),
    "content-type": "application/json; charset=utf-8",
    "content-length": String(Buffer.byteLength(text)),
    connection: "close",
  };
  const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n${lines.join("")}\r\n${text}`);
  setTimeout(() => socket.destroy(), REFUSED_LINGER_MS).unref();
}

/** Whether an answer to an earlier part of the stream is on its way; Node's own handling of such errors asks the same. */
function hasBegunToAnswer(socket: Socket & { _httpMessage?: { headersSent: boolean } | null }): boolean {
  return socket._httpMessage?.headersSent === true;
}

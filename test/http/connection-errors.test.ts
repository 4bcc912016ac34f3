// What the HTTP parser refuses before there is a request: answered in the envelope, over a real connection.
import { once } from "node:events";
import { connect } from "node:net";
import OpenAI, { APIError } from "openai";
import { expect, test } from "vitest";
import { testServer } from "./harness.ts";

/** Sends the bytes and reads until the server ends the connection. */
async function exchange(
  url: string,
  ...pieces: string[]
): Promise<{ status: number; head: string; body: unknown }> {
  const { port } = new URL(url);
  const socket = connect({ port: Number(port), host: "127.0.0.1", allowHalfOpen: true });
  await once(socket, "connect");
  for (const piece of pieces) socket.write(piece);
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
  await once(socket, "end");
  socket.destroy();
  const [head = "", body = ""] = text.split("\r\n\r\n");
  return { status: Number(head.split(" ")[1]), head, body: JSON.parse(body) };
}

const TOO_LARGE =
  "The address and headers of your request are too large: at most 16384 bytes are read. Send a shorter address, or shorter headers (the API key is one).";

test.each([
  [
    "a long header",
    431,
    TOO_LARGE,
    `GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx: ${"x".repeat(100_000)}\r\n\r\n`,
  ],
  [
    "a long address",
    431,
    TOO_LARGE,
    `GET /v1/models?${"x".repeat(100_000)} HTTP/1.1\r\nhost: localhost\r\n\r\n`,
  ],
  [
    "what is no HTTP",
    400,
    "Your request could not be read as HTTP/1.1. Check the address (http, not https) and what writes the request.",
    "hello\r\n\r\n",
  ],
  [
    "HTTP/1.1 without a host",
    400,
    "HTTP/1.1 requests must have the header 'Host', found none. Send it.",
    "GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n",
  ],
  [
    "an expectation that nobody knows",
    417,
    `The header 'Expect' must be "100-continue", found "foo". Leave it out.`,
    "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nexpect: foo\r\n\r\n",
  ],
  [
    "a tunnel",
    405,
    "Not allowed to CONNECT: this server is no proxy. Send your request to it itself, and name no proxy for it.",
    "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n",
  ],
  [
    "a body of unsaid length where none is taken",
    400,
    "GET on this address takes no body, but one was sent. Send the request without it.",
    'GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n7\r\n{"a":1}\r\n0\r\n\r\n',
  ],
])("%s", async (_name, status, message, bytes) => {
  const server = await testServer({ organization: "acme" });
  const answer = await exchange(await server.listen(), bytes);
  expect(answer.status).toBe(status);
  const code = status === 405 ? "method_not_supported" : null;
  expect(answer.body).toEqual({ error: { message, type: "invalid_request_error", param: null, code } });
  for (const header of [
    /^x-request-id: req_[0-9a-f]{32}\r?$/m,
    /^content-type: application\/json; charset=utf-8\r?$/m,
    /^openai-organization: acme\r?$/m,
    /^openai-version: 2020-10-01\r?$/m,
    /^x-should-retry: false\r?$/m,
    /^connection: close\r?$/im,
  ]) {
    expect(answer.head).toMatch(header);
  }
});

test("the official client with a key too long for a header learns why", async () => {
  const server = await testServer();
  const client = new OpenAI({
    baseURL: `${await server.listen()}/v1`,
    apiKey: "k".repeat(20_000),
    maxRetries: 0,
  });
  const failure: unknown = await client.models.list().then(
    () => null,
    (error: unknown) => error,
  );
  expect(failure).toBeInstanceOf(APIError);
  const { status, requestID, type, message } = failure as APIError;
  expect({ status, type }).toEqual({ status: 431, type: "invalid_request_error" });
  expect(requestID).toMatch(/^req_/);
  expect(message).toContain(TOO_LARGE);
});

test("after an answered request, what follows on its connection is answered too", async () => {
  const server = await testServer();
  const url = await server.listen();
  const { port } = new URL(url);
  const socket = connect({ port: Number(port), host: "127.0.0.1", allowHalfOpen: true });
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
  socket.write("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
  while (!text.includes("ok")) await once(socket, "data");
  socket.write("hello\r\n\r\n");
  await once(socket, "end");
  socket.destroy();
  expect(text).toMatch(/^HTTP\/1\.1 200 [\s\S]*HTTP\/1\.1 400 Bad Request\r\n/);
});

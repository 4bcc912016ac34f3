// A server that answers what a test tells it to, and remembers what it was asked; and the command line run against it.
import { spawn } from "node:child_process";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { PassThrough, Readable, Writable } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import { fileURLToPath } from "node:url";
import { run } from "../../src/cli/main.ts";

export const BIN = fileURLToPath(new URL("../../bin/tunesmith.js", import.meta.url));

export interface Asked {
  method: string;
  /** With the query. */
  path: string;
  headers: IncomingMessage["headers"];
  body: string;
}

/** An answer: JSON with status 200, or a function that answers by itself. */
export type Answer = JsonObject | ((response: ServerResponse, asked: Asked) => void);
type JsonObject = Record<string, unknown>;

/** `routes` maps "GET /v1/files" (without the query) to its answer, or to one answer after the other; the last stays. */
export async function startFakeServer(routes: Record<string, Answer | Answer[]>) {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { method = "", url = "", headers } = request;
      const one: Asked = { method, path: url, headers, body: Buffer.concat(chunks).toString() };
      asked.push(one);
      const route = routes[`${method} ${url.split("?")[0]}`];
      const answer = Array.isArray(route) && route.length > 1 ? route.shift() : [route].flat()[0];
      if (answer === undefined) sendError(404, `Invalid URL (${method} ${url})`)(response);
      else if (typeof answer === "function") answer(response, one);
      else sendJson(200, answer)(response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    asked,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}

export function sendJson(status: number, body: object) {
  return (response: ServerResponse): void => {
    response.writeHead(status, { "content-type": "application/json", "x-request-id": "req_test" });
    response.end(JSON.stringify(body));
  };
}

export function sendError(status: number, message: string, code: string | null = null) {
  return sendJson(status, { error: { message, type: "invalid_request_error", param: null, code } });
}

export function sendEvents(events: readonly (object | string)[]) {
  return (response: ServerResponse): void => {
    sendEventsOpen(response, events);
    response.end();
  };
}

/** As `sendEvents`, but the stream goes on. */
export function sendEventsOpen(response: ServerResponse, events: readonly (object | string)[]): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const event of events) {
    response.write(`data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`);
  }
}

/** Runs one command line in this process, with streams as in a pipe, or as a terminal has them. */
export async function tunesmith(
  words: readonly string[],
  options: { input?: string; signal?: AbortSignal; isTTY?: boolean } = {},
): Promise<{ code: number | null; out: string; err: string }> {
  const { input = "", signal = new AbortController().signal, isTTY = false } = options;
  const texts = { out: "", err: "" };
  const tty = isTTY ? { isTTY, columns: 200 } : {};
  const collect = (name: keyof typeof texts, onText = (): void => undefined) => {
    const decoder = new StringDecoder();
    const stream = new Writable({
      write(chunk: Buffer, _encoding, done) {
        texts[name] += decoder.write(chunk);
        onText();
        done();
      },
    });
    return Object.assign(stream, tty);
  };
  const stdin = isTTY ? new PassThrough() : Readable.from([input]);
  // Whoever sits there types a line when asked for one.
  const lines = input.split("\n");
  const type = (): void => {
    const isAsked = isTTY && /> \x1b\[\d+G$/.test(texts.out);
    const line = isAsked ? lines.shift() : undefined;
    if (line !== undefined) setImmediate(() => stdin.push(`${line}\n`));
  };
  const stdout = collect("out", type);
  const code = await run(words, { stdin: Object.assign(stdin, tty), stdout, stderr: collect("err"), signal });
  return { code, ...texts };
}

/** Runs bin/tunesmith.js as a user would in a pipe. No setting of the machine that runs the tests leaks in. */
export async function tunesmithProcess(
  words: readonly string[],
  options: { input?: string; env?: Record<string, string>; cwd?: string } = {},
): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, [BIN, ...words], {
    env: { PATH: process.env["PATH"] ?? "", ...options.env },
    cwd: options.cwd,
  });
  let [out, err] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  child.stdin.end(options.input ?? "");
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, out, err };
}

/** The base URL of a port where nothing listens any more. */
export async function unusedBaseUrl(): Promise<string> {
  const server = await startFakeServer({});
  await server.close();
  return server.baseUrl;
}

// What holds for every request: error envelopes, headers, authentication, the health check and the orderly end.
import { once } from "node:events";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { BASE_MODEL, testServer } from "./harness.ts";

const KEY = "sk-local-0123456789-abcdefgh";

test.each([
  ["an unknown address", "GET", "/v1/nothing?x=1", {}, 404, null, "Invalid URL (GET /v1/nothing)"],
  [
    "a wrong method",
    "PUT",
    "/v1/files",
    {},
    405,
    "method_not_supported",
    "Not allowed to PUT on this address. Use POST or GET.",
  ],
  [
    "bad JSON",
    "POST",
    "/v1/fine_tuning/jobs",
    { payload: "{", headers: { "content-type": "application/json" } },
    400,
    null,
    "We could not parse the JSON body of your request. Expected one JSON object, encoded as UTF-8.",
  ],
  [
    "a poisoned prototype",
    "POST",
    "/v1/fine_tuning/jobs",
    { payload: '{"__proto__":{"a":1}}', headers: { "content-type": "application/json" } },
    400,
    null,
    "We could not parse the JSON body of your request. Expected one JSON object, encoded as UTF-8.",
  ],
  [
    "a body that is no object",
    "POST",
    "/v1/fine_tuning/jobs",
    { payload: "[]", headers: { "content-type": "application/json" } },
    400,
    "invalid_type",
    "Invalid type for the request body: expected an object, but got an array instead.",
  ],
  [
    "no body",
    "POST",
    "/v1/fine_tuning/jobs",
    {},
    400,
    "invalid_type",
    "Invalid type for the request body: expected an object, but got nothing instead.",
  ],
  [
    "another media type",
    "POST",
    "/v1/fine_tuning/jobs",
    { payload: "{}", headers: { "content-type": "text/plain" } },
    415,
    null,
    "Unsupported media type. Send 'Content-Type: application/json', or 'multipart/form-data' to upload a file.",
  ],
  [
    "an upload that is no form",
    "POST",
    "/v1/files",
    { payload: {} },
    400,
    null,
    "Expected a 'multipart/form-data' body with a 'file' and a 'purpose'.",
  ],
  [
    "too large a body",
    "POST",
    "/v1/chat/completions",
    { payload: { model: "x".repeat(3000) } },
    413,
    null,
    "The request body is too large. Send less at once; files of any size go through POST /v1/files.",
  ],
  ["a malformed address", "GET", "/v1/models/%zz", {}, 400, null, null],
  [
    "a client's request id that is no ASCII",
    "GET",
    "/v1/models",
    { headers: { "x-client-request-id": "x".repeat(513) } },
    400,
    "invalid_value",
    "Invalid 'X-Client-Request-Id': expected at most 512 ASCII characters.",
  ],
] as const)("%s is answered in the envelope", async (_name, method, url, extra, status, code, message) => {
  const server = await testServer({ maxBodyBytes: 2000 });
  const answer = await server.app.inject({ method, url, ...extra });
  expect(answer.statusCode).toBe(status);
  const body = answer.json<{ error: Record<string, unknown> }>();
  expect(Object.keys(body.error).sort()).toEqual(["code", "message", "param", "type"]);
  expect(body.error).toMatchObject({ type: "invalid_request_error", code });
  if (message !== null) expect(body.error["message"]).toBe(message);
  expect(answer.headers["x-request-id"]).toMatch(/^req_[0-9a-f]{32}$/);
  expect(answer.headers["x-should-retry"]).toBe("false");
});

test.each([
  ["OPTIONS", "/v1/files", "POST, GET"],
  ["OPTIONS", "/v1/embeddings", "POST"],
  ["HEAD", "/v1/embeddings", "POST"],
] as const)("%s on %s is a wrong method, not an unknown address", async (method, url, allow) => {
  const answer = await (await testServer()).app.inject({ method, url });
  expect(answer.statusCode).toBe(405);
  expect(answer.headers["allow"]).toBe(allow);
});

test("stopping does not wait for a connection on which nothing was asked", async () => {
  const server = await testServer({ shutdownGraceMs: 60_000 });
  const { port } = new URL(await server.listen());
  const arrived = once(server.app.server, "connection");
  const socket = connect(Number(port), "127.0.0.1").on("error", () => {});
  await arrived;
  await server.stop();
  socket.destroy();
});

test("a fault of the server says nothing of its cause, and gives the id under which it is logged", async () => {
  const server = await testServer();
  server.engine.answer = () => {
    throw new Error("password is hunter2");
  };
  const answer = await server.app.inject({
    method: "POST",
    url: "/v1/chat/completions",
    payload: { model: BASE_MODEL, messages: [{ role: "user", content: "Hi" }] },
  });
  expect(answer.statusCode).toBe(500);
  expect(answer.body).not.toContain("hunter2");
  expect(answer.json<{ error: { message: string; type: string } }>().error).toMatchObject({
    type: "server_error",
    message: expect.stringContaining(String(answer.headers["x-request-id"])) as string,
  });
});

test("every answer carries OpenAI's headers, and none opens the server to other web pages", async () => {
  const server = await testServer({ organization: "acme" });
  for (const url of ["/v1/models", "/v1/files/file-x", "/v1/nothing", "/healthz"]) {
    const { headers } = await server.app.inject(url);
    expect(headers).toMatchObject({ "openai-version": "2020-10-01", "openai-organization": "acme" });
    expect(headers["openai-processing-ms"]).toMatch(/^[0-9]+$/);
    expect(headers["access-control-allow-origin"]).toBeUndefined();
  }
});

test.each([
  [
    "no key",
    undefined,
    null,
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
  ],
  [
    "a wrong key",
    "Bearer sk-wrong-key-0123456789-abcd",
    "invalid_api_key",
    "Incorrect API key provided: sk-wrong****************abcd. Use a key made with 'tunesmith keys create', or one of the server's setting TUNESMITH_API_KEYS.",
  ],
  [
    "a key of 16 characters",
    "Bearer your-api-key-here",
    "invalid_api_key",
    "Incorrect API key provided: your-api*****here. Use a key made with 'tunesmith keys create', or one of the server's setting TUNESMITH_API_KEYS.",
  ],
  [
    "a short key",
    "Bearer secret",
    "invalid_api_key",
    "Incorrect API key provided: ******. Use a key made with 'tunesmith keys create', or one of the server's setting TUNESMITH_API_KEYS.",
  ],
] as const)(
  "with keys configured, %s is refused on every address but the health check",
  async (_name, authorization, code, message) => {
    const server = await testServer({ apiKeys: ["another-key-1234", KEY] });
    const headers = authorization === undefined ? {} : { authorization };
    for (const url of ["/v1/models", "/v1/files", "/v1/nothing"]) {
      const answer = await server.app.inject({ url, headers });
      expect(answer.statusCode).toBe(401);
      expect(answer.json()).toEqual({ error: { message, type: "invalid_request_error", param: null, code } });
    }
    expect((await server.app.inject({ url: "/healthz", headers })).json()).toEqual({ status: "ok" });
  },
);

test("any of the configured keys is let in", async () => {
  const server = await testServer({ apiKeys: ["another-key-1234", KEY] });
  for (const key of [KEY, "another-key-1234"]) {
    const answer = await server.app.inject({
      url: "/v1/models",
      headers: { authorization: `Bearer ${key}` },
    });
    expect(answer.statusCode).toBe(200);
  }
});

test.each([
  ["a web page elsewhere", { host: "localhost:8080", origin: "https://evil.example" }, 403],
  ["a sandboxed page", { host: "localhost:8080", origin: "null" }, 403],
  ["a rebound name", { host: "evil.example:8080" }, 403],
  ["a page of this machine", { host: "127.0.0.1:8080", origin: "http://localhost:5173" }, 200],
  ["a program", { host: "[::1]:8080" }, 200],
])("without keys, a request by %s answers as it should", async (_name, headers, status) => {
  const server = await testServer();
  const answer = await server.app.inject({ url: "/v1/models", headers });
  expect(answer.statusCode).toBe(status);
});

test("web pages of the origins that are named may use the server, with a key, and read its errors", async () => {
  const origin = "https://app.example.com";
  const server = await testServer({ apiKeys: [KEY], corsOrigins: [origin, "http://localhost:5173"] });
  const asking = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
  };
  const preflight = (from: string) =>
    server.app.inject({
      method: "OPTIONS",
      url: "/v1/chat/completions",
      headers: { origin: from, ...asking },
    });
  const allowed = await preflight(origin);
  expect(allowed.statusCode).toBe(204);
  expect(allowed.headers).toMatchObject({
    "access-control-allow-origin": origin,
    "access-control-allow-headers": "authorization,content-type,x-stainless-lang",
    "access-control-allow-methods": "GET, POST, DELETE",
    vary: "Origin",
  });
  for (const authorization of [`Bearer ${KEY}`, "Bearer wrong"]) {
    const { headers } = await server.app.inject({ url: "/v1/models", headers: { origin, authorization } });
    expect(headers).toMatchObject({
      "access-control-allow-origin": origin,
      "access-control-expose-headers": "*",
    });
  }
  const foreign = await preflight("https://evil.example");
  expect(foreign.headers["access-control-allow-origin"]).toBeUndefined();
  expect(foreign.statusCode).toBe(401);
});

test("all origins may be named at once", async () => {
  const server = await testServer({ apiKeys: [KEY], corsOrigins: ["*"] });
  const headers = { origin: "https://anywhere.example", authorization: `Bearer ${KEY}` };
  const answer = await server.app.inject({ url: "/v1/models", headers });
  expect(answer.statusCode).toBe(200);
  expect(answer.headers["access-control-allow-origin"]).toBe("*");
});

test.each([
  ["POST", "/v1/responses/compact"],
  ["GET", "/v1/fine_tuning/model_limits"],
] as const)("%s %s says that it is not offered", async (method, url) => {
  const server = await testServer();
  const answer = await server.app.inject({ method, url, ...(method === "POST" ? { payload: {} } : {}) });
  expect(answer.statusCode).toBe(404);
  expect(answer.json()).toMatchObject({
    error: {
      message: expect.stringContaining(`This server does not offer ${method} ${url}. `) as string,
      code: "operation_not_offered",
    },
  });
});

test.each(["/v1/models/", "/v1//models"])("the address %s is found too", async (url) => {
  const server = await testServer();
  expect((await server.app.inject(url)).statusCode).toBe(200);
});

test("stopping lets a request finish within the grace and cuts off one that takes longer", async () => {
  for (const [graceMs, ends] of [
    [60_000, true],
    [50, false],
  ] as const) {
    const server = await testServer({ shutdownGraceMs: graceMs });
    const url = await server.listen();
    server.engine.answer = async function* ({ signal }) {
      yield { type: "prompt", promptTokens: 1 };
      const wait = ends ? 200 : 60_000;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, wait);
        signal.addEventListener("abort", () => {
          clearTimeout(timer);
          resolve();
        });
      });
      if (!signal.aborted) yield { type: "finish", index: 0, reason: "stop", completionTokens: 0 };
    };
    const answer = fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: BASE_MODEL, messages: [{ role: "user", content: "Hi" }] }),
    });
    while (server.engine.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await server.stop();
    expect((await answer).status).toBe(ends ? 200 : 503);
    await expect(fetch(`${url}/healthz`)).rejects.toThrow();
  }
});

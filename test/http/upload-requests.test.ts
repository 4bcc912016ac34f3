// Uploads in parts, request by request: what a creation and a part may say, bounds, idempotency keys, and a restart between parts.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import Sqlite from "libsql";
import { expect, test } from "vitest";
import { loadConfig } from "../../src/config.ts";
import { createServer } from "../../src/main.ts";
import type { UploadObject } from "../../src/wire/uploads.ts";
import { form, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

type Injected = Pick<TestServer, "app">;

const MIB = 2 ** 20;
const valid = { filename: "a.jsonl", purpose: "fine-tune", bytes: 4, mime_type: "text/jsonl" };

const begin = (server: Injected, payload: object = valid, headers = {}) =>
  server.app.inject({ method: "POST", url: "/v1/uploads", payload, headers });

const sendForm = (server: Injected, id: string, parts: Parameters<typeof form>[0], more = {}) => {
  const { payload, headers } = form(parts);
  const url = `/v1/uploads/${id}/parts`;
  return server.app.inject({ method: "POST", url, payload, headers: { ...headers, ...more } });
};
const sendPart = (server: Injected, id: string, content: string | Buffer, headers = {}) =>
  sendForm(server, id, [{ name: "data", filename: "upload", content }], headers);

const finish = (server: Injected, id: string, part_ids: string[], headers = {}) =>
  server.app.inject({
    method: "POST",
    url: `/v1/uploads/${id}/complete`,
    payload: { part_ids },
    headers,
  });

const idOf = (answer: { json: <T>() => T }) => answer.json<{ id: string }>().id;
const errorOf = (answer: { json: <T>() => T }) => answer.json<{ error: Record<string, unknown> }>().error;
const partsOf = (server: TestServer) => readdir(join(server.home, "uploads")).catch(() => []);

const JSON_LINES =
  "'text/jsonl', 'application/jsonl', 'application/x-jsonl', 'application/jsonlines', 'application/x-jsonlines', 'application/ndjson', 'application/x-ndjson', 'application/json'";

test.each([
  [
    { filename: undefined },
    "filename",
    "missing_required_parameter",
    "Missing required parameter: 'filename'.",
  ],
  ...["a\0b", "a\ud800"].map((filename): [object, string, string, string] => [
    { filename },
    "filename",
    "invalid_value",
    "Invalid 'filename': expected text without NUL characters and halves of surrogate pairs.",
  ]),
  [
    { purpose: "fun" },
    "purpose",
    "invalid_value",
    "Invalid value for 'purpose': 'fun'. Supported values are: 'assistants', 'batch', 'fine-tune', 'vision', 'user_data', 'evals'.",
  ],
  [
    { bytes: 0 },
    "bytes",
    "integer_below_min_value",
    "Invalid 'bytes': integer below minimum value. Expected a value >= 1, but got 0 instead.",
  ],
  [
    { bytes: 8 * 2 ** 30 + 1 },
    "bytes",
    "integer_above_max_value",
    "Invalid 'bytes': integer above maximum value. Expected a value <= 8589934592, but got 8589934593 instead.",
  ],
  [
    { mime_type: "image/png" },
    "mime_type",
    "invalid_value",
    `Invalid value for 'mime_type': 'image/png'. Supported values for purpose 'fine-tune' are: ${JSON_LINES}.`,
  ],
  [
    { mime_type: "jsonl" },
    "mime_type",
    "invalid_value",
    "Invalid value for 'mime_type': 'jsonl'. Expected a media type such as 'text/jsonl'.",
  ],
  [
    { expires_after: { anchor: "created_at", seconds: 60 } },
    "expires_after.seconds",
    "integer_below_min_value",
    "Invalid 'expires_after.seconds': integer below minimum value. Expected a value >= 3600, but got 60 instead.",
  ],
  [{ colour: "red" }, "colour", "unknown_parameter", "Unknown parameter: 'colour'."],
])("a creation with %j is refused", async (more, param, code, message) => {
  const server = await testServer();
  const answer = await begin(server, { ...valid, ...more });
  expect(answer.statusCode).toBe(400);
  expect(errorOf(answer)).toEqual({ message, type: "invalid_request_error", param, code });
});

test.each([
  ["fine-tune", "application/x-ndjson"],
  ["fine-tune", "Text/JSONL; charset=utf-8"],
  ["batch", "application/jsonl"],
  ["evals", "application/json"],
  ["vision", "image/webp"],
  ["assistants", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"],
  ["user_data", "text/x-c++"],
])("purpose %s takes %s", async (purpose, mime_type) => {
  const server = await testServer();
  const answer = await begin(server, { ...valid, purpose, mime_type });
  expect(answer.json()).toMatchObject({ object: "upload", status: "pending", purpose });
});

test("the life of the file counts from the upload's creation; batch files have one by default", async () => {
  let now = Date.now();
  const server = await testServer({}, { now: () => now });
  const lives = [
    [{ ...valid, expires_after: { anchor: "created_at", seconds: 7200 } }, 7200],
    [{ ...valid, purpose: "batch" }, 2_592_000],
  ] as const;
  for (const [payload, seconds] of lives) {
    const { id, created_at } = (await begin(server, payload)).json<UploadObject>();
    const part = idOf(await sendPart(server, id, "abcd"));
    now += 60_000;
    const { file } = (await finish(server, id, [part])).json<UploadObject>();
    expect(file).toMatchObject({ created_at, expires_at: created_at + seconds });
  }
});

test.each([
  ["another file member", [{ name: "file", filename: "a", content: "x" }], "unknown_parameter", "file"],
  ["a text for data", [{ name: "data", value: "x" }], "missing_required_parameter", "data"],
  ["no data", [], "missing_required_parameter", "data"],
  [
    "an unknown member",
    [
      { name: "data", filename: "a", content: "x" },
      { name: "colour", value: "red" },
    ],
    "unknown_parameter",
    "colour",
  ],
])("a part with %s is refused and leaves nothing", async (_name, parts, code, param) => {
  const server = await testServer();
  const answer = await sendForm(server, idOf(await begin(server)), parts);
  expect(answer.statusCode).toBe(400);
  expect(errorOf(answer)).toMatchObject({ code, param });
  expect(await partsOf(server)).toEqual([]);
});

test("a part of 64 MB is taken, a larger one is not", async () => {
  const server = await testServer();
  const id = idOf(await begin(server, { ...valid, bytes: 64 * MIB }));
  const largest = await sendPart(server, id, Buffer.alloc(64 * MIB, "x"));
  expect(largest.statusCode).toBe(200);
  const larger = await sendPart(server, id, Buffer.alloc(64 * MIB + 1, "x"));
  expect(larger.statusCode).toBe(413);
  expect(errorOf(larger)).toEqual({
    message: "Part is too large: expected at most 67108864 bytes (64 MB). Send it as several parts.",
    type: "invalid_request_error",
    param: "data",
    code: "file_too_large",
  });
  expect(await partsOf(server)).toEqual([idOf(largest)]);
  expect((await finish(server, id, [idOf(largest)])).json()).toMatchObject({ status: "completed" });
});

test("a client that repeats parts without end is stopped before they fill the disk", async () => {
  const server = await testServer();
  const id = idOf(await begin(server));
  const large = Buffer.alloc(60 * MIB, "x");
  expect((await sendPart(server, id, large)).statusCode).toBe(200);
  const answer = await sendPart(server, id, large);
  expect([answer.statusCode, errorOf(answer)["code"]]).toEqual([400, "too_many_bytes"]);
  expect(errorOf(answer)["message"]).toContain("hold far more than the 4 bytes it was created for");
  expect(await partsOf(server)).toHaveLength(1);
});

test("a project may have 1,000 pending uploads, and another project its own", async () => {
  let now = Date.now();
  const server = await testServer({}, { now: () => now });
  await server.stores.projects.create({ id: "proj_two", name: "Two" });
  await begin(server);
  // 999 copies of it at once: a thousand flushed transactions take ten seconds.
  const database = new Sqlite(join(server.home, "tunesmith.db"));
  database.exec(`WITH RECURSIVE copies (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < 999)
    INSERT INTO uploads (id, project_id, created_at, expires_at, bytes, filename, purpose, status)
    SELECT 'upload_copy' || n, project_id, created_at, expires_at, bytes, filename, purpose, status FROM uploads, copies`);
  database.close();
  const refused = await begin(server);
  expect([refused.statusCode, errorOf(refused)["code"]]).toEqual([400, "too_many_pending_uploads"]);
  expect((await begin(server, valid, { "openai-project": "proj_two" })).statusCode).toBe(200);
  now += 3_600_000;
  expect((await begin(server)).statusCode).toBe(200);
});

test("Idempotency-Key: each of the three creations is carried out once", async () => {
  const server = await testServer();
  const named = (key: string) => ({ "idempotency-key": key });
  const id = idOf(await begin(server, valid, named("a")));
  expect(idOf(await begin(server, valid, named("a")))).toBe(id);
  const part = idOf(await sendPart(server, id, "abcd", named("b")));
  const again = await sendPart(server, id, "abcd", named("b"));
  expect([idOf(again), again.headers["idempotent-replayed"]]).toEqual([part, "true"]);
  expect(errorOf(await sendPart(server, id, "efgh", named("b")))["code"]).toBe("idempotency_key_reused");
  expect(await partsOf(server)).toEqual([part]);
  const first = await finish(server, id, [part], named("c"));
  const second = await finish(server, id, [part], named("c"));
  expect(second.body).toBe(first.body);
  expect(second.headers["idempotent-replayed"]).toBe("true");
});

test("a restart between parts loses nothing", async () => {
  const server = await testServer();
  const id = idOf(await begin(server));
  const first = idOf(await sendPart(server, id, "ab"));
  await server.stop();
  const config = loadConfig({ port: 0, logLevel: "silent", homeDirectory: server.home }, {});
  const next = await createServer(config, { engine: server.engine, createWorker: null });
  const second = idOf(await sendPart(next, id, "cd"));
  const { file } = (await finish(next, id, [second, first])).json<UploadObject>();
  expect((await next.app.inject(`/v1/files/${file?.id}/content`)).body).toBe("cdab");
  await next.stop();
});

test("an unknown upload is not found", async () => {
  const server = await testServer();
  for (const answer of [
    await sendPart(server, "upload_nobody", "x"),
    await finish(server, "upload_nobody", ["part_x"]),
    await server.app.inject({ method: "POST", url: "/v1/uploads/upload_nobody/cancel" }),
  ]) {
    expect([answer.statusCode, errorOf(answer)]).toEqual([
      404,
      {
        message: "No such Upload object: upload_nobody",
        type: "invalid_request_error",
        param: "id",
        code: null,
      },
    ]);
  }
});

// Files over HTTP: upload in any order, list, retrieve, content, delete, and every way an upload can be wrong.
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fileObject } from "../../src/wire/files.ts";
import { form, succeedJob, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const blobsOf = (server: TestServer) => readdir(join(server.home, "files")).catch(() => []);

test.each([
  ["purpose first", true],
  ["purpose last", false],
])("an upload with the %s is stored and comes back byte by byte", async (_name, purposeFirst) => {
  const server = await testServer();
  const purpose = { name: "purpose", value: "fine-tune" };
  const content = Buffer.from([0, 255, 10, 13, 10, 45, 45, 200]);
  const file = { name: "file", filename: "tränk & co.jsonl", content };
  const parts = purposeFirst ? [purpose, file] : [file, purpose];
  const created = await server.app.inject({ method: "POST", url: "/v1/files", ...form(parts) });
  expect(created.statusCode).toBe(200);
  const object = created.json<Record<string, unknown>>();
  expect(fileObject.strict().parse(object)).toMatchObject({
    object: "file",
    purpose: "fine-tune",
    filename: "tränk & co.jsonl",
    bytes: 8,
    expires_at: null,
    status: "processed",
    status_details: null,
  });
  expect(object["id"]).toMatch(/^file-[1-9A-HJ-NP-Za-km-z]{22}$/);
  const id = object["id"] as string;
  const retrieved = await server.app.inject(`/v1/files/${id}`);
  expect(retrieved.json()).toEqual(object);
  const downloaded = await server.app.inject(`/v1/files/${id}/content`);
  expect(downloaded.rawPayload).toEqual(content);
  expect(downloaded.headers).toMatchObject({
    "content-type": "application/octet-stream",
    "content-length": "8",
    "content-disposition": `attachment; filename="tr_nk & co.jsonl"; filename*=UTF-8''tr%C3%A4nk%20%26%20co.jsonl`,
  });
});

test("a filename cannot leave its header or its folder", async () => {
  const server = await testServer();
  const { id, filename } = await upload(server, "x", { filename: "../../etc/a%22b;c.jsonl" });
  expect(filename).toBe("a%22b;c.jsonl");
  const { headers } = await server.app.inject(`/v1/files/${id}/content`);
  expect(headers["content-disposition"]).toBe(
    `attachment; filename="a_22b;c.jsonl"; filename*=UTF-8''a%2522b%3Bc.jsonl`,
  );
});

test.each([
  [
    "both names, quoted",
    `form-data; name="file"; filename="ubung.jsonl"; filename*=UTF-8''%C3%BCbung%20%E2%82%AC.jsonl`,
    "übung €.jsonl",
  ],
  [
    "the names as .NET sends them",
    `form-data; name=file; filename="=?utf-8?B?w7xidW5nLmpzb25s?="; filename*=utf-8''%C3%BCbung.jsonl`,
    "übung.jsonl",
  ],
  ["only the long name", `form-data; name="file"; filename*=UTF-8''%C3%BC.jsonl`, "ü.jsonl"],
  [
    "the plain name last",
    `form-data; name="file"; filename*=UTF-8''%C3%BC.jsonl; filename="u.jsonl"`,
    "ü.jsonl",
  ],
  [
    "a path in it",
    `form-data; name="file"; filename="u"; filename*=UTF-8''..%2F..%2Fetc%2Fu.jsonl`,
    "u.jsonl",
  ],
  [
    "a plain name that reads like both",
    `form-data; name="file"; filename="x; filename*=UTF-8''evil.jsonl"`,
    "x; filename*=UTF-8''evil.jsonl",
  ],
  [
    "more characters than are kept",
    `form-data; name="file"; filename*=UTF-8''a${"%F0%9F%98%80".repeat(300)}`,
    `a${"😀".repeat(254)}`,
  ],
])("a file with %s has the name of RFC 5987", async (_name, disposition, filename) => {
  const server = await testServer();
  const { payload, headers } = form([
    { name: "purpose", value: "fine-tune" },
    { name: "file", filename: "NAME", content: "{}" },
  ]);
  const text = payload.toString("latin1").replace('form-data; name="file"; filename="NAME"', disposition);
  const body = Buffer.from(text, "latin1");
  const answer = await server.app.inject({ method: "POST", url: "/v1/files", payload: body, headers });
  expect(answer.json()).toMatchObject({ filename, bytes: 2 });
});

test("a file part without a filename is stored under a name of ours", async () => {
  const server = await testServer();
  const { payload, headers } = form([
    { name: "purpose", value: "fine-tune" },
    { name: "file", filename: "NAME", content: "{}" },
  ]);
  const nameless = Buffer.from(payload.toString("latin1").replace('; filename="NAME"', ""), "latin1");
  const answer = await server.app.inject({ method: "POST", url: "/v1/files", payload: nameless, headers });
  expect(answer.json()).toMatchObject({ filename: "file", bytes: 2 });
});

test.each([
  ["a text", 'name="purpose"'],
  ["the file", 'name="file"; filename="NAME"'],
])("a form in which %s has no name is refused for that", async (_name, named) => {
  const server = await testServer();
  const { payload, headers } = form([
    { name: "purpose", value: "fine-tune" },
    { name: "file", filename: "NAME", content: "{}" },
  ]);
  const text = payload.toString("latin1").replace(named, named.replace(/^name=/, "called="));
  const answer = await server.app.inject({ method: "POST", url: "/v1/files", payload: text, headers });
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toMatchObject({
    error: {
      message:
        "A member of your form has no name. Expected a 'file' and a 'purpose', each with a name in its 'Content-Disposition'.",
      param: "file",
      code: "missing_required_parameter",
    },
  });
  expect(await blobsOf(server)).toEqual([]);
});

test("a deleted file is gone, and its bytes with it", async () => {
  const server = await testServer();
  const { id } = await upload(server);
  const deleted = await server.app.inject({ method: "DELETE", url: `/v1/files/${id}` });
  expect(deleted.json()).toEqual({ id, object: "file", deleted: true });
  expect(await blobsOf(server)).toEqual([]);
  for (const [method, url] of [
    ["GET", `/v1/files/${id}`],
    ["GET", `/v1/files/${id}/content`],
    ["DELETE", `/v1/files/${id}`],
  ] as const) {
    const answer = await server.app.inject({ method, url });
    expect(answer.statusCode).toBe(404);
    expect(answer.json()).toEqual({
      error: {
        message: `No such File object: ${id}`,
        type: "invalid_request_error",
        param: "id",
        code: null,
      },
    });
  }
});

test("lists go newest first, page by page, even while their elements are deleted", async () => {
  const server = await testServer();
  const ids: string[] = [];
  for (let index = 0; index < 5; index++) ids.unshift((await upload(server)).id);
  const list = async (query: string) =>
    (await server.app.inject(`/v1/files?${query}`)).json<{
      data: { id: string }[];
      has_more: boolean;
      first_id: string | null;
      last_id: string | null;
    }>();
  const first = await list("limit=2");
  expect(first).toMatchObject({ object: "list", has_more: true, first_id: ids[0], last_id: ids[1] });
  await server.app.inject({ method: "DELETE", url: `/v1/files/${ids[1]}` });
  const second = await list(`limit=3&after=${ids[1]}`);
  expect(second.data.map(({ id }) => id)).toEqual(ids.slice(2));
  expect(second.has_more).toBe(false);
  expect((await list("order=asc")).data.map(({ id }) => id)).toEqual(
    [...ids].reverse().filter((id) => id !== ids[1]),
  );
  expect(await list("purpose=batch")).toEqual({
    object: "list",
    data: [],
    has_more: false,
    first_id: null,
    last_id: null,
  });
});

test.each([
  ["limit=0", "limit", "integer_below_min_value"],
  ["limit=10001", "limit", "integer_above_max_value"],
  ["limit=many", "limit", "invalid_type"],
  ["order=up", "order", "invalid_value"],
  ["after=file-nobody", "after", "invalid_value"],
  ["colour=red", "colour", "unknown_parameter"],
])("a list with %s is refused, naming %s", async (query, param, code) => {
  const server = await testServer();
  const answer = await server.app.inject(`/v1/files?${query}`);
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toMatchObject({ error: { param, code } });
});

const file = { name: "file", filename: "a.jsonl", content: "{}" };
const purpose = { name: "purpose", value: "fine-tune" };

test.each([
  ["no file", [purpose], "file", "missing_required_parameter", "Missing required parameter: 'file'."],
  ["no purpose", [file], "purpose", "missing_required_parameter", "Missing required parameter: 'purpose'."],
  [
    "a file without a filename",
    [purpose, { name: "file", value: "{}" }],
    "file",
    "missing_required_parameter",
    "'file' must be a file: send it as a form member with a filename.",
  ],
  [
    "an unknown purpose",
    [file, { name: "purpose", value: "fun" }],
    "purpose",
    null,
    "'fun' is not one of ['assistants', 'batch', 'fine-tune', 'vision', 'user_data', 'evals'] - 'purpose'",
  ],
  [
    "an unknown member",
    [file, purpose, { name: "colour", value: "red" }],
    "colour",
    "unknown_parameter",
    "Unknown parameter: 'colour'.",
  ],
  [
    "two files",
    [file, purpose, file],
    "file",
    "unknown_parameter",
    "Expected one 'file', but got a second one. Send each in a request of its own.",
  ],
  [
    "too short a life",
    [
      file,
      purpose,
      { name: "expires_after[anchor]", value: "created_at" },
      { name: "expires_after[seconds]", value: "60" },
    ],
    "expires_after.seconds",
    "integer_below_min_value",
    "Invalid 'expires_after.seconds': integer below minimum value. Expected a value >= 3600, but got 60 instead.",
  ],
])("an upload with %s is refused and leaves nothing", async (_name, parts, param, code, message) => {
  const server = await testServer();
  const answer = await server.app.inject({ method: "POST", url: "/v1/files", ...form(parts) });
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toEqual({ error: { message, type: "invalid_request_error", param, code } });
  expect(await blobsOf(server)).toEqual([]);
});

test("an upload above the limit is refused with 413 and leaves nothing", async () => {
  const server = await testServer({ maxUploadBytes: 1000 });
  const big = { ...file, content: "x".repeat(200_000) };
  const answer = await server.app.inject({ method: "POST", url: "/v1/files", ...form([big, purpose]) });
  expect(answer.statusCode).toBe(413);
  expect(answer.headers["x-should-retry"]).toBe("false");
  expect(answer.json()).toMatchObject({ error: { param: "file", code: "file_too_large" } });
  expect(await blobsOf(server)).toEqual([]);
});

test("a form that is cut off is refused and leaves nothing", async () => {
  const server = await testServer();
  const { payload, headers } = form([purpose, { ...file, content: "x".repeat(5000) }]);
  const answer = await server.app.inject({
    method: "POST",
    url: "/v1/files",
    payload: payload.subarray(0, 3000),
    headers,
  });
  expect(answer.statusCode).toBe(400);
  expect(await blobsOf(server)).toEqual([]);
});

test("a file with a life of its own disappears when it is over", async () => {
  let now = Date.now();
  const server = await testServer({}, { now: () => now });
  const answer = await server.app.inject({
    method: "POST",
    url: "/v1/files",
    ...form([
      file,
      purpose,
      { name: "expires_after[anchor]", value: "created_at" },
      { name: "expires_after[seconds]", value: "3600" },
    ]),
  });
  const { id, created_at, expires_at } = answer.json<{
    id: string;
    created_at: number;
    expires_at: number;
  }>();
  expect(expires_at - created_at).toBe(3600);
  now += 3_601_000;
  expect((await server.app.inject(`/v1/files/${id}`)).statusCode).toBe(404);
  expect(await server.stores.blobs.sweep((ids) => server.stores.files.liveAmong(ids), now)).toBe(1);
});

test.each([
  ["base64", Buffer.from("step,train_loss\n1,0.50000\n").toString("base64")],
  ["csv", "step,train_loss\n1,0.50000\n"],
] as const)("a result file is sent as %s when the setting says so", async (resultFileEncoding, body) => {
  const server = await testServer({ resultFileEncoding });
  const { id } = await upload(server);
  const job = await server.app.inject({
    method: "POST",
    url: "/v1/fine_tuning/jobs",
    payload: { model: "gpt-4o-mini", training_file: id },
  });
  const jobId = job.json<{ id: string }>().id;
  await succeedJob(server, jobId);
  const { result_files } = (await server.app.inject(`/v1/fine_tuning/jobs/${jobId}`)).json<{
    result_files: string[];
  }>();
  const answer = await server.app.inject(`/v1/files/${result_files[0]}/content`);
  expect(answer.body).toBe(body);
  expect(answer.headers["content-length"]).toBe(String(body.length));
});

test("content that was lost under the server is told as lost, and as not found when the file was deleted meanwhile", async () => {
  const server = await testServer();
  const { id } = await upload(server);
  await rm(server.stores.blobs.path(id));
  const content = () => server.app.inject(`/v1/files/${id}/content`);
  const lost = await content();
  expect(lost.statusCode).toBe(500);
  expect(lost.json()).toEqual({
    error: {
      message: `The content of ${id} is not on the server's disk any more, though nobody has deleted it here. Upload it again, or have it put back from a copy.`,
      type: "server_error",
      param: null,
      code: "content_lost",
    },
  });
  const { blobs } = server.stores;
  const read = blobs.read.bind(blobs);
  blobs.read = async (asked) => {
    await server.app.inject({ method: "DELETE", url: `/v1/files/${id}` });
    return read(asked);
  };
  expect((await content()).statusCode).toBe(404);
});

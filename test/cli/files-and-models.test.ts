// Files and models on the command line: tables for people, the API's own objects for programs.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startFakeServer, tunesmith } from "./fake-server.ts";

let folder: string;
let close: () => Promise<unknown> = async () => undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tunesmith-cli-"));
});
afterEach(async () => {
  rmSync(folder, { recursive: true });
  await close();
});

function fileObject(id: string, more: object = {}) {
  return {
    object: "file",
    id,
    purpose: "fine-tune",
    filename: "train.jsonl",
    bytes: 12345,
    created_at: 1_790_000_000,
    expires_at: null,
    status: "processed",
    status_details: null,
    ...more,
  };
}

test("upload sends the bytes, the name and the purpose", async () => {
  const server = await startFakeServer({ "POST /v1/files": fileObject("file-abc") });
  close = server.close;
  const path = join(folder, "tråining.jsonl");
  writeFileSync(path, '{"messages":[]}\n');
  const { code, out } = await tunesmith(["files", "upload", path, "--base-url", server.baseUrl]);
  expect({ code, out }).toEqual({ code: 0, out: "file-abc  train.jsonl, 12,345 bytes\n" });
  const [asked] = server.asked;
  expect(asked?.headers["content-type"]).toMatch(/^multipart\/form-data; boundary=/);
  expect(asked?.body).toContain('name="purpose"\r\n\r\nfine-tune\r\n');
  expect(asked?.body).toContain('filename="tråining.jsonl"');
  expect(asked?.body).toContain('\r\n\r\n{"messages":[]}\n\r\n');
});

test("list is an aligned table, and says how to go on", async () => {
  const data = [fileObject("file-abc"), fileObject("file-de", { filename: "v.jsonl", bytes: 7 })];
  const list = { object: "list", data, has_more: true, first_id: "file-abc", last_id: "file-de" };
  const server = await startFakeServer({ "GET /v1/files": list });
  close = server.close;
  const words = ["files", "list", "--purpose", "fine-tune", "--limit", "2", "--base-url", server.baseUrl];
  const { code, out } = await tunesmith(words);
  expect(code).toBe(0);
  expect(out.split("\n")).toEqual([
    "ID        FILENAME     PURPOSE     BYTES  CREATED",
    "file-abc  train.jsonl  fine-tune  12,345  2026-09-21 14:13:20Z",
    "file-de   v.jsonl      fine-tune       7  2026-09-21 14:13:20Z",
    "More: tunesmith files list --purpose fine-tune --after file-de",
    "",
  ]);
  expect(server.asked[0]?.path).toBe("/v1/files?purpose=fine-tune&limit=2");
  const json = await tunesmith([...words, "--json"]);
  expect(JSON.parse(json.out)).toEqual(list);
});

test("get and delete", async () => {
  const server = await startFakeServer({
    "GET /v1/files/file-abc": fileObject("file-abc"),
    "DELETE /v1/files/file-abc": { id: "file-abc", object: "file", deleted: true },
  });
  close = server.close;
  const got = await tunesmith(["files", "get", "file-abc", "--base-url", server.baseUrl]);
  expect(got.out).toContain("filename  train.jsonl\n");
  expect(got.out).not.toContain("expires");
  const deleted = await tunesmith(["files", "delete", "file-abc", "--base-url", server.baseUrl]);
  expect(deleted).toMatchObject({ code: 0, out: "Deleted file-abc\n" });
});

test("content is the bytes as they are", async () => {
  const bytes = Buffer.from([0, 255, 10, 13, 128]);
  const server = await startFakeServer({
    "GET /v1/files/file-abc": fileObject("file-abc"),
    "GET /v1/files/file-abc/content": (response) => response.end(bytes),
  });
  close = server.close;
  const target = join(folder, "copy.bin");
  const base = ["files", "content", "file-abc", "--base-url", server.baseUrl];
  expect(await tunesmith([...base, "-o", target])).toMatchObject({ code: 0, out: `Wrote ${target}\n` });
  expect(readFileSync(target)).toEqual(bytes);
  expect(readdirSync(folder)).toEqual(["copy.bin"]);
  const json = await tunesmith([...base, "--json"]);
  expect(JSON.parse(json.out)).toEqual({ id: "file-abc", content_base64: bytes.toString("base64") });
});

test("a download that breaks off leaves nothing behind", async () => {
  const server = await startFakeServer({
    "GET /v1/files/file-abc": fileObject("file-abc"),
    "GET /v1/files/file-abc/content": (response) => {
      response.writeHead(200, { "content-length": "1000" });
      response.write("half", () => response.destroy());
    },
  });
  close = server.close;
  const target = join(folder, "copy.bin");
  const { code, err } = await tunesmith([
    ...["files", "content", "file-abc", "-o", target],
    ...["--base-url", server.baseUrl],
  ]);
  expect(code).toBe(1);
  expect(err).toContain(`Could not write "${target}"`);
  expect(readdirSync(folder)).toEqual([]);
});

test.each(["base64", "csv"])("a result file sent as %s is printed as CSV", async (encoding) => {
  const csv = "step,train_loss\n1,2.00000\n";
  const server = await startFakeServer({
    "GET /v1/files/file-abc": fileObject("file-abc", { purpose: "fine-tune-results" }),
    "GET /v1/files/file-abc/content": (response) =>
      response.end(encoding === "csv" ? csv : Buffer.from(csv).toString("base64")),
  });
  close = server.close;
  const { code, out } = await tunesmith(["files", "content", "file-abc", "--base-url", server.baseUrl]);
  expect({ code, out }).toEqual({ code: 0, out: csv });
});

test("models shows what kind each is and the local model behind it", async () => {
  const model = (id: string, base_model: string) => ({
    ...{ id, object: "model", created: 1_790_000_000, owned_by: "acme" },
    tunesmith: { base_model },
  });
  const data = [
    model("smollm2-135m-instruct", "smollm2-135m-instruct"),
    model("gpt-4o-mini-2024-07-18", "smollm2-135m-instruct"),
    model("ft:gpt-4o-mini-2024-07-18:acme::abcdEFGH", "smollm2-135m-instruct"),
    model("ft:gpt-4o-mini-2024-07-18:acme::abcdEFGI:ckpt-step-8", "smollm2-135m-instruct"),
  ];
  const server = await startFakeServer({ "GET /v1/models": { object: "list", data } });
  close = server.close;
  const { out } = await tunesmith(["models", "--base-url", server.baseUrl]);
  const rows = out
    .trimEnd()
    .split("\n")
    .map((line) => line.split(/ {2,}/));
  expect(rows.map((row) => row.slice(0, 3))).toEqual([
    ["ID", "KIND", "LOCAL BASE MODEL"],
    ["smollm2-135m-instruct", "base", "smollm2-135m-instruct"],
    ["gpt-4o-mini-2024-07-18", "alias", "smollm2-135m-instruct"],
    ["ft:gpt-4o-mini-2024-07-18:acme::abcdEFGH", "fine-tuned", "smollm2-135m-instruct"],
    ["ft:gpt-4o-mini-2024-07-18:acme::abcdEFGI:ckpt-step-8", "checkpoint", "smollm2-135m-instruct"],
  ]);
  const listed = await tunesmith(["models", "list", "--base-url", server.baseUrl]);
  expect(listed.out).toBe(out);
});

test("models delete sends the colons as they are", async () => {
  const id = "ft:gpt-4o-mini-2024-07-18:acme::abcdEFGH";
  const server = await startFakeServer({
    [`DELETE /v1/models/${id}`]: { id, object: "model", deleted: true },
  });
  close = server.close;
  const { code, out } = await tunesmith(["models", "delete", id, "--base-url", server.baseUrl]);
  expect({ code, out }).toEqual({ code: 0, out: `Deleted ${id}\n` });
});

test.each([
  [["files", "list"], 'No files yet. Upload one with "tunesmith files upload PATH".\n'],
  [["files", "list", "--purpose", "bogus"], 'No files with the purpose "bogus".\n'],
  [["files", "list", "--after", "file-a"], "No files after file-a.\n"],
  [["jobs", "list"], 'No jobs yet. Create one with "tunesmith jobs create".\n'],
  [["jobs", "list", "--after", "ftjob-a"], "No jobs after ftjob-a.\n"],
  [["keys", "list", "--project", "proj_a"], "No keys of the project proj_a.\n"],
])("%s says why it is empty", async (words, says) => {
  const nothing = { object: "list", data: [], has_more: false, first_id: null, last_id: null };
  const server = await startFakeServer({
    "GET /v1/files": nothing,
    "GET /v1/fine_tuning/jobs": nothing,
    "GET /tunesmith/keys": nothing,
  });
  close = server.close;
  const { code, out } = await tunesmith([...words, "--base-url", server.baseUrl]);
  expect({ code, out }).toEqual({ code: 0, out: says });
});

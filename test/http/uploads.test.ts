// Uploads in parts: the official client's whole way to a file and a job, and what holds whatever happens between: order, sums,
// ends, restarts, crashes and expiry.
import { createHash } from "node:crypto";
import { readdir, utimes } from "node:fs/promises";
import { join } from "node:path";
import OpenAI, { toFile } from "openai";
import { expect, test } from "vitest";
import { sweepBlobs } from "../../src/store/sweep.ts";
import { uploadObject, uploadPartObject } from "../../src/wire/uploads.ts";
import type { UploadObject } from "../../src/wire/uploads.ts";
import { BASE_MODEL, form, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const filesOf = (server: TestServer, folder: string) => readdir(join(server.home, folder)).catch(() => []);
const md5Of = (text: string) => createHash("md5").update(text).digest("hex");

const newUpload = (bytes: number, more: object = {}) => ({
  filename: "train.jsonl",
  purpose: "fine-tune",
  bytes,
  mime_type: "text/jsonl",
  ...more,
});

async function post(server: Pick<TestServer, "app">, url: string, payload?: object, headers = {}) {
  return server.app.inject({
    method: "POST",
    url: `/v1/uploads${url}`,
    headers,
    ...(payload && { payload }),
  });
}

async function begin(server: TestServer, bytes: number, more: object = {}): Promise<UploadObject> {
  const answer = await post(server, "", newUpload(bytes, more));
  if (answer.statusCode !== 200) throw new Error(answer.body);
  return answer.json();
}

async function sendPart(
  server: Pick<TestServer, "app">,
  uploadId: string,
  content: string | Buffer,
  headers = {},
) {
  const part = form([{ name: "data", filename: "upload", content }]);
  return server.app.inject({
    method: "POST",
    url: `/v1/uploads/${uploadId}/parts`,
    payload: part.payload,
    headers: { ...part.headers, ...headers },
  });
}

async function addPart(server: Pick<TestServer, "app">, uploadId: string, content: string): Promise<string> {
  const answer = await sendPart(server, uploadId, content);
  if (answer.statusCode !== 200) throw new Error(answer.body);
  return answer.json<{ id: string }>().id;
}

const complete = (server: Pick<TestServer, "app">, uploadId: string, partIds: string[], more: object = {}) =>
  post(server, `/${uploadId}/complete`, { part_ids: partIds, ...more });

const errorOf = (answer: { json: <T>() => T }) => answer.json<{ error: Record<string, unknown> }>().error;

test("the official client: parts in parallel and out of order, md5, a file, a job", async () => {
  const server = await testServer();
  const client = new OpenAI({ baseURL: `${await server.listen()}/v1`, apiKey: "any" });
  const line = '{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]}\n';
  const pieces = Array.from({ length: 12 }, (_, index) => line.repeat(index + 1));
  const whole = pieces.join("");
  const upload = await client.uploads.create({
    filename: "übung.jsonl",
    purpose: "fine-tune",
    bytes: Buffer.byteLength(whole),
    mime_type: "text/jsonl",
  });
  expect(uploadObject.strict().parse(upload)).toMatchObject({
    id: expect.stringMatching(/^upload_[0-9a-f]{32}$/) as string,
    status: "pending",
    filename: "übung.jsonl",
    expires_at: upload.created_at + 3600,
  });
  expect(Object.keys(upload)).toEqual(
    ["id", "object", "bytes", "created_at", "filename", "purpose", "status", "expires_at"], // no `file`
  );
  const places = [...pieces.keys()].reverse();
  const added = await Promise.all(
    places.map(async (place) => {
      const data = await toFile(Buffer.from(pieces[place] ?? ""), "piece");
      return { place, part: await client.uploads.parts.create(upload.id, { data }) };
    }),
  );
  const { id: partId, ...part } = uploadPartObject.strict().parse(added[0]?.part);
  expect(partId).toMatch(/^part_[0-9a-f]{32}$/);
  expect(part).toMatchObject({ object: "upload.part", upload_id: upload.id });
  const part_ids = added.sort((a, b) => a.place - b.place).map((each) => each.part.id);
  const wrong = client.uploads.complete(upload.id, { part_ids, md5: md5Of("something else") });
  await expect(wrong).rejects.toMatchObject({ status: 400, param: "md5", code: "md5_mismatch" });
  expect(await filesOf(server, "files")).toEqual([]);
  const completed = await client.uploads.complete(upload.id, {
    part_ids,
    md5: md5Of(whole).toUpperCase(),
  });
  expect(uploadObject.strict().parse(completed)).toMatchObject({ status: "completed", id: upload.id });
  const { file } = completed;
  expect(file).toMatchObject({
    object: "file",
    filename: "übung.jsonl",
    purpose: "fine-tune",
    bytes: Buffer.byteLength(whole),
    created_at: upload.created_at,
    expires_at: null,
    status: "processed",
  });
  expect(await filesOf(server, "uploads")).toEqual([]);
  const id = file?.id ?? "";
  expect(await client.files.retrieve(id)).toEqual(file);
  expect(await (await client.files.content(id)).text()).toBe(whole);
  const stored = await server.stores.files.get("proj_default00000000000000000", id);
  expect(stored?.sha256).toBe(createHash("sha256").update(whole).digest("hex"));
  const job = await client.fineTuning.jobs.create({ model: BASE_MODEL, training_file: id });
  expect(job).toMatchObject({ status: "validating_files", training_file: id });
});

test("an upload that was cancelled, completed or has expired takes nothing more, and says why", async () => {
  let now = Date.now();
  const server = await testServer({}, { now: () => now });
  const cancelled = await begin(server, 2);
  await addPart(server, cancelled.id, "ab");
  expect((await post(server, `/${cancelled.id}/cancel`)).json()).toEqual({
    ...cancelled,
    status: "cancelled",
  });
  expect(await filesOf(server, "uploads")).toEqual([]);
  const completed = await begin(server, 2);
  const part = await addPart(server, completed.id, "ab");
  const { file } = (await complete(server, completed.id, [part])).json<UploadObject>();
  const expired = await begin(server, 2);
  now += 3_600_000;
  const words = {
    [cancelled.id]: "is cancelled.",
    [completed.id]: `is completed: it is the file ${file?.id}.`,
    [expired.id]: `has expired: an upload takes parts for 3600 seconds, this one until ${expired.expires_at}.`,
  };
  for (const [id, why] of Object.entries(words)) {
    for (const answer of [
      await sendPart(server, id, "cd"),
      await complete(server, id, ["part_x"]),
      await post(server, `/${id}/cancel`),
    ]) {
      expect(answer.statusCode).toBe(400);
      expect(errorOf(answer)["message"]).toBe(`Upload ${id} ${why} Create a new one to send more.`);
      expect(errorOf(answer)["code"]).toMatch(/^upload_(cancelled|completed|expired)$/);
    }
  }
  expect(await filesOf(server, "uploads")).toEqual([]);
});

test("a completion that does not fit is refused and leaves the upload pending", async () => {
  const server = await testServer();
  const { id } = await begin(server, 4);
  const other = await begin(server, 2);
  const [one, two, foreign] = [
    await addPart(server, id, "ab"),
    await addPart(server, id, "cd"),
    await addPart(server, other.id, "xy"),
  ];
  const refusals: [string[], object, string, string, string][] = [
    [
      [one],
      {},
      "part_ids",
      "bytes_mismatch",
      `Invalid 'part_ids': these parts hold 2 bytes, but upload ${id} was created for 4. It is still pending: name all its parts, add what is missing, or cancel it.`,
    ],
    [
      [one, one],
      {},
      "part_ids[1]",
      "invalid_value",
      `Invalid 'part_ids[1]': the part '${one}' is named twice. Name each part once, in the order of the file.`,
    ],
    [
      [one, foreign],
      {},
      "part_ids[1]",
      "invalid_value",
      `Invalid 'part_ids[1]': upload ${id} has no part '${foreign}'. Send the ids that adding its parts answered.`,
    ],
    [
      [two, one],
      { md5: md5Of("abcd") },
      "md5",
      "md5_mismatch",
      `Invalid 'md5': the parts in this order have ${md5Of("cdab")}, not ${md5Of("abcd")}. Upload ${id} is still pending: check the order of 'part_ids', or add the part that is damaged again.`,
    ],
    [
      [one, two],
      { md5: "no" },
      "md5",
      "invalid_value",
      "Invalid 'md5': expected 32 hexadecimal digits, the MD5 of the whole file's bytes.",
    ],
    [
      [],
      {},
      "part_ids",
      "empty_array",
      "Invalid 'part_ids': empty array. Expected an array with minimum length 1, but got an empty array instead.",
    ],
  ];
  for (const [ids, more, param, code, message] of refusals) {
    const answer = await complete(server, id, ids, more);
    expect([answer.statusCode, errorOf(answer)]).toEqual([
      400,
      { message, type: "invalid_request_error", param, code },
    ]);
  }
  expect(await filesOf(server, "files")).toEqual([]);
  const answer = await complete(server, id, [two, one], { md5: md5Of("cdab") });
  const fileId = answer.json<UploadObject>().file?.id ?? "";
  expect((await server.app.inject(`/v1/files/${fileId}/content`)).body).toBe("cdab");
});

test("completions at the same time are carried out once", async () => {
  const server = await testServer();
  const { id } = await begin(server, 4);
  const parts = [await addPart(server, id, "ab"), await addPart(server, id, "cd")];
  const { partBlobs } = server.stores;
  const read = partBlobs.read.bind(partBlobs);
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  const reading = new Promise<void>((resolve) => {
    partBlobs.read = async (partId) => {
      resolve();
      await held;
      return read(partId);
    };
  });
  const same = Promise.all(Array.from({ length: 6 }, () => complete(server, id, parts)));
  await reading;
  const different = [await complete(server, id, [...parts].reverse()), await post(server, `/${id}/cancel`)];
  release();
  const [first, ...others] = (await same).map(({ body }) => body);
  expect(others).toEqual(others.map(() => first));
  for (const answer of different) {
    expect(answer.statusCode).toBe(409);
    expect(answer.headers["x-should-retry"]).toBe("true");
    expect(errorOf(answer)["code"]).toBe("upload_being_completed");
  }
  expect((await server.app.inject("/v1/files")).json<{ data: object[] }>().data).toHaveLength(1);
  expect(await filesOf(server, "files")).toHaveLength(1);
});

test("a completion that fails half-way leaves a pending upload and no file; its bytes are swept", async () => {
  const server = await testServer();
  const { id } = await begin(server, 4);
  const parts = [await addPart(server, id, "ab"), await addPart(server, id, "cd")];
  const { uploads } = server.stores;
  const real = uploads.complete.bind(uploads);
  uploads.complete = async () => Promise.reject(new Error("the process dies here"));
  expect((await complete(server, id, parts)).statusCode).toBe(500);
  uploads.complete = real;
  expect((await server.app.inject("/v1/files")).json<{ data: object[] }>().data).toEqual([]);
  for (const left of await filesOf(server, "files")) await utimes(join(server.home, "files", left), 1, 1);
  await sweepBlobs(server.stores, Date.now());
  expect(await filesOf(server, "files")).toEqual([]);
  expect((await complete(server, id, parts)).json()).toMatchObject({ status: "completed" });
});

test("a completion whose commit stands, though the disk did not answer for it, keeps its bytes", async () => {
  const server = await testServer();
  const { id } = await begin(server, 4);
  const parts = [await addPart(server, id, "ab"), await addPart(server, id, "cd")];
  const { uploads } = server.stores;
  const real = uploads.complete.bind(uploads);
  uploads.complete = async (...args) => {
    await real(...args);
    throw new Error("EIO");
  };
  expect((await complete(server, id, parts)).statusCode).toBe(500);
  const [file] = (await server.app.inject("/v1/files")).json<{ data: { id: string }[] }>().data;
  expect((await server.app.inject(`/v1/files/${file?.id}/content`)).body).toBe("abcd");
});

test("a completion that comes while its upload is cancelled is told to wait", async () => {
  const server = await testServer();
  const { id } = await begin(server, 2);
  const part = await addPart(server, id, "ab");
  const cancelled = server.app.inject({ method: "POST", url: `/v1/uploads/${id}/cancel` });
  const completed = complete(server, id, [part]);
  expect((await cancelled).json()).toMatchObject({ status: "cancelled" });
  expect([400, 409]).toContain((await completed).statusCode);
});

test("expired uploads leave the disk, and a pending one keeps its parts", async () => {
  let now = Date.now();
  const server = await testServer({}, { now: () => now });
  const old = await begin(server, 2);
  const oldPart = await addPart(server, old.id, "ab");
  now += 3_000_000;
  const young = await begin(server, 2);
  const youngPart = await addPart(server, young.id, "cd");
  now += 700_000;
  // As if written when the clock says so; a sweep leaves young leftovers to whoever may be writing them.
  for (const id of [oldPart, youngPart]) {
    await utimes(join(server.home, "uploads", id), (now - 3_700_000) / 1000, (now - 3_700_000) / 1000);
  }
  expect(await sweepBlobs(server.stores, now)).toBe(1);
  expect(await filesOf(server, "uploads")).toEqual([youngPart]);
  expect((await complete(server, young.id, [youngPart])).statusCode).toBe(200);
  expect(errorOf(await complete(server, old.id, [oldPart]))["code"]).toBe("upload_expired");
});

test("an upload whose hour ends while it is completed becomes a file, which has all of its life before it", async () => {
  let now = Date.now();
  const server = await testServer({}, { now: () => now });
  const expires_after = { anchor: "created_at", seconds: 3600 };
  const { id } = await begin(server, 2, { expires_after });
  const part = await addPart(server, id, "ab");
  const { partBlobs, uploads } = server.stores;
  const read = partBlobs.read.bind(partBlobs);
  partBlobs.read = async (partId) => {
    now += 7_200_000;
    await uploads.expire();
    return read(partId);
  };
  const completed = (await complete(server, id, [part])).json<UploadObject>();
  expect(completed).toMatchObject({ status: "completed" });
  expect(completed.file?.expires_at).toBe(Math.floor(now / 1000) + expires_after.seconds);
  const kept = await server.app.inject(`/v1/files/${completed.file?.id}`);
  expect(kept.statusCode).toBe(200);
});

// Lists of jobs by their metadata: pairs in any combination, pages, projects, and jobs from before the pairs had a table.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "libsql";
import { expect, onTestFinished, test } from "vitest";
import { openDatabase } from "../../src/store/database.ts";
import { FineTuningStore } from "../../src/store/fine-tuning.ts";
import { MIGRATIONS } from "../../src/store/migrations.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";
import { BASE_MODEL, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const JOBS = "/v1/fine_tuning/jobs";

async function createJob(server: TestServer, metadata: object | null, headers: Record<string, string> = {}) {
  const { id: training_file } = await upload(server, "{}\n", { headers });
  const payload = { model: BASE_MODEL, training_file, metadata };
  const answer = await server.app.inject({ method: "POST", url: JOBS, payload, headers });
  expect(answer.statusCode, answer.body).toBe(200);
  return answer.json<{ id: string }>().id;
}

async function list(
  server: TestServer,
  query: Record<string, string>,
  headers: Record<string, string> = {},
): Promise<{ ids: string[]; hasMore: boolean }> {
  const answer = await server.app.inject({ url: JOBS, query, headers });
  expect(answer.statusCode, answer.body).toBe(200);
  const { data, has_more } = answer.json<{ data: { id: string }[]; has_more: boolean }>();
  return { ids: data.map(({ id }) => id), hasMore: has_more };
}

test("pairs must all match as they are, and pages go on from any job of the project", async () => {
  const server = await testServer();
  const both = await createJob(server, { team: "a", run: "1" });
  const other = await createJob(server, { team: "a", run: "2" });
  const longer = await createJob(server, { "my team": "a", team: "ab" });
  const empty = await createJob(server, {});
  const none = await createJob(server, null);
  const newest = await createJob(server, { run: "1", team: "a" });
  const team = { "metadata[team]": "a" };
  expect(await list(server, team)).toEqual({ ids: [newest, other, both], hasMore: false });
  expect(await list(server, { ...team, "metadata[run]": "1" })).toEqual({
    ids: [newest, both],
    hasMore: false,
  });
  expect((await list(server, { "metadata[run]": "1", "metadata[none]": "1" })).ids).toEqual([]);
  expect((await list(server, { "metadata[my team]": "a" })).ids).toEqual([longer]);
  expect(await list(server, { ...team, limit: "2" })).toEqual({ ids: [newest, other], hasMore: true });
  expect(await list(server, { ...team, limit: "2", after: other })).toEqual({ ids: [both], hasMore: false });
  for (const after of [longer, empty, none]) {
    expect((await list(server, { ...team, after })).ids).toEqual([other, both]);
  }
  expect((await list(server, { metadata: "null" })).ids).toEqual([none]);
});

test("odd keys and values are found as they were sent", async () => {
  const server = await testServer();
  for (const text of ["a.b[0]", '"', "\\u0041", "ключ", "$.x", "%"]) {
    const id = await createJob(server, { [text]: text });
    expect((await list(server, { [`metadata[${text}]`]: text })).ids, text).toEqual([id]);
  }
  // Halves of surrogate pairs, of which a database could make one character.
  await createJob(server, { "\ud800": "a", "\ud801": "a" });
});

test("another project's job is in no list by metadata", async () => {
  const apiKeys = ["owner"];
  const server = await testServer({ apiKeys });
  const headers = { authorization: "Bearer owner" };
  const made = await server.app.inject({
    method: "POST",
    url: "/tunesmith/projects",
    payload: { name: "other" },
    headers,
  });
  const other = { ...headers, "openai-project": made.json<{ id: string }>().id };
  const own = await createJob(server, { team: "a" }, headers);
  const foreign = await createJob(server, { team: "a" }, other);
  expect((await list(server, { "metadata[team]": "a" }, headers)).ids).toEqual([own]);
  expect((await list(server, { "metadata[team]": "a" }, other)).ids).toEqual([foreign]);
});

test("jobs from before the pairs had a table are found, page by page", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tunesmith-pairs-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, "tunesmith.db");
  const before = MIGRATIONS.findIndex((statements) =>
    statements.some((each) => each.includes("CREATE TABLE fine_tuning_job_metadata")),
  );
  const old = new Sqlite(path);
  for (const statement of MIGRATIONS.slice(0, before).flat()) old.exec(statement);
  old.exec(`PRAGMA user_version = ${before}`);
  old.exec(`INSERT INTO files (id, project_id, created_at, bytes, filename, purpose, sha256)
    VALUES ('file-1', '${DEFAULT_PROJECT}', 1, 1, 'a', 'fine-tune', '00')`);
  const insert = old.prepare(`INSERT INTO fine_tuning_jobs
    (id, project_id, created_at, status, model, base_model, training_file, seed, hyperparameters, metadata)
    VALUES (?, ?, 1, 'succeeded', 'm', 'm', 'file-1', 1, '{}', ?)`);
  for (const [id, metadata] of [
    ["one", { team: "a", "a.b": '"' }],
    ["two", { team: "a" }],
    ["three", {}],
    ["four", null],
  ] as const) {
    insert.run(id, DEFAULT_PROJECT, metadata === null ? null : JSON.stringify(metadata));
  }
  insert.run("foreign", "proj_other", '{"team":"a"}');
  old.close();
  const database = await openDatabase(path);
  onTestFinished(() => database.destroy());
  const jobs = new FineTuningStore(database);
  const idsOf = async (metadata: Record<string, string> | null, project = DEFAULT_PROJECT) =>
    (await jobs.list(project, { limit: 9, metadata })).data.map(({ id }) => id);
  expect(await idsOf({ team: "a" })).toEqual(["two", "one"]);
  expect(await idsOf({ "a.b": '"', team: "a" })).toEqual(["one"]);
  expect(await idsOf({ team: "a" }, "proj_other")).toEqual(["foreign"]);
  expect(await idsOf(null)).toEqual(["four"]);
  const page = await jobs.list(DEFAULT_PROJECT, { limit: 1, metadata: { team: "a" }, after: "two" });
  expect([page.data.map(({ id }) => id), page.hasMore]).toEqual([["one"], false]);
});

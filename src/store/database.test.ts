// Opening a database: new, again, and one from the future; and that what was committed is there after a reopening.
import { mkdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { sql } from "kysely";
import Sqlite from "libsql";
import { expect, onTestFinished, test } from "vitest";
import { Unavailable } from "../errors.ts";
import { openDatabase } from "./database.ts";
import { FileStore } from "./files.ts";
import { MIGRATIONS } from "./migrations.ts";
import { ModelStore } from "./models.ts";
import { DEFAULT_PROJECT } from "../wire/ids.ts";

async function temporaryPath(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "tunesmith-db-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return join(folder, "sub", "tunesmith.db");
}

test("rows survive a reopening, and migrations run once", async () => {
  const path = await temporaryPath();
  const file = {
    id: "file-1",
    projectId: DEFAULT_PROJECT,
    filename: "a",
    purpose: "batch" as const,
    bytes: 1,
    sha256: "00",
    expiresAt: null,
  };
  const first = await openDatabase(path);
  await new FileStore(first).create(file);
  await first.destroy();
  const second = await openDatabase(path);
  expect(await new FileStore(second).get(DEFAULT_PROJECT, "file-1")).toMatchObject(file);
  await second.destroy();
});

test("two connections may open at once and see each other's writes", async () => {
  const path = await temporaryPath();
  const [a, b] = await Promise.all([openDatabase(path), openDatabase(path)]);
  const file = {
    id: "file-1",
    projectId: DEFAULT_PROJECT,
    filename: "a",
    purpose: "batch" as const,
    bytes: 1,
    sha256: "00",
    expiresAt: null,
  };
  await new FileStore(a).create(file);
  expect(await new FileStore(b).get(DEFAULT_PROJECT, "file-1")).not.toBeNull();
  await a.destroy();
  await b.destroy();
});

test("a database of a newer version is refused and left as it is", async () => {
  const path = await temporaryPath();
  const database = await openDatabase(path);
  const newer = MIGRATIONS.length + 1;
  await sql.raw(`PRAGMA user_version = ${newer}`).execute(database);
  await database.destroy();
  const opening = openDatabase(path);
  await expect(opening).rejects.toBeInstanceOf(Unavailable);
  await expect(opening).rejects.toThrow(
    `The database ${path} has schema version ${newer}; this tunesmith knows versions up to ${MIGRATIONS.length}. It was written by a newer tunesmith: install that one, or choose another home folder.`,
  );
});

test("foreign keys are enforced", async () => {
  const database = await openDatabase(":memory:");
  onTestFinished(() => database.destroy());
  const event = sql`INSERT INTO fine_tuning_events (id, job_id, created_at, level, type, message, data) VALUES ('e', 'nobody', 1, 'info', 'message', 'm', '{}')`;
  await expect(event.execute(database)).rejects.toThrow("FOREIGN KEY");
});

test("objects made before there were projects belong to the default project", async () => {
  const path = await temporaryPath();
  mkdirSync(dirname(path));
  const old = new Sqlite(path);
  for (const statement of MIGRATIONS[0] ?? []) old.exec(statement);
  old.exec("PRAGMA user_version = 1");
  old.exec(
    "INSERT INTO files (id, created_at, bytes, filename, purpose, sha256) VALUES ('file-1', 1, 1, 'a', 'batch', '00')",
  );
  old.close();
  const database = await openDatabase(path);
  onTestFinished(() => database.destroy());
  const files = new FileStore(database);
  expect(await files.get(DEFAULT_PROJECT, "file-1")).toMatchObject({ projectId: DEFAULT_PROJECT });
  expect(await files.get("proj_other", "file-1")).toBeNull();
});

test("models of before imports keep their job, their place in lists and their permissions", async () => {
  const path = await temporaryPath();
  mkdirSync(dirname(path));
  const old = new Sqlite(path);
  // The migration after which a model may have no job.
  const before = MIGRATIONS.findIndex((statements) =>
    statements.some((each) => each.includes("models_before")),
  );
  for (const statement of MIGRATIONS.slice(0, before).flat()) old.exec(statement);
  old.exec(`PRAGMA user_version = ${before}`);
  for (const row of [
    "files (id, created_at, bytes, filename, purpose, sha256) VALUES ('file-1', 1, 1, 'a', 'fine-tune', '00')",
    "fine_tuning_jobs (id, created_at, status, model, base_model, training_file, seed, hyperparameters) VALUES ('job', 1, 'succeeded', 'm', 'm', 'file-1', 1, '{}')",
    "models (id, job_id, created_at, owned_by, base_model, requested_model, adapter_directory, deleted_at) VALUES ('ft:a', 'job', 1, 'me', 'm', 'm', 'jobs/a', 2), ('ft:b', 'job', 1, 'me', 'm', 'm', 'jobs/b', NULL)",
    "projects (id, created_at, name) VALUES ('proj_other', 1, 'other')",
    "checkpoint_permissions (id, model, project_id, created_at) VALUES ('cp', 'ft:b', 'proj_other', 1)",
  ])
    old.exec(`INSERT INTO ${row}`);
  old.close();
  const database = await openDatabase(path);
  onTestFinished(() => database.destroy());
  const models = new ModelStore(database, "/h");
  const kept = { id: "ft:b", jobId: "job", adapterDirectory: "/h/jobs/b" };
  expect(await models.get(DEFAULT_PROJECT, "ft:b")).toMatchObject(kept);
  expect(await models.usable("proj_other", "ft:b")).toMatchObject(kept);
  expect(await models.get(DEFAULT_PROJECT, "ft:a")).toBeNull();
  const imported = { ownedBy: "me", baseModel: "m", requestedModel: "m", adapterDirectory: "adapters/c" };
  await models.addImported({ id: "ft:c", projectId: DEFAULT_PROJECT, ...imported });
  expect((await models.list(DEFAULT_PROJECT)).map(({ id }) => id)).toEqual(["ft:c", "ft:b"]);
  expect(await models.importedDirectories()).toEqual(new Set(["/h/adapters/c"]));
  // A name that was deleted is never given out again, and foreign keys hold as before.
  const again = models.addImported({ id: "ft:a", projectId: DEFAULT_PROJECT, ...imported });
  await expect(again).rejects.toThrow("UNIQUE");
  const orphan = sql`INSERT INTO checkpoint_permissions (id, model, project_id, created_at) VALUES ('x', 'nobody', 'proj_other', 1)`;
  await expect(orphan.execute(database)).rejects.toThrow("FOREIGN KEY");
});

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

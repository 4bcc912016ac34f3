// Statements that stay prepared: they answer anew each time, also after a failure and after being pushed out.
import { CompiledQuery, RawNode } from "kysely";
import Sqlite from "libsql";
import { expect, onTestFinished, test } from "vitest";
import { SqliteConnection } from "./sqlite-connection.ts";

function connect() {
  const database = new Sqlite(":memory:");
  onTestFinished(() => void database.close());
  const connection = new SqliteConnection(database, (column) => column.toUpperCase());
  const ask = async (sql: string, ...parameters: unknown[]) =>
    (await connection.executeQuery(CompiledQuery.raw(sql, parameters))).rows;
  return { connection, ask };
}

test("a statement is asked again with other values, and its columns have the program's names", async () => {
  const { ask } = connect();
  expect(await ask("SELECT ? AS a, 'x' AS b, NULL AS c", 1)).toEqual([{ A: 1, B: "x", C: null }]);
  expect(await ask("SELECT ? AS a, 'x' AS b, NULL AS c", "two")).toEqual([{ A: "two", B: "x", C: null }]);
});

test("a statement that failed works when it is right", async () => {
  const { ask } = connect();
  await ask("CREATE TABLE t (a INTEGER UNIQUE)");
  const insert = "INSERT INTO t SELECT value FROM json_each(?) RETURNING a";
  expect(await ask(insert, "[1]")).toEqual([{ A: 1 }]);
  await expect(ask(insert, "[2,1]")).rejects.toThrow("UNIQUE");
  expect(await ask(insert, "[3,4]")).toEqual([{ A: 3 }, { A: 4 }]);
  expect(await ask("SELECT a FROM t ORDER BY a")).toEqual([{ A: 1 }, { A: 3 }, { A: 4 }]);
});

test("a kept statement sees a column that came later", async () => {
  const { ask } = connect();
  await ask("CREATE TABLE t (a INTEGER)");
  await ask("INSERT INTO t VALUES (1)");
  expect(await ask("SELECT a FROM t")).toEqual([{ A: 1 }]);
  await ask("ALTER TABLE t ADD COLUMN b INTEGER DEFAULT 2");
  expect(await ask("SELECT a FROM t")).toEqual([{ A: 1 }]);
});

test("more statements than are kept all answer, the first one again", async () => {
  const { ask } = connect();
  for (let index = 0; index < 1000; index++)
    expect(await ask(`SELECT ${index} AS a`)).toEqual([{ A: index }]);
  expect(await ask("SELECT 0 AS a")).toEqual([{ A: 0 }]);
});

test("only a SELECT that Kysely has built is known not to write", async () => {
  const { connection, ask } = connect();
  await ask("CREATE TABLE t (a INTEGER)");
  expect([connection.takeMayHaveWritten(), connection.takeMayHaveWritten()]).toEqual([true, false]);
  const select = { kind: "SelectQueryNode" } as const;
  await connection.executeQuery({ ...CompiledQuery.raw("SELECT a FROM t"), query: select });
  expect(connection.takeMayHaveWritten()).toBe(false);
  const raw = RawNode.createWithSql("SELECT 1");
  await connection.executeQuery({ ...CompiledQuery.raw("SELECT a FROM t"), query: raw });
  expect(connection.takeMayHaveWritten()).toBe(true);
});

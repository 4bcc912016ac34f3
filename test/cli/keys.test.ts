// Keys and projects on the command line, against a real server: the secret alone on standard output, so that it can be piped.
import { expect, test } from "vitest";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";
import { testServer } from "../http/harness.ts";
import { tunesmith } from "./fake-server.ts";

test("from the first admin key to a revoked one", async () => {
  const server = await testServer();
  const baseUrl = `${await server.listen()}/v1`;
  let apiKey = "";
  const run = (...words: string[]) =>
    tunesmith([...words, "--base-url", baseUrl, ...(apiKey === "" ? [] : ["--api-key", apiKey])]);

  const early = await run("keys", "create");
  expect(early).toMatchObject({ code: 1, out: "" });
  expect(early.err).toContain("The first key must be an admin key");
  const first = await run("keys", "create", "--scopes", "admin");
  expect(first.out).toMatch(/^sk-tunesmith-[A-Za-z0-9]{48}\n$/);
  expect(first.err).toMatch(
    new RegExp(
      `^Key key_\\w+ of ${DEFAULT_PROJECT}, for admin. It is shown this once and not kept: store it now.\n$`,
    ),
  );
  expect((await run("keys", "list")).err).toContain("You didn't provide an API key");
  apiKey = first.out.trim();

  const project = await run("projects", "create", "Team two", "--id", "proj_two");
  expect(project.out).toBe("proj_two  Team two\n");
  expect((await run("projects", "list")).out).toMatch(
    /^ID +NAME +CREATED\nproj_two +Team two +20.*Z\nproj_default0+ +Default project +20.*Z\n$/,
  );
  const words = ["keys", "create", "--name", "ci", "--project", "proj_two", "--scopes", "read, infer"];
  const limits = ["--requests-per-minute", "60", "--tokens-per-minute", "1000"];
  const made = await run(...words, ...limits, "--json");
  const key = JSON.parse(made.out) as { id: string; key: string; prefix: string };
  expect(made.err).toBe("");
  expect((await run("keys", "list", "--project", "proj_two")).out.split("\n").slice(0, 2)).toEqual([
    expect.stringMatching(/^ID +NAME +BEGINS WITH +PROJECT +SCOPES +LIMITS A MINUTE +LAST USED +STATUS$/),
    expect.stringMatching(
      new RegExp(`^${key.id} +ci +${key.prefix} +proj_two +read,infer +60 requests, 1000 tokens +- +good$`),
    ),
  ]);
  expect((await run("keys", "list", "--limit", "1")).out).toContain(
    `More: tunesmith keys list --after ${key.id}`,
  );
  expect(await run("keys", "revoke", key.id)).toMatchObject({ code: 0, out: `Revoked ${key.id}\n` });
  expect((await run("keys", "list")).out).toMatch(/ revoked 20.*Z\n/);
});

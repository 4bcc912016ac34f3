// `tunesmith serve` where it cannot: each refusal names what is in the way and the way out, and none is called a fault of the program.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { startFakeServer, tunesmith } from "./fake-server.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tunesmith-serve-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
afterEach(() => vi.unstubAllEnvs());

function serve(words: readonly string[], home = join(folder, "home")) {
  vi.stubEnv("TUNESMITH_HOME", home);
  vi.stubEnv("TUNESMITH_LOG_LEVEL", "silent");
  // Only with keys may a server listen for others.
  vi.stubEnv("TUNESMITH_API_KEYS", "a-key-0123456789");
  return tunesmith(["serve", ...words]);
}

test("on a port that another program has", async () => {
  const other = await startFakeServer({});
  const { port } = new URL(other.baseUrl);
  const message = `Another program listens on port ${port} of 127.0.0.1 already. End that one, or choose another port with --port or TUNESMITH_PORT (0 takes a free one).`;
  try {
    expect(await serve(["--port", port])).toEqual({ code: 1, out: "", err: `tunesmith: ${message}\n` });
    const { out } = await serve(["--port", port, "--json"]);
    expect(JSON.parse(out)).toEqual({ error: { message, type: null, param: "port", code: null } });
  } finally {
    await other.close();
  }
});

test.each(["192.0.2.1", "no-such-host.invalid"])(
  "on %s, which is no address of this machine",
  async (host) => {
    const { code, err } = await serve(["--host", host, "--port", "0"]);
    expect(err).toContain(`"${host}" is no address of this machine (`);
    expect(err).toContain("Choose one with --host or TUNESMITH_HOST");
    expect(code).toBe(2);
  },
);

test("in a home folder that is in a file, and in one that is a file", async () => {
  const file = join(folder, "file");
  await writeFile(file, "x");
  for (const home of [file, join(file, "home")]) {
    const { code, err } = await serve(["--port", "0"], home);
    expect(err).toMatch(
      `tunesmith: The home folder ${home} cannot be used: expected a folder that this user may write to, found E`,
    );
    expect(err).toContain("choose another home folder with TUNESMITH_HOME.\n");
    expect(code).toBe(1);
  }
});

test("with a database that is none", async () => {
  const path = join(folder, "tunesmith.db");
  await writeFile(path, "once upon a time ".repeat(1000));
  expect(await serve(["--port", "0"], folder)).toEqual({
    code: 1,
    out: "",
    err: `tunesmith: ${path} is no database that can be read (file is not a database). Put back a copy of it, or choose another home folder with TUNESMITH_HOME.\n`,
  });
});

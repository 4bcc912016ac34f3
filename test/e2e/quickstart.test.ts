// The quickstart where it cannot run: one message that says what to do, and no stack. (Where it can, its figures are in the README.)
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { lockHome } from "../../src/store/home-lock.ts";
import { smollm2 } from "../smollm2.ts";
import { homeDirectory } from "../real-model.ts";

const ROOT = join(import.meta.dirname, "../..");
const home = mkdtempSync(join(tmpdir(), "tunesmith-quickstart-"));
afterAll(() => rmSync(home, { recursive: true }));

interface Run {
  code: number | string | null | undefined;
  out: string;
  err: string;
}

function quickstart(environment: NodeJS.ProcessEnv, args: string[] = []): Promise<Run> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ["--import", "tsx", "examples/ticket-triage/quickstart.ts", ...args],
      { cwd: ROOT, env: { ...process.env, TUNESMITH_HOME: home, ...environment } },
      (error, out, err) => resolve({ code: error === null ? 0 : error.code, out, err }),
    );
  });
}

/** A port that nothing listens on. */
const NOWHERE = "http://127.0.0.1:9";

test("no source of the base model can be reached", async () => {
  const { code, err } = await quickstart({
    TUNESMITH_HUB_URL: NOWHERE,
    PIP_INDEX_URL: `${NOWHERE}/simple`,
    PIP_RETRIES: "0",
  });
  expect(code).toBe(1);
  expect(err).toMatch(/smollm2-135m-instruct/);
  expect(err).toContain(NOWHERE);
  expect(err).not.toMatch(/^\s+at |Node\.js v/m);
}, 120_000);

test("a setting is wrong; with --json standard output stays empty", async () => {
  const { code, out, err } = await quickstart({ TUNESMITH_THREADS: "x" }, ["--json"]);
  expect({ code, out }).toEqual({ code: 1, out: "" });
  expect(err).toMatch(/^Wrong settings:\nTUNESMITH_THREADS: expected .*\n$/);
}, 60_000);

test.skipIf(smollm2 === null)(
  "another server works in the home folder; the base model is found there",
  async () => {
    const taken = mkdtempSync(join(tmpdir(), "tunesmith-quickstart-"));
    symlinkSync(join(homeDirectory, "models"), join(taken, "models"));
    const lock = await lockHome(taken);
    try {
      const { code, out, err } = await quickstart({ TUNESMITH_HOME: taken });
      expect(code).toBe(1);
      expect(out).toMatch(/^Base model smollm2-135m-instruct: /m);
      expect(err).toMatch(/in use|another/i);
      expect(err).not.toMatch(/^\s+at |before initialization/m);
    } finally {
      await lock.release();
      rmSync(taken, { recursive: true });
    }
  },
  60_000,
);

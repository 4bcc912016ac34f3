// A pull that is killed with -9 in the middle, again and again: the next one goes on, and in the end the folder is the one of an
// undisturbed pull.
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { BIN } from "../cli/fake-server.ts";
import { KEY, type Fault } from "./fake-openai.ts";
import { customer, openAi, temporaryFolder } from "./world.ts";

const MEBIBYTE = 2 ** 20;

/** Sends the rest of the file slowly, so that a kill finds it on its way. */
const slowly =
  (content: Buffer): Fault =>
  (response, { headers }) => {
    const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1] ?? 0);
    response.writeHead(from === 0 ? 200 : 206, {
      "content-length": content.length - from,
      ...(from === 0 ? {} : { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` }),
    });
    let at = from;
    const more = setInterval(() => {
      if (at >= content.length || response.destroyed) {
        clearInterval(more);
        response.end();
        return;
      }
      response.write(content.subarray(at, at + MEBIBYTE));
      at += MEBIBYTE;
    }, 40);
  };

test("kill -9 in the middle of a pull: nothing is lost, nothing half-done has a name", async () => {
  const content = randomBytes(30 * MEBIBYTE);
  const world = { ...customer(), ranges: true };
  world.jobs = world.jobs.filter(({ id }) => id === "ftjob-sft");
  world.files = world.files.filter(({ id }) => id !== "file-expired");
  const big = world.files[0] as { content: Buffer };
  big.content = content;
  const fake = await openAi(world);
  fake.fail("GET", "/v1/files/file-train/content", ...Array.from({ length: 9 }, () => slowly(content)));
  const folder = join(temporaryFolder(), "pull");
  const start = () =>
    spawn(process.execPath, [BIN, "migrate", "openai", "pull", "--out", folder], {
      env: { PATH: process.env["PATH"] ?? "", OPENAI_API_KEY: KEY, OPENAI_BASE_URL: fake.baseUrl },
      stdio: "ignore",
    });
  const partial = join(folder, "files", ".file-train.jsonl.partial");
  const sizeOf = (path: string) => (existsSync(path) ? statSync(path).size : 0);
  let reached = 0;
  for (const wanted of [3, 12, 20]) {
    const child = start();
    const ended = once(child, "exit");
    while (sizeOf(partial) < wanted * MEBIBYTE && child.exitCode === null) await delay(5);
    child.kill("SIGKILL");
    await ended;
    reached = sizeOf(partial);
    expect(reached).toBeGreaterThanOrEqual(wanted * MEBIBYTE);
    expect(existsSync(join(folder, "files", "file-train.jsonl"))).toBe(false);
  }
  fake.asked.length = 0;
  const [code] = (await once(start(), "exit")) as [number];
  expect(code).toBe(0);
  const found = readFileSync(join(folder, "files", "file-train.jsonl"));
  expect(createHash("sha256").update(found).digest("hex")).toBe(
    createHash("sha256").update(content).digest("hex"),
  );
  // Gone on with from what was flushed, not from the start.
  const asked = fake.asked.find(({ path }) => path === "/v1/files/file-train/content");
  expect(asked?.headers.range).toBe(`bytes=${reached - (reached % (8 * MEBIBYTE))}-`);
  const left = readdirSync(folder, { recursive: true }).map(String);
  expect(left.filter((name) => /\.partial$|\.tmp$|\.lock$/.test(name))).toEqual([]);
}, 120_000);

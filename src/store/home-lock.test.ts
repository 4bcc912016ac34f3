// One server a folder, in this process and between processes, and no lock outlives its holder.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Conflict } from "../errors.ts";
import { lockHome } from "./home-lock.ts";

const HOME_LOCK = fileURLToPath(new URL("home-lock.ts", import.meta.url));
const TSX = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;

let home: string;
beforeEach(async () => {
  home = join(await mkdtemp(join(tmpdir(), "tunesmith-lock-")), "home");
});
afterEach(() => rm(join(home, ".."), { recursive: true }));

test("the second server is refused with the name of the first, until that one lets go", async () => {
  const first = await lockHome(home);
  const second = lockHome(home);
  await expect(second).rejects.toThrow(Conflict);
  await expect(second).rejects.toThrow(
    `Another server (process ${process.pid} on ${hostname()}) uses the folder ${home}, and one folder serves one server. Stop that one, or give this one a folder of its own with TUNESMITH_HOME.`,
  );
  await first.release();
  expect(existsSync(join(home, "server.pid"))).toBe(false);
  await (await lockHome(home)).release();
});

test("a lock goes with the process that held it, however it died", async () => {
  const code = `import { lockHome } from ${JSON.stringify(HOME_LOCK)}; await lockHome(${JSON.stringify(home)}); console.log("locked"); setInterval(() => {}, 1000);`;
  const holder = spawn(process.execPath, ["--import", TSX, "--input-type=module", "-e", code], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(holder, "exit");
  await once(holder.stdout, "data");
  await expect(lockHome(home)).rejects.toThrow(`(process ${holder.pid} on ${hostname()})`);
  holder.kill("SIGKILL");
  await exited;
  await (await lockHome(home)).release();
});

// The real trainer's process and the one that started it: what is left when the parent goes early, and who holds the lock.
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { embeddedTrainer, startTrainer } from "../../src/jobs/trainer-process.ts";
import { jobPaths, TRAINER_EXIT } from "../../src/training/job-directory.ts";
import { FAST_CLOCK } from "./workbench.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "tunesmith-trainer-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

test("a trainer whose parent is gone before it has loaded ends without touching the directory", async () => {
  const { entry, nodeOptions } = embeddedTrainer();
  const child = fork(entry, [directory], {
    execArgv: [...nodeOptions],
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  });
  child.disconnect();
  expect(await once(child, "exit")).toEqual([TRAINER_EXIT.interrupted, null]);
  expect(readdirSync(directory)).toEqual([]);
});

test("the lock holds a trainer's process id from its start, and goes with it", async () => {
  const trainer = await startTrainer(embeddedTrainer(), directory, FAST_CLOCK);
  const { lock } = jobPaths(directory);
  const pid = Number.parseInt(readFileSync(lock, "utf8"), 10);
  expect(() => process.kill(pid, 0)).not.toThrow();
  // There is no job.json.
  expect(await trainer.exited).toEqual({ code: TRAINER_EXIT.failed, signal: null });
  expect(readdirSync(directory).sort()).toEqual(["events.jsonl", "trainer.log"]);
});

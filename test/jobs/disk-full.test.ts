// A disk that fills up under a job: what its owner reads, and what is left. The trainer's own writes are in test/e2e.
import { readdirSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { openWorkbench, until, type Workbench } from "./workbench.ts";

let bench: Workbench;
afterEach(() => bench.close());

const noSpace = () => Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });

test("a trainer without room even for an event is not started again and again", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { noRoomAt: 4 } });
  bench.worker().start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  expect((await bench.read(job)).error).toEqual({
    code: "out_of_space",
    param: null,
    message: `The disk that holds ${bench.directoryOf(job)} is full, so that the trainer could not even report it; nothing half-written was left there. Free some space and create the job again.`,
  });
  expect(bench.lives(job)).toHaveLength(1);
});

test("no room for the result file: no half of it, and the last epochs stay as models", async () => {
  let full = false;
  bench = await openWorkbench({
    openBlobWriter: async (path) => {
      const handle = await open(path, "wx");
      return {
        write: (chunk) => (full ? Promise.reject(noSpace()) : handle.writeFile(chunk)),
        sync: () => handle.sync(),
        close: () => handle.close(),
      };
    },
  });
  const job = await bench.create({ instructions: { steps: 6, stepsPerEpoch: 2 } });
  const before = readdirSync(join(bench.home, "files"));
  full = true;
  bench.worker().start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  expect((await bench.read(job)).error).toEqual({
    code: "out_of_space",
    param: null,
    message:
      "The disk is full, so the result file of this job could not be stored. Free some space and create the job again; the checkpoints of its last epochs are kept.",
  });
  expect(readdirSync(join(bench.home, "files"))).toEqual(before);
  await until("it is cleaned up", async () => (await bench.queue.listToCleanUp(1)).length === 0);
  const { data } = await bench.jobs.listCheckpoints(job.id, { limit: 10 });
  expect(data.map(({ step }) => step)).toEqual([6, 4, 2]);
  expect(readdirSync(bench.directoryOf(job))).not.toContain("adapter");
});

// A trainer that dies is started again and goes on; one that never gets past a point is given up.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { openWorkbench, until, type Workbench } from "./workbench.ts";

let bench: Workbench;
afterEach(() => bench.close());

test("a crash in the middle resumes, and repeated steps are not doubled", async () => {
  bench = await openWorkbench();
  // Dies after step 4's line and before its checkpoint: the second life repeats step 4.
  const job = await bench.create({ instructions: { dieAt: { step: 4, lives: 1 } } });
  bench.worker().start();
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  expect(bench.lives(job)).toHaveLength(2);
  const reported = readFileSync(join(bench.directoryOf(job), "events.jsonl"), "utf8");
  expect(reported.match(/"step":4,"totalSteps"/g)?.length).toBeGreaterThan(1);

  const messages = await bench.messages(job);
  expect(messages.filter((message) => message.startsWith("Step 4/6"))).toHaveLength(1);
  expect(messages.filter((message) => message === "Fine-tuning job started")).toHaveLength(1);
  const interesting = messages.filter((message) => /ended unexpectedly|resumed/.test(message));
  expect(interesting).toEqual([
    "The trainer ended unexpectedly (signal SIGKILL); starting it again from its last checkpoint",
    "Training resumed from the checkpoint at step 3",
  ]);
  const warning = (await bench.events(job)).find((event) => event.level === "warn");
  expect(warning?.message).toBe(interesting[0]);
});

test("half a line in events.jsonl is skipped, and the step is reported again", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { halfLineAt: { step: 3, lives: 1 } } });
  bench.worker().start();
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  const messages = await bench.messages(job);
  expect(messages.filter((message) => message.startsWith("Step "))).toHaveLength(6);
  expect(bench.logger.lines.join("\n")).toContain("Skipped a line of events.jsonl");
});

test("a checkpoint of which only the next trainer tells counts as progress", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { steps: 5, stepsPerEpoch: 5, stepsPerLife: 1 } });
  bench.worker().start();
  await until("the job has ended", async () => ["succeeded", "failed"].includes(await bench.status(job)));
  expect(await bench.status(job)).toBe("succeeded");
  expect(bench.lives(job)).toHaveLength(5);
});

test("three crashes without progress fail the job", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { dieAt: { step: 4, lives: 99 } } });
  bench.worker().start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  expect(bench.lives(job)).toHaveLength(3);
  expect((await bench.read(job)).error).toEqual({
    code: "server_error",
    param: null,
    message:
      "The trainer ended unexpectedly 3 times without getting further (signal SIGKILL). The system ends programs this way when memory runs out: free some, or use a smaller batch size. Its output is in trainer.log in the job's folder on the server. Mend the cause, then create the job again.",
  });
});

test("a trainer that cannot even start says so in its log", async () => {
  bench = await openWorkbench({
    dependencies: { trainer: { entry: "/nowhere/trainer.js", nodeOptions: [] } },
  });
  const job = await bench.create();
  bench.worker().start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  expect((await bench.read(job)).error?.message).toContain("(exit code 1)");
  const log = readFileSync(join(bench.directoryOf(job), "trainer.log"), "utf8");
  expect(log).toContain("Cannot find module");
});

test("a job that takes the server down again and again is given up", async () => {
  bench = await openWorkbench();
  const job = await bench.create();
  for (let attempt = 1; attempt <= 20; attempt += 1) {
    const lease = { jobId: job.id, owner: `crashing-${attempt}` };
    expect(await bench.queue.claim(lease.owner, Date.now() + 1000)).not.toBeNull();
    await bench.queue.expireLease(lease);
  }
  bench.worker().start();
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  expect((await bench.read(job)).error?.message).toMatch(
    /^The server went down 20 times while working on this job/,
  );
});

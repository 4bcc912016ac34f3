// The server goes, in order or by force; the next one finishes its jobs.
import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { isAlive, NODE_OPTIONS, openWorkbench, until, type Workbench } from "./workbench.ts";

let bench: Workbench;
afterEach(() => bench.close());

test("an orderly stop interrupts the trainer, and the next start goes on", async () => {
  bench = await openWorkbench();
  const job = await bench.create({ instructions: { steps: 8, stepMs: 60 } });
  const first = bench.worker();
  first.start();
  await until("some steps are done", async () => (await bench.messages(job)).length >= 7);
  await first.stop();
  const [pid = NaN] = bench.lives(job);
  expect(isAlive(pid)).toBe(false);
  expect(await bench.read(job)).toMatchObject({ status: "running", attempts: 0 });
  expect(await bench.queue.listLeases()).toEqual([]);

  bench.worker().start();
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  expect(bench.lives(job)).toHaveLength(2);
  const messages = await bench.messages(job);
  const steps = messages.filter((message) => message.startsWith("Step "));
  expect(new Set(steps).size).toBe(8);
  expect(steps).toHaveLength(8);
  expect(messages.some((message) => message.startsWith("Training resumed from the checkpoint at step"))).toBe(
    true,
  );
  expect(messages.some((message) => message.includes("unexpectedly"))).toBe(false);
});

test.each([
  { name: "whose trainer ends with it", instructions: {} },
  { name: "whose trainer does not notice", instructions: { stubborn: true } },
])("kill -9 of a server $name: the next start takes the job over", async ({ instructions }) => {
  bench = await openWorkbench();
  // Time enough for the kill to come before the last step, on a busy machine too.
  const job = await bench.create({ instructions: { steps: 8, stepMs: 300, ...instructions } });
  const server = fork(fileURLToPath(new URL("worker-process.ts", import.meta.url)), [bench.home], {
    execArgv: [...NODE_OPTIONS],
    stdio: "inherit",
  });
  await until("some steps are done", async () => (await bench.messages(job)).length >= 7);
  server.kill("SIGKILL");
  await once(server, "exit");
  const [orphan = NaN] = bench.lives(job);
  expect(await bench.queue.listLeases()).toHaveLength(1);

  bench.worker().start();
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  expect(isAlive(orphan)).toBe(false);
  const [first, ...later] = bench.lives(job);
  expect(first).toBe(orphan);
  expect(later).toHaveLength(1);
  const steps = (await bench.messages(job)).filter((message) => message.startsWith("Step "));
  expect(steps).toHaveLength(8);
});

test("a trainer that finished while no server listened is not started again", async () => {
  bench = await openWorkbench();
  const job = await bench.create();
  const first = bench.worker();
  first.start();
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  await first.stop();
  // As if the server had been killed after the trainer's last line and before settling.
  await bench.database
    .updateTable("fineTuningJobs")
    .set({ status: "running", fineTunedModel: null, finishedAt: null })
    .where("id", "=", job.id)
    .execute();
  await bench.database.deleteFrom("fineTuningCheckpoints").execute();
  bench.worker().start();
  await until("the job has succeeded again", async () => (await bench.status(job)) === "succeeded");
  expect(bench.lives(job)).toHaveLength(1);
});

test("a server stopped between the phases begins where the status says", async () => {
  bench = await openWorkbench();
  const job = await bench.create();
  const stop = new AbortController();
  const lease = { jobId: job.id, owner: "someone" };
  const claimed = await bench.queue.claim(lease.owner, Date.now() + 60_000);
  const interrupting = await openInterrupted(stop);
  await interrupting(claimed);
  expect(await bench.status(job)).toBe("queued");
  await bench.queue.release(job.id, lease.owner);
  bench.worker().start();
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  const validated = (await bench.messages(job)).filter((message) => message.startsWith("Files validated"));
  expect(validated).toHaveLength(1);
  const recipe = readFileSync(join(bench.directoryOf(job), "job.json"), "utf8");
  expect(recipe).toContain('"learningRate": 0.001');

  async function openInterrupted(controller: AbortController) {
    const { createFineTune } = await import("../../src/jobs/fine-tune.ts");
    const run = createFineTune({
      ...bench,
      homeDirectory: bench.home,
      organization: "acme",
      threads: 1,
      resolveBaseModel: async () => {
        controller.abort("worker-stopping");
        return { path: "/models/x", sha256: "" };
      },
    });
    return async (given: typeof claimed) => {
      if (given === null) throw new Error("nothing was claimed");
      await run(given, lease, controller.signal);
    };
  }
});

// Several jobs at a time: as many as there are workers and no more, never one job twice, and projects take turns.
import { afterEach, expect, test } from "vitest";
import { joinWorkers } from "../../src/jobs/worker.ts";
import type { Job } from "../../src/store/fine-tuning-rows.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";
import { isAlive, openWorkbench, until, type Workbench } from "./workbench.ts";

let bench: Workbench;
afterEach(() => bench.close());

const living = (jobs: readonly Job[]) => jobs.flatMap((job) => bench.lives(job).filter(isAlive));

test("two workers train two jobs at a time, each once", async () => {
  bench = await openWorkbench();
  const jobs: Job[] = [];
  for (let i = 0; i < 5; i++) jobs.push(await bench.create({ instructions: { steps: 4, stepMs: 300 } }));
  const workers = joinWorkers([bench.worker(), bench.worker()]);
  workers.start();
  let most = 0;
  await until("all have succeeded", async () => {
    most = Math.max(most, living(jobs).length);
    for (const job of jobs) if ((await bench.status(job)) !== "succeeded") return false;
    return true;
  });
  await workers.stop();
  expect(most).toBe(2);
  for (const job of jobs) {
    expect(bench.lives(job)).toHaveLength(1);
    const messages = await bench.messages(job);
    expect(messages.filter((message) => message.startsWith("Step "))).toHaveLength(4);
  }
}, 60_000);

test("projects take turns, the oldest job of each first; what was begun goes on before that", async () => {
  bench = await openWorkbench();
  const create = (projectId: string) => bench.create({ projectId });
  const [a1, a2, a3] = [await create("proj_a"), await create("proj_a"), await create("proj_a")];
  const [b1, b2] = [await create("proj_b"), await create("proj_b")];
  const c1 = await create(DEFAULT_PROJECT);
  const names = new Map(
    [a1, a2, a3, b1, b2, c1].map((job, i) => [job.id, ["a1", "a2", "a3", "b1", "b2", "c1"][i]]),
  );
  const order: (string | undefined)[] = [];
  let begun: string | null = null;
  for (let turn = 0; turn < 7; turn++) {
    const owner = `w${turn}`;
    const job = await bench.queue.claim(owner, Date.now() + 1e9);
    const id = job?.id ?? "";
    order.push(names.get(id));
    const lease = { jobId: id, owner };
    await bench.queue.moveTo(lease, { from: ["validating_files", "queued", "running"], to: "running" });
    if (begun === null && turn === 2) {
      // Its server stops: it is the next again, though its project has just had its turn.
      begun = id;
      await bench.queue.release(id, owner);
      continue;
    }
    expect(await bench.queue.failJob(lease, { code: "x", param: null, message: "x" })).toBe(true);
  }
  expect(order).toEqual(["a1", "b1", "c1", "c1", "a2", "b2", "a3"]);
});

test("a project that comes late does not wait for the others' whole queues", async () => {
  bench = await openWorkbench();
  for (let i = 0; i < 20; i++) await bench.create({ projectId: "proj_many" });
  const first = await bench.queue.claim("w0", Date.now() + 1e9);
  expect(first?.projectId).toBe("proj_many");
  const late = await bench.create({ projectId: "proj_late" });
  expect((await bench.queue.claim("w1", Date.now() + 1e9))?.id).toBe(late.id);
});

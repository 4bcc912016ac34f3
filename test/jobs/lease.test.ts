// Leases under a clock that stands still until told: who may work on a job, and for how long.
import { hostname } from "node:os";
import { afterEach, expect, test } from "vitest";
import { createWorker, LEASE_MS, type Clock, type RunJob } from "../../src/jobs/worker.ts";
import type { Job } from "../../src/store/fine-tuning-rows.ts";
import { openWorkbench, until, type Workbench } from "./workbench.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";

/** Time moves only by `advance`, which ends every wait that is over. */
function fakeClock() {
  let nowMs = 1_700_000_000_000;
  const waits = new Set<{ untilMs: number; end: () => void }>();
  const clock: Clock = {
    now: () => nowMs,
    delay: (milliseconds, signal) =>
      new Promise((resolve) => {
        const wait = {
          untilMs: nowMs + milliseconds,
          end: () => {
            waits.delete(wait);
            resolve();
          },
        };
        waits.add(wait);
        if (signal?.aborted === true) wait.end();
        else signal?.addEventListener("abort", wait.end);
      }),
  };
  const advance = async (milliseconds: number): Promise<void> => {
    const targetMs = nowMs + milliseconds;
    while (nowMs < targetMs) {
      nowMs += Math.min(500, targetMs - nowMs);
      for (const wait of waits) if (wait.untilMs <= nowMs) wait.end();
      // Lets the database calls between two waits finish.
      for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    }
  };
  return { clock, advance };
}

let bench: Workbench;
let stop: () => Promise<void>;
afterEach(async () => {
  await stop();
  await bench.close();
});

/** A worker whose job runs until its signal aborts, for the given reasons. */
async function holdingWorker() {
  const { clock, advance } = fakeClock();
  bench = await openWorkbench({ clock });
  const started: string[] = [];
  const stopped: unknown[] = [];
  const run: RunJob<Job> = async (job, _lease, signal) => {
    started.push(job.id);
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve));
    stopped.push(signal.reason);
  };
  const worker = createWorker({ queue: bench.queue, run, logger: bench.logger, clock });
  stop = () => worker.stop();
  return { clock, advance, worker, started, stopped };
}

test("heartbeats keep the lease far beyond its length", async () => {
  const { clock, advance, worker, started, stopped } = await holdingWorker();
  await bench.create();
  worker.start();
  await until("the job is claimed", () => started.length === 1);
  await advance(3 * LEASE_MS);
  expect(await bench.queue.claim("other", clock.now() + LEASE_MS)).toBeNull();
  expect(stopped).toEqual([]);
});

test("a job of another machine's worker is taken only when its lease has expired", async () => {
  const { clock, advance, worker, started } = await holdingWorker();
  const job = await bench.create();
  await bench.queue.claim("elsewhere:1:abc", clock.now() + LEASE_MS);
  worker.start();
  await advance(LEASE_MS - 2_000);
  expect(started).toEqual([]);
  await advance(5_000);
  expect(started).toEqual([job.id]);
});

test("a job of a dead process of this machine is taken at once", async () => {
  const { clock, worker, started } = await holdingWorker();
  const job = await bench.create();
  // The largest process id Linux gives out by default is 2^22.
  await bench.queue.claim(`${hostname()}:${2 ** 22 + 1}:abc`, clock.now() + LEASE_MS);
  worker.start();
  await until("the job is claimed", () => started.includes(job.id));
});

test("an earlier life of this process id counts as dead, as in a restarted container", async () => {
  const { clock, worker, started } = await holdingWorker();
  const job = await bench.create();
  await bench.queue.claim(`${hostname()}:${process.pid}:earlier-life`, clock.now() + LEASE_MS);
  worker.start();
  await until("the job is claimed", () => started.includes(job.id));
});

test("a living process of this machine keeps its job", async () => {
  const { clock, advance, worker, started } = await holdingWorker();
  await bench.create();
  await bench.queue.claim(`${hostname()}:${process.ppid}:abc`, clock.now() + LEASE_MS);
  worker.start();
  await advance(10_000);
  expect(started).toEqual([]);
});

test("a worker that lost its lease stops working on the job", async () => {
  const { advance, worker, started, stopped } = await holdingWorker();
  const job = await bench.create();
  worker.start();
  await until("the job is claimed", () => started.length === 1);
  const [lease] = await bench.queue.listLeases();
  if (lease === undefined) throw new Error("no lease");
  await bench.queue.expireLease(lease);
  await bench.queue.claim("other", Date.now() + 1e12);
  await advance(2_000);
  expect(stopped).toEqual(["lease-lost"]);
  expect(await bench.queue.listLeases()).toEqual([{ jobId: job.id, owner: "other" }]);
});

test("a cancelled job is told apart from a lost one", async () => {
  const { advance, worker, started, stopped } = await holdingWorker();
  const job = await bench.create();
  worker.start();
  await until("the job is claimed", () => started.length === 1);
  await bench.jobs.cancel(DEFAULT_PROJECT, job.id, { message: "The job was cancelled" });
  await advance(1_500);
  expect(stopped).toEqual(["cancelled"]);
});

test("wake makes an idle worker look at once, without the clock moving", async () => {
  const { advance, worker, started } = await holdingWorker();
  worker.start();
  await advance(100);
  const job = await bench.create();
  worker.wake();
  await until("the job is claimed", () => started.includes(job.id));
});

test("an idle worker sleeps between looks", async () => {
  const { advance, worker } = await holdingWorker();
  let looks = 0;
  const claim = bench.queue.claim.bind(bench.queue);
  bench.queue.claim = (...given) => {
    looks += 1;
    return claim(...given);
  };
  worker.start();
  await advance(60_000);
  expect(looks).toBeGreaterThan(10);
  expect(looks).toBeLessThanOrEqual(31);
});

test("stop gives the job back without counting the attempt", async () => {
  const { worker, started, stopped } = await holdingWorker();
  const job = await bench.create();
  worker.start();
  await until("the job is claimed", () => started.length === 1);
  await worker.stop();
  expect(stopped).toEqual(["worker-stopping"]);
  expect(await bench.queue.listLeases()).toEqual([]);
  expect((await bench.read(job)).attempts).toBe(0);
});

test("a failing database is retried after a pause", async () => {
  const { advance, worker, started } = await holdingWorker();
  const job = await bench.create();
  const claim = bench.queue.claim.bind(bench.queue);
  let failures = 0;
  bench.queue.claim = async (...given) => {
    failures += 1;
    if (failures === 1) throw new Error("disk I/O error");
    return claim(...given);
  };
  worker.start();
  await advance(1_000);
  expect(failures).toBe(1);
  await advance(5_000);
  await until("the job is claimed", () => started.includes(job.id));
  expect(bench.logger.lines.join("\n")).toContain("disk I/O error");
});

import { totalmem } from "node:os";
import { expect, it } from "vitest";
import { availableMemory } from "./available-memory.ts";

const GB = 1024 ** 3;
const MEMINFO = `MemTotal: ${16 * 1024 ** 2} kB\nMemFree: 100 kB\nMemAvailable: ${10 * 1024 ** 2} kB\n`;

const linux = (files: Record<string, string>) =>
  availableMemory("linux", async (path) => ({ "/proc/meminfo": MEMINFO, ...files })[path] ?? null);

it("takes what the kernel could give, less a share for others", async () => {
  expect(await linux({})).toBeCloseTo(0.9 * 10 * GB, 0);
});

it("keeps to the limit of its control group, with the page cache counted as free", async () => {
  const files = {
    "/proc/self/cgroup": "0::/pod/app\n",
    "/sys/fs/cgroup/pod/app/memory.max": `${4 * GB}\n`,
    "/sys/fs/cgroup/pod/app/memory.current": `${3 * GB}\n`,
    "/sys/fs/cgroup/pod/app/memory.stat": `anon 5\ninactive_file ${GB}\nactive_file ${GB / 2}\n`,
  };
  expect(await linux(files)).toBeCloseTo(0.9 * 2.5 * GB, 0);
  // A tighter one above it counts too, and one without a limit does not.
  const above = { "/sys/fs/cgroup/pod/memory.max": `${GB}`, "/sys/fs/cgroup/pod/memory.current": "0" };
  expect(await linux({ ...files, ...above })).toBeCloseTo(0.9 * GB, 0);
  expect(await linux({ ...files, "/sys/fs/cgroup/pod/app/memory.max": "max\n" })).toBeCloseTo(
    0.9 * 10 * GB,
    0,
  );
});

it("knows version 1 of control groups, whose missing limit is a huge one", async () => {
  const used = { "/sys/fs/cgroup/memory/memory.usage_in_bytes": `${GB}` };
  const limit = (bytes: number) => ({ "/sys/fs/cgroup/memory/memory.limit_in_bytes": `${bytes}`, ...used });
  expect(await linux(limit(3 * GB))).toBeCloseTo(0.9 * 2 * GB, 0);
  expect(await linux(limit(2 ** 63))).toBeCloseTo(0.9 * 10 * GB, 0);
});

it("is more than nothing and less than all here, and a share of all where the system does not say", async () => {
  const here = await availableMemory();
  expect(here).toBeGreaterThan(0);
  expect(here).toBeLessThan(totalmem());
  expect(await availableMemory("darwin")).toBeLessThan(totalmem());
});

// How much memory a new process may take on this machine: what the kernel says could be had without swapping, and what the control
// group (a container's limit) leaves. The page cache counts as free: it goes when somebody needs the room.
import { readFile } from "node:fs/promises";
import { freemem, totalmem } from "node:os";
import { join } from "node:path";

/** Share of what is available that a run plans with: other programs go on living. */
const PLANNED_SHARE = 0.9;
/** Where the system tells only what lies idle, and not what it would give up (macOS): a share of all there is. */
const UNTOLD_SHARE = 0.6;

/** Reads a system file; null where there is none. */
export type ReadSystemFile = (path: string) => Promise<string | null>;

const fromDisk: ReadSystemFile = (path) => readFile(path, "utf8").catch(() => null);

/** Bytes that a training run may plan with. */
export async function availableMemory(
  platform: NodeJS.Platform = process.platform,
  read: ReadSystemFile = fromDisk,
): Promise<number> {
  if (platform === "darwin") return totalmem() * UNTOLD_SHARE;
  if (platform !== "linux") return freemem() * PLANNED_SHARE;
  const machine = kilobytes((await read("/proc/meminfo")) ?? "", "MemAvailable:") ?? freemem();
  return Math.min(machine, (await groupLeaves(read)) ?? Infinity) * PLANNED_SHARE;
}

function kilobytes(text: string, name: string): number | null {
  const line = text.split("\n").find((each) => each.startsWith(name));
  const value = Number(/(\d+) kB/.exec(line ?? "")?.[1] ?? NaN);
  return Number.isFinite(value) ? value * 1024 : null;
}

const GROUPS = "/sys/fs/cgroup";

/** What the limits of this process's control group and of all above it leave; null: there is no limit. */
async function groupLeaves(read: ReadSystemFile): Promise<number | null> {
  const [group = "/"] = /^0::(.*)$/m.exec((await read("/proc/self/cgroup")) ?? "")?.slice(1) ?? [];
  let least: number | null = null;
  for (let path = group; ; path = join(path, "..")) {
    const left = await leftIn(read, join(GROUPS, path), {
      limit: "memory.max",
      used: "memory.current",
      cache: ["inactive_file", "active_file"],
    });
    if (left !== null) least = Math.min(left, least ?? Infinity);
    if (path === "/") break;
  }
  // Version 1 of control groups, as older systems have it; inside a container its folder is the container's own.
  const old = await leftIn(read, join(GROUPS, "memory"), {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
  });
  return old === null ? least : Math.min(old, least ?? Infinity);
}

async function leftIn(
  read: ReadSystemFile,
  folder: string,
  names: { limit: string; used: string; cache: readonly string[] },
): Promise<number | null> {
  const [limit, used] = [
    Number((await read(join(folder, names.limit))) ?? NaN),
    Number((await read(join(folder, names.used))) ?? NaN),
  ];
  // "max" is no number, and without a limit version 1 names one beyond all memory.
  if (!Number.isFinite(limit) || !Number.isFinite(used)) return null;
  const stat = (await read(join(folder, "memory.stat"))) ?? "";
  const cache = names.cache
    .map((name) => Number(new RegExp(`^${name} (\\d+)$`, "m").exec(stat)?.[1] ?? 0))
    .reduce((sum, bytes) => sum + bytes, 0);
  return Math.max(0, limit - used + cache);
}

// The name a worker writes into leases, and whether the process behind such a name is known to be dead.
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";

/** `<host>:<process id>:<random>`: the host and the process tell who is dead, the random part tells two lives of one process id apart. */
export function newLeaseOwner(): string {
  const owner = `${hostname()}:${process.pid}:${randomUUID()}`;
  ownOwners.add(owner);
  return owner;
}

/** Workers of this very process: in a container each server is process 1, so the process id alone proves nothing. */
const ownOwners = new Set<string>();

/** True only when it is certain: another host's process is never judged. */
export function isDeadOwner(owner: string): boolean {
  const match = /^(.+):([0-9]+):[^:]+$/.exec(owner);
  if (match === null || match[1] !== hostname()) return false;
  const pid = Number(match[2]);
  if (pid === process.pid) return !ownOwners.has(owner);
  try {
    // Signal 0 only asks.
    process.kill(pid, 0);
    return false;
  } catch (error) {
    // EPERM: it lives under another user.
    return error instanceof Error && "code" in error && error.code === "ESRCH";
  }
}

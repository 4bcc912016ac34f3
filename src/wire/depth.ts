// How deep JSON values may nest.

/**
 * Levels of arrays and objects in a request: far more than any has, and far below where recursive code overflows its stack,
 * which JSON.stringify does at some thousands although JSON.parse does not.
 */
export const MAX_REQUEST_DEPTH = 512;

/** Whether arrays and objects lie inside each other more often than this. */
export function isDeeperThan(value: unknown, levels: number): boolean {
  let level = [value].filter(isHolder);
  for (let depth = 0; level.length > 0; depth++) {
    if (depth === levels) return true;
    const next: object[] = [];
    for (const holder of level) for (const each of Object.values(holder)) if (isHolder(each)) next.push(each);
    level = next;
  }
  return false;
}

const isHolder = (value: unknown): value is object => typeof value === "object" && value !== null;

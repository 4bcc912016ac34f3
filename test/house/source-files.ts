// The project's files as the house tests see them. It judges nothing.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Paths from the root of the files git has or is about to commit; with `untracked`, also of those it would take. */
export function projectFiles({ untracked }: { untracked: boolean }): string[] {
  const others = untracked ? ["--others", "--exclude-standard"] : [];
  const list = execFileSync("git", ["ls-files", "-z", "--cached", ...others], {
    cwd: ROOT,
    encoding: "utf8",
    maxBuffer: 64 * 2 ** 20,
  });
  return [...new Set(list.split("\0"))].filter((path) => path !== "" && existsSync(`${ROOT}/${path}`)).sort();
}

/** Whether this is a git checkout; an unpacked archive is not, and then there is nothing to list. */
export function isCheckout(): boolean {
  try {
    execFileSync("git", ["rev-parse", "--is-inside-work-tree"], { cwd: ROOT, stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

export function readProjectFile(path: string): string {
  return readFileSync(`${ROOT}/${path}`, "utf8");
}

/** TypeScript files of src without tests. */
export function sourceFiles(files: readonly string[]): string[] {
  return files.filter((path) => /^src\/.*\.ts$/.test(path) && !/\.test(-d)?\.ts$/.test(path));
}

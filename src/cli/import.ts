// `tunesmith models import`: a folder, a .gguf file or an archive of this machine, sent to the server as a tar archive. It chooses which
// files are sent and names the rest; whether they are a model the server says.
import { createReadStream } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { Transform, type Readable } from "node:stream";
import { InvalidRequest, messageOf } from "../errors.ts";
import { packFiles } from "../export/archive.ts";
import { CERTIFICATE_FILE, EXPORTED_FILE_NAME } from "../wire/export.ts";
import { IMPORTED_FILE_NAME, type ImportedModel } from "../wire/import.ts";
import { MAX_SUFFIX_LENGTH } from "../wire/fine-tuning.ts";
import { createByteProgress } from "./progress.ts";
import { formatCount, formatPairs, printAnswer, printNote, type CommandContext } from "./terminal.ts";

/** What goes to the server. */
interface Sent {
  archive: Readable;
  files: number | null;
  bytes: number;
  /** The name that a whole model gets where none was given; null for an adapter, which needs none, and where it cannot be told. */
  name: string | null;
  /** Entries of the folder that are not sent. */
  leftOut: string[];
}

export async function modelsImport(
  context: CommandContext,
  path: string,
  options: { name?: string; base?: string },
): Promise<void> {
  const { archive, files, bytes, name, leftOut } = await open(resolve(path));
  if (leftOut.length > 0) printNote(context, `Not sent, as no part of a model: ${leftOut.join(", ")}.`);
  const what = files === null ? "the archive" : files === 1 ? "1 file" : `${files} files`;
  const bar = context.json ? null : await createByteProgress(context.terminal, "sent,");
  if (bar === null) printNote(context, `Sending ${what}, ${formatCount(bytes)} bytes.`);
  let isSent = false;
  const sent = counted(archive, (done) => {
    if (isSent) return;
    bar?.update(Math.min(done, bytes), bytes);
    if (done < bytes) return;
    isSent = true;
    bar?.stop();
    printNote(context, "The server checks every value; for a large model this takes minutes.");
  });
  const query = { name: options.name ?? name ?? undefined, base: options.base };
  let imported: ImportedModel;
  try {
    imported = await context.client.postArchive<ImportedModel>("/tunesmith/models/import", query, sent);
  } finally {
    bar?.stop();
    archive.destroy();
  }
  printAnswer(context, imported, () => `${imported.id}\n${summaryOf(imported)}`);
}

function summaryOf({ kind, format, base_model, lora, certificate, files, bytes }: ImportedModel): string {
  return formatPairs([
    ["kind", kind === "adapter" ? "fine-tuned model" : "base model, for every project of the server"],
    ["format", format],
    ["base model", kind === "adapter" ? base_model : null],
    [
      "LoRA",
      lora === null
        ? null
        : `rank ${lora.rank}, alpha ${lora.alpha}, ${lora.target_modules.length} modules: ${lora.target_modules.join(", ")}`,
    ],
    ["certificate", certificate === null ? null : `of ${certificate.model}, as ${certificate.format}`],
    ["files", `${files}, ${formatCount(bytes)} bytes`],
  ]);
}

async function open(path: string): Promise<Sent> {
  const refuse = (found: string, cause?: unknown) =>
    new InvalidRequest(
      `Cannot import "${path}": expected a folder, a .gguf file, or a .tar archive of an export, found ${found}. Check the path.`,
      { cause },
    );
  const found = await stat(path).catch((error: unknown) => {
    const code = error instanceof Error && "code" in error ? error.code : null;
    throw refuse(code === "ENOENT" ? "nothing of that name" : messageOf(error), error);
  });
  if (found.isDirectory()) return openFolder(path);
  if (found.isFile() && path.endsWith(".tar"))
    return { archive: createReadStream(path), files: null, bytes: found.size, name: null, leftOut: [] };
  if (!found.isFile() || !path.endsWith(".gguf")) throw refuse("something else");
  const inArchive = IMPORTED_FILE_NAME.test(basename(path)) ? basename(path) : "model.gguf";
  const archive = packFiles(async () => [{ name: inArchive, path }]);
  const name = nameOf(basename(path, ".gguf"));
  return { archive, files: 1, bytes: found.size, name, leftOut: [] };
}

async function openFolder(folder: string): Promise<Sent> {
  const entries = (await readdir(folder)).sort();
  // All that a certificate names is sent: the server checks that it is complete.
  const accepted = entries.includes(CERTIFICATE_FILE) ? EXPORTED_FILE_NAME : IMPORTED_FILE_NAME;
  const files: { name: string; path: string }[] = [];
  const leftOut: string[] = [];
  let bytes = 0;
  for (const name of entries) {
    const path = join(folder, name);
    const found = await stat(path).catch(() => null);
    if (found?.isFile() && accepted.test(name)) {
      files.push({ name, path });
      bytes += found.size;
    } else if (!name.startsWith(".")) leftOut.push(name);
  }
  if (files.length === 0)
    throw new InvalidRequest(
      `Cannot import "${folder}": expected the files of a PEFT adapter, a Hugging Face model or a GGUF file, found none. Check the path.`,
    );
  const name = (await isAdapter(folder, entries)) ? null : nameOf(basename(folder));
  return { archive: packFiles(async () => files), files: files.length, bytes, name, leftOut };
}

/** An adapter is named after its base model and needs no name of its own. */
async function isAdapter(folder: string, entries: readonly string[]): Promise<boolean> {
  if (entries.some((name) => name.startsWith("adapter_"))) return true;
  if (!entries.includes(CERTIFICATE_FILE)) return false;
  // What is wrong with it the server says.
  const text = await readFile(join(folder, CERTIFICATE_FILE), "utf8").catch(() => "");
  return /"format":\s*"gguf-adapter"/.test(text);
}

/** A file's or folder's name as a base model's. */
const nameOf = (name: string): string =>
  name
    .replaceAll(/[^A-Za-z0-9._-]+/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, MAX_SUFFIX_LENGTH) || "imported";

/** Tells how many bytes have gone through. */
function counted(stream: Readable, onBytes: (done: number) => void): Readable {
  let done = 0;
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      done += chunk.length;
      onBytes(done);
      next(null, chunk);
    },
  });
  stream.on("error", (error) => counter.destroy(error));
  return stream.pipe(counter);
}

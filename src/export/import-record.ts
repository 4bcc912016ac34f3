// What stays beside an imported adapter: the certificate that it came with, and which base model it was checked against. An export of
// the model reads both, in place of the recipe that a job leaves.
import { readFileSync } from "node:fs";
import { copyFile, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, readAdapterConfig } from "../model/adapter.ts";
import { flushFile } from "../model/atomic-write.ts";
import { CERTIFICATE_FILE, type ExportCertificate } from "../wire/export.ts";
import type { ImportFormat } from "../wire/import.ts";
import { writeJson } from "./tokenizer-files.ts";
import { readCertificate } from "./verify.ts";

const RECORD_FILE = "import.json";

export interface ImportRecord {
  version: 1;
  format: ImportFormat;
  /** Under its name here, and as `sha256OfModel` has it. */
  baseModel: { id: string; sha256: string };
}

/** Where a model comes from that no job here has made. */
export interface Origin {
  /** sha256 of the base model that it is for. */
  baseSha256: string;
  recipe: Record<string, unknown> | null;
  /** The certificate that it came with, and the very bytes of it. */
  certificate: { read: ExportCertificate; bytes: Buffer } | null;
}

/** Copies the adapter's files, flushed, into an empty folder, with the record and, where there is one, the certificate. */
export async function keepAdapter(
  source: string,
  folder: string,
  record: ImportRecord,
  hasCertificate: boolean,
): Promise<void> {
  const names = [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, ...(hasCertificate ? [CERTIFICATE_FILE] : [])];
  for (const name of names) {
    await copyFile(join(source, name), join(folder, name));
    await flushFile(join(folder, name));
  }
  await writeJson(join(folder, RECORD_FILE), record);
}

/** Throws what the file system throws where the folder is none of an imported adapter. */
export async function readOrigin(adapterDirectory: string): Promise<Origin> {
  const record = JSON.parse(await readFile(join(adapterDirectory, RECORD_FILE), "utf8")) as ImportRecord;
  const bytes = bytesOf(join(adapterDirectory, CERTIFICATE_FILE));
  if (bytes !== null) {
    const read = await readCertificate(adapterDirectory);
    return { baseSha256: record.baseModel.sha256, recipe: read.recipe, certificate: { read, bytes } };
  }
  // All that is known of how it was made.
  const { rank, alpha, dropout, targetModules } = readAdapterConfig(adapterDirectory);
  const recipe = { baseModel: record.baseModel, lora: { rank, alpha, dropout, targetModules } };
  return { baseSha256: record.baseModel.sha256, recipe, certificate: null };
}

function bytesOf(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}

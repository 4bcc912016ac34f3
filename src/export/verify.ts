// Whether a folder is the export that its certificate describes: every file there, none beside them, not a bit changed. Needs no
// server and no model.
import { readdir, readFile, lstat } from "node:fs/promises";
import { join } from "node:path";
import { InvalidRequest, messageOf } from "../errors.ts";
import { sha256OfFile } from "../model/file-hash.ts";
import { CERTIFICATE_FILE, exportCertificate, type ExportCertificate } from "../wire/export.ts";

export interface Verification {
  certificate: ExportCertificate;
  /** One sentence for each file that is not as it should be; none: all is well. */
  faults: string[];
}

/** A certificate has some kilobytes. */
const MAX_CERTIFICATE_BYTES = 4 * 1024 * 1024;

/** Reads every byte. Throws InvalidRequest where the folder has no readable certificate. */
export async function verifyExport(directory: string, signal?: AbortSignal): Promise<Verification> {
  const certificate = await readCertificate(directory);
  const faults: string[] = [];
  const named = new Map(certificate.files.map((file) => [file.name, file]));
  if (named.size !== certificate.files.length || named.has(CERTIFICATE_FILE))
    faults.push(`${CERTIFICATE_FILE} names a file twice, or itself.`);
  for (const name of await readdir(directory))
    if (name !== CERTIFICATE_FILE && !named.has(name)) faults.push(`${name}: not in the certificate.`);
  for (const { name, bytes, sha256 } of named.values()) {
    const path = join(directory, name);
    const found = await lstat(path).catch(() => null);
    if (found === null) faults.push(`${name}: missing.`);
    // A link may lead to a file that is right today.
    else if (!found.isFile()) faults.push(`${name}: not a plain file.`);
    else if (found.size !== bytes)
      faults.push(`${name}: ${found.size} bytes, the certificate says ${bytes}.`);
    else {
      const actual = await sha256OfFile(path, signal);
      if (actual !== sha256) faults.push(`${name}: sha256 ${actual}, the certificate says ${sha256}.`);
    }
  }
  return { certificate, faults };
}

/** Throws InvalidRequest where the folder has no readable certificate. */
export async function readCertificate(directory: string): Promise<ExportCertificate> {
  const path = join(directory, CERTIFICATE_FILE);
  const refuse = (found: string) =>
    new InvalidRequest(
      `${directory} cannot be verified: expected a ${CERTIFICATE_FILE} of tunesmith, found ${found}. Name the folder of an export.`,
    );
  let text: string;
  try {
    const { size } = await lstat(path);
    if (size > MAX_CERTIFICATE_BYTES) throw refuse(`one of ${size} bytes`);
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof InvalidRequest) throw error;
    const code = error instanceof Error && "code" in error ? error.code : null;
    throw refuse(code === "ENOENT" ? "none" : messageOf(error));
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw refuse("a file that is no JSON");
  }
  const parsed = exportCertificate.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw refuse(`one whose "${issue?.path.map(String).join(".") ?? ""}" is wrong (${issue?.message ?? ""})`);
}

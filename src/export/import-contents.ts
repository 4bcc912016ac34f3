// What a folder of received files is: an adapter or a whole model, in which format, for which base model, and whether it is what its
// certificate says. It reads headers and checksums; whether the weights are usable is import-check.ts's to say.
import { existsSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { InvalidRequest, UnsupportedModel } from "../errors.ts";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, readAdapterConfig } from "../model/adapter.ts";
import { GgufFile } from "../model/gguf.ts";
import { weightFileNames } from "../model/model-folder.ts";
import { CERTIFICATE_FILE, type ExportCertificate } from "../wire/export.ts";
import { IMPORTED_FILE_NAME, type ImportFormat } from "../wire/import.ts";
import { verifyExport } from "./verify.ts";

export interface ImportContents {
  kind: "adapter" | "base_model";
  format: ImportFormat;
  /** Names of an adapter's base model, as its files have them, the surest first. */
  baseNames: string[];
  /** What the files were checked against; null where they had none. */
  certificate: Pick<ExportCertificate, "model" | "format" | "precision"> | null;
  files: number;
  bytes: number;
}

/** Throws InvalidRequest and UnsupportedModel, naming the file at fault by its path as it was given. */
export async function contentsOf(directory: string): Promise<ImportContents> {
  const names = (await readdir(directory)).sort();
  for (const name of names) if (!IMPORTED_FILE_NAME.test(name)) throw unexpected(name);
  const format = formatOf(directory, names);
  requireNothingElse(directory, names, format);
  const certificate = names.includes(CERTIFICATE_FILE) ? await verified(directory, format) : null;
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(directory, name))).size));
  return {
    kind: format === "peft" || format === "gguf-adapter" ? "adapter" : "base_model",
    format,
    baseNames: baseNamesOf(directory, names, format, certificate),
    certificate:
      certificate === null
        ? null
        : { model: certificate.model, format: certificate.format, precision: certificate.precision },
    files: names.length,
    bytes: sizes.reduce((sum, size) => sum + size, 0),
  };
}

const ggufsOf = (names: readonly string[]): string[] => names.filter((name) => name.endsWith(".gguf"));

/** The only .gguf file of an import that is one. */
export function ggufFileOf(names: readonly string[]): string {
  const [name] = ggufsOf(names);
  if (name === undefined) throw new Error("internal: an import without a .gguf file was taken for one");
  return name;
}

function formatOf(directory: string, names: readonly string[]): ImportFormat {
  const ggufs = ggufsOf(names);
  const isAdapter = names.includes(ADAPTER_CONFIG_FILE) || names.includes(ADAPTER_WEIGHTS_FILE);
  const isFolder = names.includes("config.json");
  const kinds = [
    ...(isAdapter ? ["a PEFT adapter"] : []),
    ...(isFolder ? ["a Hugging Face model"] : []),
    ...(ggufs.length > 0 ? [ggufs.length === 1 ? "a .gguf file" : `${ggufs.length} .gguf files`] : []),
  ];
  if (kinds.length > 1 || ggufs.length > 1)
    throw refused(`it holds ${kinds.join(" and ")}, expected one model. Send each by itself`);
  if (isAdapter) return "peft";
  if (isFolder) return "huggingface";
  if (ggufs.length === 0)
    throw refused(
      `it has neither ${ADAPTER_CONFIG_FILE}, nor config.json, nor a .gguf file. Send a PEFT adapter, a Hugging Face model or a GGUF file`,
    );
  const file = new GgufFile(join(directory, ggufFileOf(names)));
  try {
    return file.metadata.get("general.type") === "adapter" ? "gguf-adapter" : "gguf";
  } finally {
    file.close();
  }
}

/** Weights that nothing reads would be taken for a part of the model by whoever sent them. */
function requireNothingElse(directory: string, names: readonly string[], format: ImportFormat): void {
  const read: readonly string[] =
    format === "peft" ? [ADAPTER_WEIGHTS_FILE] : format === "huggingface" ? weightFileNames(directory) : [];
  for (const name of names)
    if (name.endsWith(".safetensors") && !read.includes(name))
      throw refused(
        `${name} is not among the weights of this model. Leave the file out, or name it in the index`,
      );
}

/** Throws InvalidRequest unless the certificate can be read and every file is the one that it names. */
async function verified(directory: string, format: ImportFormat): Promise<ExportCertificate> {
  const { certificate, faults } = await verifyExport(directory);
  const formats: Record<ExportCertificate["format"], ImportFormat> = {
    peft: "peft",
    merged: "huggingface",
    "gguf-adapter": "gguf-adapter",
    gguf: "gguf",
    ollama: "gguf",
  };
  if (formats[certificate.format] !== format)
    faults.push(`The certificate is of the format ${certificate.format}.`);
  if (faults.length === 0) return certificate;
  throw new InvalidRequest(
    `These are not the files that ${CERTIFICATE_FILE} was made for: ${faults.slice(0, 5).join(" ")} Export the model again; or leave ${CERTIFICATE_FILE} out, and what it says is lost.`,
    { code: "certificate_mismatch", param: CERTIFICATE_FILE },
  );
}

function baseNamesOf(
  directory: string,
  names: readonly string[],
  format: ImportFormat,
  certificate: ExportCertificate | null,
): string[] {
  const found: (string | null)[] = [];
  if (certificate !== null) found.push(certificate.base_model.id, certificate.base_model.hugging_face_id);
  if (format === "peft") found.push(readAdapterConfig(directory).baseModelId);
  if (format === "gguf-adapter") {
    const file = new GgufFile(join(directory, ggufFileOf(names)));
    const url = file.metadata.get("general.base_model.0.repo_url");
    file.close();
    // As llama.cpp's converter writes where the base model lies on the hub: its last two parts are the model's id.
    if (typeof url === "string") found.push(url.split("/").slice(-2).join("/"));
  }
  return [...new Set(found.filter((name) => name !== null && name !== ""))] as string[];
}

/** Whether the files say anything of a tokenizer. */
export const hasTokenizer = (directory: string): boolean => existsSync(join(directory, "tokenizer.json"));

function unexpected(name: string): InvalidRequest {
  const isPickle = /\.(bin|pt|pth|ckpt|pkl)$/.test(name);
  const why = isPickle
    ? " Such files are not read, because they can run code: save the weights as safetensors."
    : "";
  return new InvalidRequest(
    `The import holds ${JSON.stringify(name)}, which is no part of a model that is imported here.${why} Leave it out: expected a PEFT adapter, a Hugging Face model or a GGUF file, with *.json, *.safetensors, *.gguf, *.txt, *.model, *.jinja, *.md, Modelfile, LICENSE and NOTICE.`,
    { code: "invalid_value", param: name },
  );
}

function refused(problem: string): UnsupportedModel {
  return new UnsupportedModel(`The files cannot be imported: ${problem}.`, { code: "unsupported_model" });
}

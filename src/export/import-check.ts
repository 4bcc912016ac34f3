// Whether what was received can be served and trained: an adapter on its base model, or a whole model. Everything is read, with the
// readers that serving and training have, so that what is taken in here fails nowhere later. It moves nothing and knows no names.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { createChatTemplate } from "../data/chat-template.ts";
import { encodePrompt } from "../data/prompt.ts";
import { createTokenizer } from "../data/tokenizer.ts";
import { UnsupportedModel } from "../errors.ts";
import { readAdapter, writeAdapterFiles, type LoraAdapter } from "../model/adapter.ts";
import { writeDirectoryAtomically } from "../model/atomic-write.ts";
import { openBaseModel, sha256OfModel, type BaseModel } from "../model/base-model.ts";
import { catalogueEntry } from "../model/catalogue.ts";
import { tokenizerFromFolder, type ModelTokenizer } from "../model/model-tokenizer.ts";
import { tensorShapes } from "../model/tensor-shapes.ts";
import { CERTIFICATE_FILE } from "../wire/export.ts";
import type { ImportFormat } from "../wire/import.ts";
import { MAX_LORA_RANK } from "../wire/recipe.ts";
import { firstNonFinite } from "./finite.ts";
import { readGgufAdapter } from "./gguf-adapter-reader.ts";
import { ggufFileOf, hasTokenizer } from "./import-contents.ts";
import { keepAdapter, type ImportRecord } from "./import-record.ts";
import { COMPARED_CONVERSATION } from "./prompts.ts";
import { readCertificate } from "./verify.ts";

export interface CheckedAdapter {
  lora: Pick<LoraAdapter, "rank" | "alpha" | "dropout" | "targetModules">;
}

/**
 * Checks the adapter in `directory` against its base model and puts what stays of it at `kept`, a folder that is not there yet. Throws
 * UnsupportedModel naming what is wrong.
 */
export async function checkAdapter(options: {
  directory: string;
  kept: string;
  format: ImportFormat;
  base: { id: string; path: string };
}): Promise<CheckedAdapter> {
  const { directory, format, kept } = options;
  const base = await openBaseModel(options.base.path);
  try {
    const sha256 = await sha256OfModel(options.base.path);
    const hasCertificate = await requireCertifiedBase(directory, options.base.id, sha256);
    const adapter =
      format === "peft"
        ? await readAdapter(directory, base.config)
        : readGgufAdapter(join(directory, ggufFileOf(await readdir(directory))), base.config);
    if (adapter.rank > MAX_LORA_RANK)
      throw refused(
        `its rank is ${adapter.rank}; at most ${MAX_LORA_RANK} is served`,
        format === "peft" ? "r" : null,
      );
    for (const [name, { data }] of adapter.tensors) requireFinite(data, name);
    if (format === "peft" && hasTokenizer(directory))
      requireTokenizerOf(base, tokenizerFromFolder(directory));
    const record: ImportRecord = { version: 1, format, baseModel: { id: options.base.id, sha256 } };
    await writeDirectoryAtomically(kept, async (folder) => {
      if (format !== "peft") {
        const baseModelId = catalogueEntry(options.base.id)?.huggingFaceId ?? options.base.id;
        await writeAdapterFiles(directory, { ...adapter, baseModelId });
      }
      await keepAdapter(directory, folder, record, hasCertificate);
    });
    const { rank, alpha, dropout, targetModules } = adapter;
    return { lora: { rank, alpha, dropout, targetModules } };
  } finally {
    await base.close();
  }
}

/** Checks a Hugging Face folder, or the folder of a GGUF file. Throws UnsupportedModel naming what is wrong. */
export async function checkModel({
  directory,
  format,
}: {
  directory: string;
  format: ImportFormat;
}): Promise<void> {
  const path = format === "gguf" ? join(directory, ggufFileOf(await readdir(directory))) : directory;
  const model = await openBaseModel(path);
  try {
    // What every prompt goes through; a model without them could answer nothing.
    idsOf(model.tokenizer);
    for (const name of tensorShapes(model.config).keys()) requireFinite(model.tensor(name), name);
  } finally {
    await model.close();
  }
}

/** Whether there is a certificate; throws where it is of an adapter for other weights than those at hand. */
async function requireCertifiedBase(directory: string, id: string, sha256: string): Promise<boolean> {
  if (!(await readdir(directory)).includes(CERTIFICATE_FILE)) return false;
  const { base_model: trained } = await readCertificate(directory);
  if (trained.sha256 === sha256) return true;
  throw refused(
    `it was trained on ${trained.id} with sha256 ${trained.sha256}, and ${id} here has ${sha256}. Name the right base model; or leave ${CERTIFICATE_FILE} out to use it on these weights all the same, where its answers may differ`,
    "base",
  );
}

/** A tokenizer or a template of its own would be left lying: the base model's are what prompts go through here. */
function requireTokenizerOf(base: BaseModel, tokenizer: ModelTokenizer): void {
  if (idsOf(tokenizer) === idsOf(base.tokenizer)) return;
  throw refused(
    "its tokenizer files make other tokens of a conversation than the base model's do, so it was trained with another chat template or tokenizer. Give the base model that template and name it, or leave the tokenizer files out to use the base model's",
    "tokenizer.json",
  );
}

/** The ids of a conversation. */
function idsOf(tokenizer: ModelTokenizer): string {
  const encoding = { tokenizer: createTokenizer(tokenizer), template: createChatTemplate(tokenizer) };
  return JSON.stringify(encodePrompt(COMPARED_CONVERSATION, undefined, encoding));
}

function requireFinite(values: Float32Array, name: string): void {
  const place = firstNonFinite(values);
  if (place >= 0)
    throw refused(
      `value ${place} of the tensor "${name}" is ${values[place]}, expected a number. The file is damaged, or training has diverged; get it again`,
      name,
    );
}

function refused(problem: string, param: string | null): UnsupportedModel {
  return new UnsupportedModel(`The import cannot be used: ${problem}.`, { code: "unsupported_model", param });
}

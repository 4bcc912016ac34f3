// The files of a folder that turn text into tokens: copied from a base model's folder, or made of what a GGUF file says.
import { existsSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { statSync } from "node:fs";
import { join } from "node:path";
import { flushFile, writeFileAtomically } from "../model/atomic-write.ts";
import type { BaseModel } from "../model/base-model.ts";

/** What transformers may look for beside tokenizer.json; a base model's folder has some of them. */
const COPIED_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "tokenizer.model",
  "chat_template.jinja",
] as const;

const CHAT_TEMPLATE_FILE = "chat_template.jinja";

/** Writes them, flushed. The chat template gets a file of its own, where newer loaders look, also where the base model has it in its config. */
export async function writeTokenizerFiles(base: BaseModel, directory: string): Promise<void> {
  const { tokenizerJson, tokenizerConfig } = base.tokenizer;
  if (statSync(base.path).isDirectory()) {
    for (const name of COPIED_FILES) {
      if (!existsSync(join(base.path, name))) continue;
      await copyFile(join(base.path, name), join(directory, name));
      await flushFile(join(directory, name));
    }
  } else {
    // What is null here is what the file does not say.
    const known = Object.entries(tokenizerConfig).filter(([, value]) => value !== null);
    await writeJson(join(directory, "tokenizer.json"), tokenizerJson);
    await writeJson(join(directory, "tokenizer_config.json"), Object.fromEntries(known));
  }
  const template = tokenizerConfig.chat_template;
  if (template !== null && !existsSync(join(directory, CHAT_TEMPLATE_FILE)))
    await writeFileAtomically(join(directory, CHAT_TEMPLATE_FILE), [template]);
}

/** Writes a value as JSON that people can read. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFileAtomically(path, [`${JSON.stringify(value, null, 2)}\n`]);
}

// What a model brings for turning text into tokens, and how it is read from a Hugging Face folder. Tokenizes nothing.
import { join } from "node:path";
import { folderError, readJson, readTextFile } from "./model-folder.ts";

/** tokenizer_config.json with the members this project reads made uniform. */
export interface TokenizerConfig {
  [member: string]: unknown;
  /** The Jinja text, or null when the model has none. */
  chat_template: string | null;
  bos_token: string | null;
  eos_token: string | null;
}

export interface ModelTokenizer {
  /** The object of a Hugging Face tokenizer.json. */
  tokenizerJson: unknown;
  tokenizerConfig: TokenizerConfig;
}

/** Reads tokenizer.json and what goes with it. Throws UnsupportedModel when the folder has none. */
export function tokenizerFromFolder(folder: string): ModelTokenizer {
  const tokenizerJson = readJson(join(folder, "tokenizer.json"));
  if (tokenizerJson === undefined)
    throw folderError(
      folder,
      "it has no tokenizer.json",
      'Save the tokenizer with transformers as a "fast" tokenizer, which writes that file',
    );
  const raw = (readJson(join(folder, "tokenizer_config.json")) ?? {}) as Record<string, unknown>;
  return {
    tokenizerJson,
    tokenizerConfig: {
      ...raw,
      chat_template:
        readTextFile(join(folder, "chat_template.jinja")) ?? chatTemplateOf(raw["chat_template"]),
      bos_token: tokenText(raw["bos_token"]),
      eos_token: tokenText(raw["eos_token"]),
    },
  };
}

/** A template is a text, or a list of named ones of which "default" is meant for chats. */
function chatTemplateOf(value: unknown): string | null {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return null;
  const named = value as { name?: unknown; template?: unknown }[];
  const template = named.find((entry) => entry.name === "default")?.template;
  return typeof template === "string" ? template : null;
}

/** Special tokens stand as texts or as objects with their text in `content`. */
function tokenText(value: unknown): string | null {
  if (typeof value === "object" && value !== null && "content" in value) return tokenText(value.content);
  return typeof value === "string" ? value : null;
}

// A base model on disk, opened: its config, its tensors by Hugging Face's names and its tokenizer, whether it is a
// Hugging Face folder or a GGUF file. Knows nothing of graphs, adapters or where models come from.
import { createHash } from "node:crypto";
import { createReadStream, existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { UnsupportedModel } from "../errors.ts";
import { GgufFile } from "./gguf.ts";
import { huggingFaceName, modelConfigFromGguf, ROPE_FACTORS_TENSOR, unpermuteRows } from "./gguf-config.ts";
import { tokenizerFromGguf } from "./gguf-tokenizer.ts";
import { modelConfigFromHuggingFace, type ModelConfig } from "./model-config.ts";
import { folderError, modelFileNames, openFolderWeights, readJson, readTextFile } from "./model-folder.ts";
import { checkTensors, tensorShapes } from "./tensor-shapes.ts";
import type { TensorSource } from "./weight-file.ts";

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

export interface BaseModel {
  readonly config: ModelConfig;
  readonly path: string;
  /** Read and converted at the first use; throws UnsupportedModel when the model has no tokenizer that can be read. */
  readonly tokenizer: ModelTokenizer;
  /**
   * The values of one of `tensorShapes(config)`, row-major ([out, in]), freshly read from disk: the caller owns the array.
   */
  tensor(name: string): Float32Array;
  close(): Promise<void>;
}

/**
 * Opens a Hugging Face folder or a .gguf file. Only headers are read; every needed tensor is there with the right shape
 * afterwards. Throws UnsupportedModel naming the field, tensor or file at fault.
 */
export async function openBaseModel(path: string): Promise<BaseModel> {
  if (!existsSync(path))
    throw new UnsupportedModel(
      `${path} does not exist; expected a Hugging Face model folder or a .gguf file. Check the path.`,
      { code: "unsupported_model" },
    );
  return statSync(path).isDirectory() ? openFolder(path) : openGguf(path);
}

function openFolder(path: string): BaseModel {
  const configJson = readJson(join(path, "config.json"));
  if (configJson === undefined)
    throw folderError(path, "it has no config.json", "Pass a Hugging Face model folder or a .gguf file");
  const config = modelConfigFromHuggingFace(configJson, join(path, "config.json"));
  config.eosTokenIds = [...new Set([...config.eosTokenIds, ...generationEosIds(path, config.vocabSize)])];
  const weights = openFolderWeights(path);
  return openedModel(path, config, weights, (name) => weights.read(name), folderTokenizer);
}

/** Chat models often list further end tokens only in generation_config.json. */
function generationEosIds(folder: string, vocabSize: number): number[] {
  const generation = readJson(join(folder, "generation_config.json"));
  const eos: unknown =
    typeof generation === "object" && generation !== null && "eos_token_id" in generation
      ? generation.eos_token_id
      : [];
  return (Array.isArray(eos) ? eos : [eos]).filter(
    (id): id is number => Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize,
  );
}

function openGguf(path: string): BaseModel {
  const file = new GgufFile(path);
  let config: ModelConfig;
  try {
    config = modelConfigFromGguf(file);
  } catch (error) {
    file.close();
    throw error;
  }
  const ggufNames = new Map<string, string>();
  for (const name of file.names())
    if (name !== ROPE_FACTORS_TENSOR) ggufNames.set(huggingFaceName(name), name);
  const ggufName = (name: string) => ggufNames.get(name) ?? name;
  const weights: TensorSource = {
    names: () => ggufNames.keys(),
    shape: (name) => (ggufNames.has(name) ? file.shape(ggufName(name)) : undefined),
    read: (name) => file.read(ggufName(name)),
    close: () => file.close(),
  };
  // Only Llama's converter reorders q and k; qwen2 and qwen3 keep the rows as they are.
  const isPermuted = (name: string) => config.family === "llama" && /\.[qk]_proj\.weight$/.test(name);
  return openedModel(
    path,
    config,
    weights,
    (name) =>
      isPermuted(name)
        ? unpermuteRows(weights.read(name), config.headWidth, config.hiddenSize)
        : weights.read(name),
    () => tokenizerFromGguf(file.metadata, path),
  );
}

function openedModel(
  path: string,
  config: ModelConfig,
  weights: TensorSource,
  read: (name: string) => Float32Array,
  readTokenizer: (path: string) => ModelTokenizer,
): BaseModel {
  try {
    checkTensors(weights, config, path);
  } catch (error) {
    weights.close();
    throw error;
  }
  const shapes = tensorShapes(config);
  let tokenizer: ModelTokenizer | undefined;
  return {
    config,
    path,
    get tokenizer() {
      return (tokenizer ??= readTokenizer(path));
    },
    tensor(name) {
      if (!shapes.has(name))
        throw new Error(`internal: "${name}" is not a tensor of a ${config.family} model`);
      return read(name);
    },
    async close() {
      weights.close();
    },
  };
}

function folderTokenizer(folder: string): ModelTokenizer {
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

/**
 * What identifies a model in recipes and checks. A GGUF file: its sha256. A folder: the sha256 over the lines
 * `<sha256 of file>  <name>` of `modelFileNames`, in name order. Reads every byte; stops when the signal aborts.
 */
export async function sha256OfModel(path: string, signal?: AbortSignal): Promise<string> {
  if (!statSync(path).isDirectory()) return sha256OfFile(path, signal);
  const hash = createHash("sha256");
  for (const name of modelFileNames(path))
    hash.update(`${await sha256OfFile(join(path, name), signal)}  ${name}\n`);
  return hash.digest("hex");
}

/** The sha256 of one file, streamed. */
export async function sha256OfFile(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, ...(signal && { signal }) }))
    hash.update(chunk as Buffer);
  return hash.digest("hex");
}

// A base model on disk, opened: its config, its tensors by Hugging Face's names and its tokenizer, whether it is a
// Hugging Face folder or a GGUF file. Knows nothing of graphs, adapters or where models come from.
import { createHash } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { UnsupportedModel } from "../errors.ts";
import { sha256OfFile } from "./file-hash.ts";
import { GgufFile } from "./gguf.ts";
import { huggingFaceName, modelConfigFromGguf, ROPE_FACTORS_TENSOR, unpermuteRows } from "./gguf-config.ts";
import { tokenizerFromGguf } from "./gguf-tokenizer.ts";
import { modelConfigFromHuggingFace } from "./huggingface-config.ts";
import type { ModelConfig } from "./model-config.ts";
import { folderError, modelFileNames, openFolderWeights, readJson } from "./model-folder.ts";
import { tokenizerFromFolder, type ModelTokenizer } from "./model-tokenizer.ts";
import { checkTensors, tensorShapes } from "./tensor-shapes.ts";
import type { TensorSource } from "./weight-file.ts";

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
  return openedModel(path, config, weights, (name) => weights.read(name), tokenizerFromFolder);
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
    if (name !== ROPE_FACTORS_TENSOR) ggufNames.set(huggingFaceName(name, config.family), name);
  const ggufName = (name: string) => ggufNames.get(name) ?? name;
  const weights: TensorSource = {
    names: () => ggufNames.keys(),
    shape: (name) => (ggufNames.has(name) ? file.shape(ggufName(name)) : undefined),
    read: (name) => file.read(ggufName(name)),
    close: () => file.close(),
  };
  // Only Llama's converter reorders q and k; qwen2 and qwen3 keep the rows as they are.
  const isPermuted = (name: string) => config.family === "llama" && /\.[qk]_proj\.weight$/.test(name);
  // Gemma's converter adds the 1 that Hugging Face's files leave out.
  const isShifted = (name: string) => config.normsAroundOne && name.endsWith("norm.weight");
  const read = (name: string) => {
    const values = weights.read(name);
    if (isPermuted(name)) return unpermuteRows(values, config.headWidth, config.hiddenSize);
    return isShifted(name) ? values.map((value) => value - 1) : values;
  };
  return openedModel(path, config, weights, read, () => tokenizerFromGguf(file.metadata, path));
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

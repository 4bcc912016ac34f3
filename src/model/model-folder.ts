// A Hugging Face model folder: which files it is read from, its JSON files, and its one or many safetensors files as one
// source of tensors. Knows no architecture.
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { UnsupportedModel, messageOf } from "../errors.ts";
import { SafetensorsFile } from "./safetensors.ts";
import type { TensorSource } from "./weight-file.ts";

export const SINGLE_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";
/** Largest published tokenizer.json files have some 30 MB; more is not a settings file. */
const MAX_JSON_BYTES = 256 * 1024 * 1024;

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

/** The names of the weights files in a folder, sorted; from the index when there is one. */
export function weightFileNames(folder: string): string[] {
  const names = existsSync(join(folder, SINGLE_FILE))
    ? [SINGLE_FILE]
    : [...new Set(Object.values(readIndex(folder)))].sort();
  const other = names.find(
    (name) => existsSync(join(folder, name)) && !statSync(join(folder, name)).isFile(),
  );
  if (other !== undefined) throw folderError(folder, `its ${other} is no file`, "Get the folder again");
  return names;
}

/** Every file that decides what the model computes or how text becomes tokens, sorted; all exist. */
export function modelFileNames(folder: string): string[] {
  const optional = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
  ].filter((name) => existsSync(join(folder, name)));
  return [...optional, ...weightFileNames(folder)].sort();
}

/** Opens the folder's weights. */
export function openFolderWeights(folder: string): TensorSource {
  if (existsSync(join(folder, SINGLE_FILE))) return new SafetensorsFile(join(folder, SINGLE_FILE));
  return new ShardedWeights(folder, readIndex(folder));
}

/** tensor name → file name. */
function readIndex(folder: string): Record<string, string> {
  const path = join(folder, INDEX_FILE);
  const json = readJson(path);
  if (json === undefined) {
    const other = ["pytorch_model.bin", "pytorch_model.bin.index.json"].find((name) =>
      existsSync(join(folder, name)),
    );
    throw folderError(
      folder,
      `it has neither ${SINGLE_FILE} nor ${INDEX_FILE}` +
        (other ? `; ${other} is not read, because pickle files can run code` : ""),
      "Save the model as safetensors",
    );
  }
  const parsed = indexSchema.safeParse(json);
  if (!parsed.success)
    throw folderError(folder, `${INDEX_FILE} has no weight_map of texts`, "Get the file again");
  for (const name of Object.values(parsed.data.weight_map))
    if (!/^[\w-][\w.-]*\.safetensors$/.test(name))
      throw folderError(
        folder,
        `${INDEX_FILE} names the file ${JSON.stringify(name.slice(0, 200))}; only plain names ending in .safetensors are followed`,
        "Get the folder from a source you trust",
      );
  return parsed.data.weight_map;
}

class ShardedWeights implements TensorSource {
  readonly #shards = new Map<string, SafetensorsFile>();
  readonly #shardOf = new Map<string, SafetensorsFile>();

  constructor(folder: string, weightMap: Readonly<Record<string, string>>) {
    try {
      for (const [tensor, fileName] of Object.entries(weightMap)) {
        const shard = this.#shards.get(fileName) ?? new SafetensorsFile(join(folder, fileName));
        this.#shards.set(fileName, shard);
        if (shard.shape(tensor) === undefined)
          throw folderError(
            folder,
            `${INDEX_FILE} says that "${tensor}" is in ${fileName}, but it is not`,
            "Get the folder again",
          );
        this.#shardOf.set(tensor, shard);
      }
      for (const [fileName, shard] of this.#shards)
        for (const name of shard.names())
          if (this.#shardOf.get(name) !== shard)
            throw folderError(
              folder,
              `"${name}" is in ${fileName}, but ${INDEX_FILE} does not say so`,
              "Get the folder again",
            );
    } catch (error) {
      this.close();
      throw error;
    }
  }

  names(): Iterable<string> {
    return this.#shardOf.keys();
  }

  shape(name: string): readonly number[] | undefined {
    return this.#shardOf.get(name)?.shape(name);
  }

  read(name: string): Float32Array {
    const shard = this.#shardOf.get(name);
    if (shard === undefined) throw new Error(`internal: no shard has tensor "${name}"`);
    return shard.read(name);
  }

  close(): void {
    for (const shard of this.#shards.values()) shard.close();
  }
}

/** The parsed file, or undefined when there is none. */
export function readJson(path: string): unknown {
  const text = readTextFile(path);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UnsupportedModel(`${path} is not valid JSON: ${messageOf(error)}. Get the file again.`, {
      code: "unsupported_model",
      cause: error,
    });
  }
}

/** The file's text, or undefined when there is none. */
export function readTextFile(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  const sizeBytes = statSync(path).size;
  if (sizeBytes > MAX_JSON_BYTES)
    throw new UnsupportedModel(
      `${path} has ${sizeBytes} bytes; at most ${MAX_JSON_BYTES} are read. Check that it is the right file.`,
      { code: "unsupported_model" },
    );
  return readFileSync(path, "utf8");
}

export function folderError(folder: string, problem: string, advice: string): UnsupportedModel {
  return new UnsupportedModel(`${folder} cannot be used as a model: ${problem}. ${advice}.`, {
    code: "unsupported_model",
  });
}

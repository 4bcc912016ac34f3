// An encoder on disk, opened: a Hugging Face folder's config, its weights as the feeds of encoder.ts's graph, and its tokenizer.
// Knows nothing of where models come from and of who asks.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { UnsupportedModel } from "../errors.ts";
import { float32 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";
import { layerFeed } from "./decoder.ts";
import { encoderConfigFromHuggingFace } from "./encoder-config.ts";
import type { EncoderConfig } from "./encoder-config.ts";
import { encoderFeeds, encoderLayerFeeds } from "./encoder.ts";
import { folderError, openFolderWeights, readJson } from "./model-folder.ts";
import { tokenizerFromFolder } from "./model-tokenizer.ts";
import type { ModelTokenizer } from "./model-tokenizer.ts";
import { requireTensors, tensorError } from "./tensor-shapes.ts";
import type { TensorSource } from "./weight-file.ts";

export interface EncoderModel {
  config: EncoderConfig;
  tokenizer: ModelTokenizer;
  /** Every weight, by the names of encoderFeeds and, with layerFeed, encoderLayerFeeds. */
  feeds: Readonly<Record<string, HostTensor<"float32">>>;
}

/** Buffers that follow from the config, and the layer for BERT's next-sentence task, which no embedding uses. */
const HARMLESS_TENSOR = /^(?:embeddings\.position_ids|pooler\.dense\.(?:weight|bias))$/;

/** Reads an encoder into memory. Throws UnsupportedModel naming the field, tensor or file at fault. */
export function openEncoder(folder: string): EncoderModel {
  if (!existsSync(folder)) {
    throw new UnsupportedModel(
      `${folder} does not exist; expected a Hugging Face model folder. Check the path.`,
      {
        code: "unsupported_model",
      },
    );
  }
  const path = join(folder, "config.json");
  const json = readJson(path);
  if (json === undefined) throw folderError(folder, "it has no config.json", "Pass a BERT model's folder");
  const config = encoderConfigFromHuggingFace(json, path);
  const tokenizer = tokenizerFromFolder(folder);
  const weights = openFolderWeights(folder);
  try {
    const expected = encoderTensorShapes(config);
    requireTensors(weights, expected, folder);
    for (const name of weights.names()) {
      if (expected.has(name) || HARMLESS_TENSOR.test(name)) continue;
      throw tensorError(
        folder,
        name,
        "is not part of a BERT encoder of this config, and leaving it out would change the result",
      );
    }
    return { config, tokenizer, feeds: readFeeds(weights, config) };
  } finally {
    weights.close();
  }
}

/** Hugging Face's names, behind "encoder.layer.N.", of the tensors that lie one after the other in a layer's feed. */
const LAYER_TENSORS: Readonly<Record<string, readonly string[]>> = {
  qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
  attention: ["attention.output.dense"],
  attention_norm: ["attention.output.LayerNorm"],
  up: ["intermediate.dense"],
  down: ["output.dense"],
  norm: ["output.LayerNorm"],
};

/** The tensors of a layer's feed such as "qkv.bias". */
function layerTensors(layer: number, feed: string): string[] {
  const [part = "", kind = ""] = feed.split(".");
  return (LAYER_TENSORS[part] ?? []).map((name) => `encoder.layer.${layer}.${name}.${kind}`);
}

/** Name and row-major shape of every tensor a BERT encoder needs. */
export function encoderTensorShapes(config: EncoderConfig): Map<string, number[]> {
  const { hiddenSize: D } = config;
  const shapes = new Map<string, number[]>([
    ["embeddings.word_embeddings.weight", [config.vocabSize, D]],
    ["embeddings.position_embeddings.weight", [config.maxPositions, D]],
    ["embeddings.token_type_embeddings.weight", [config.segmentCount, D]],
    ["embeddings.LayerNorm.weight", [D]],
    ["embeddings.LayerNorm.bias", [D]],
  ]);
  for (let layer = 0; layer < config.layerCount; layer++) {
    for (const [feed, [rows = 0, ...rest]] of encoderLayerFeeds(config)) {
      const names = layerTensors(layer, feed);
      for (const name of names) shapes.set(name, [rows / names.length, ...rest]);
    }
  }
  return shapes;
}

function readFeeds(weights: TensorSource, config: EncoderConfig): EncoderModel["feeds"] {
  const read = (name: string): Float32Array => weights.read(name);
  const shared: Record<string, Float32Array> = {
    words: read("embeddings.word_embeddings.weight"),
    places: placesOf(
      read("embeddings.position_embeddings.weight"),
      read("embeddings.token_type_embeddings.weight"),
      config,
    ),
    "norm.weight": read("embeddings.LayerNorm.weight"),
    "norm.bias": read("embeddings.LayerNorm.bias"),
  };
  const feeds: Record<string, HostTensor<"float32">> = {};
  for (const [name, shape] of encoderFeeds(config))
    feeds[name] = float32(shared[name] as Float32Array, shape);
  for (let layer = 0; layer < config.layerCount; layer++) {
    for (const [name, shape] of encoderLayerFeeds(config)) {
      feeds[layerFeed(layer, name)] = float32(joined(layerTensors(layer, name).map(read)), shape);
    }
  }
  return feeds;
}

/** The position embedding with the first segment's added to every row: both are added to each token anyway. */
function placesOf(
  positions: Float32Array,
  segments: Float32Array,
  { hiddenSize }: EncoderConfig,
): Float32Array {
  return positions.map((value, i) => value + (segments[i % hiddenSize] as number));
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const [only] = parts;
  if (parts.length === 1 && only !== undefined) return only;
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let start = 0;
  for (const part of parts) {
    whole.set(part, start);
    start += part.length;
  }
  return whole;
}

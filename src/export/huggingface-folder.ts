// A Hugging Face folder of a model with its adapter merged in: config, generation config, weights in shards. Tokenizer files are
// tokenizer-files.ts's.
import { statSync } from "node:fs";
import { join } from "node:path";
import type { BaseModel } from "../model/base-model.ts";
import type { TensorReader } from "../model/decoder-weights.ts";
import { CLASSES } from "../model/huggingface-config.ts";
import type { ModelConfig, RopeScaling } from "../model/model-config.ts";
import { INDEX_FILE, readJson, SINGLE_FILE } from "../model/model-folder.ts";
import { storedBytes, writeLateSafetensors, type FloatType, type LateTensor } from "../model/safetensors.ts";
import { tensorShapes } from "../model/tensor-shapes.ts";
import { requireHalfRange } from "./merged-weights.ts";
import { writeJson } from "./tokenizer-files.ts";

/** Tensor bytes of one weights file: files beyond 4 GB fail on some disks and mirrors. */
const MAX_SHARD_BYTES = 4 * 2 ** 30;

/** What transformers calls the types. */
const TORCH_NAMES: Readonly<Record<FloatType, string>> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

/** Writes the files, flushed. `endTokenIds`: what ends an answer, the tokenizer's own end token first. */
export async function writeHuggingFaceModel(
  directory: string,
  base: BaseModel,
  weights: TensorReader,
  options: { type: FloatType; endTokenIds: readonly number[]; maxShardBytes?: number },
): Promise<void> {
  const { type, endTokenIds, maxShardBytes = MAX_SHARD_BYTES } = options;
  await writeJson(join(directory, "config.json"), configJson(base, TORCH_NAMES[type]));
  await writeJson(join(directory, "generation_config.json"), generationConfig(base, endTokenIds));
  const tensors = lateTensors(weights, type);
  const shards = shardsOf(tensors, maxShardBytes);
  if (shards.length === 1) {
    await writeLateSafetensors(join(directory, SINGLE_FILE), tensors);
    return;
  }
  const weightMap: Record<string, string> = {};
  let totalBytes = 0;
  for (const [i, shard] of shards.entries()) {
    const number = (n: number) => String(n).padStart(5, "0");
    const file = `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    await writeLateSafetensors(join(directory, file), shard);
    for (const [name, tensor] of shard) {
      weightMap[name] = file;
      totalBytes += storedBytes(tensor);
    }
  }
  await writeJson(join(directory, INDEX_FILE), {
    metadata: { total_size: totalBytes },
    weight_map: weightMap,
  });
}

/** A tied head is not among them: it is the embedding, and a second copy of it would be taken for a head of its own. */
function lateTensors(weights: TensorReader, type: FloatType): Map<string, LateTensor> {
  const tensors = new Map<string, LateTensor>();
  for (const [name, shape] of tensorShapes(weights.config)) {
    const values = (): Float32Array => {
      const found = weights.tensor(name);
      if (type === "F16") requireHalfRange(found, name);
      return found;
    };
    tensors.set(name, { shape, type, values });
  }
  return tensors;
}

/** In the model's order; a tensor larger than a shard has one to itself. */
function shardsOf(tensors: ReadonlyMap<string, LateTensor>, maxBytes: number): Map<string, LateTensor>[] {
  const shards: Map<string, LateTensor>[] = [];
  let bytes = Infinity;
  for (const [name, tensor] of tensors) {
    const size = storedBytes(tensor);
    if (bytes + size > maxBytes) {
      shards.push(new Map());
      bytes = 0;
    }
    shards.at(-1)?.set(name, tensor);
    bytes += size;
  }
  return shards;
}

/** The base folder's own, with the type that the weights have now; a GGUF file's is made of what it says. */
function configJson(base: BaseModel, dtype: string): object {
  const own = folderJson(base, "config.json");
  if (own === null) return configOf(base.config, dtype);
  return { ...own, ["dtype" in own ? "dtype" : "torch_dtype"]: dtype };
}

function generationConfig(base: BaseModel, endTokenIds: readonly number[]): object {
  const own = folderJson(base, "generation_config.json") ?? {};
  const { bosTokenId } = base.config;
  return {
    ...(bosTokenId === null ? {} : { bos_token_id: bosTokenId }),
    ...own,
    eos_token_id: endTokenIds.length === 1 ? endTokenIds[0] : endTokenIds,
  };
}

function folderJson(base: BaseModel, name: string): Record<string, unknown> | null {
  if (!statSync(base.path).isDirectory()) return null;
  return (readJson(join(base.path, name)) as Record<string, unknown> | undefined) ?? null;
}

function configOf(config: ModelConfig, dtype: string): object {
  const { family, sliding } = config;
  const { architecture, modelType } = CLASSES[family];
  return {
    architectures: [architecture],
    model_type: modelType,
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    num_hidden_layers: config.layerCount,
    num_attention_heads: config.queryHeads,
    num_key_value_heads: config.keyValueHeads,
    head_dim: config.headWidth,
    intermediate_size: config.mlpWidth,
    ...(family === "gemma3" ? { hidden_activation: "gelu_pytorch_tanh" } : { hidden_act: "silu" }),
    rms_norm_eps: config.rmsNormEpsilon,
    rope_theta: config.ropeTheta,
    ...ropeScaling(config.ropeScaling),
    max_position_embeddings: config.maxPositions,
    tie_word_embeddings: config.tiedEmbeddings,
    ...(sliding === null
      ? {}
      : {
          query_pre_attn_scalar: config.scoreScalar,
          sliding_window: sliding.windowTokens,
          layer_types: sliding.layers.map((has) => (has ? "sliding_attention" : "full_attention")),
          rope_local_base_freq: sliding.ropeTheta,
        }),
    bos_token_id: config.bosTokenId,
    eos_token_id: config.eosTokenIds.length === 1 ? config.eosTokenIds[0] : config.eosTokenIds,
    torch_dtype: dtype,
  };
}

function ropeScaling(scaling: RopeScaling): object {
  if (scaling === null) return {};
  if (scaling.kind === "linear")
    return { rope_scaling: { rope_type: "linear", type: "linear", factor: scaling.factor } };
  return {
    rope_scaling: {
      rope_type: "llama3",
      factor: scaling.factor,
      low_freq_factor: scaling.lowFrequencyFactor,
      high_freq_factor: scaling.highFrequencyFactor,
      original_max_position_embeddings: scaling.originalMaxPositions,
    },
  };
}

// A base model as a Hugging Face folder in f32, for programs that cannot read the file it came in: its dequantized weights, exactly
// the numbers that this project computes with.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { BaseModel } from "../../src/model/base-model.ts";
import type { ModelConfig } from "../../src/model/model-config.ts";
import { writeSafetensors } from "../../src/model/safetensors.ts";
import { tensorShapes } from "../../src/model/tensor-shapes.ts";

export async function writeHuggingFaceFolder(folder: string, model: BaseModel): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(
    join(folder, "config.json"),
    `${JSON.stringify(huggingFaceConfig(model.config), null, 2)}\n`,
  );
  const tensors = [...tensorShapes(model.config)].map(
    ([name, shape]) => [name, { shape, data: model.tensor(name) }] as const,
  );
  await writeSafetensors(join(folder, "model.safetensors"), new Map(tensors));
}

function huggingFaceConfig(config: ModelConfig): object {
  if (config.family !== "llama" || config.ropeScaling !== null)
    throw new Error(
      `Only plain Llama models are compared with peers; this one is ${config.family}, rope scaling ${config.ropeScaling?.kind ?? "none"}.`,
    );
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    num_hidden_layers: config.layerCount,
    num_attention_heads: config.queryHeads,
    num_key_value_heads: config.keyValueHeads,
    head_dim: config.headWidth,
    intermediate_size: config.mlpWidth,
    hidden_act: "silu",
    rms_norm_eps: config.rmsNormEpsilon,
    rope_theta: config.ropeTheta,
    max_position_embeddings: config.maxPositions,
    tie_word_embeddings: config.tiedEmbeddings,
    attention_bias: false,
    mlp_bias: false,
    attention_dropout: 0,
    bos_token_id: config.bosTokenId,
    eos_token_id: config.eosTokenIds,
    pad_token_id: null,
    dtype: "float32",
  };
}

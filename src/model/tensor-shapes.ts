// Every tensor a model of the supported families consists of, by Hugging Face's names, and the check of a weights file
// against that list. Reads no values.
import { UnsupportedModel } from "../errors.ts";
import { LORA_TARGET_PATH, type LoraTarget } from "./lora-targets.ts";
import type { ModelConfig } from "./model-config.ts";
import type { TensorSource } from "./weight-file.ts";

/** Name (behind "model.layers.N.") and row-major shape ([out, in] for matrices) of one decoder layer's tensors. */
export function layerTensorShapes(config: ModelConfig): Map<string, number[]> {
  const { hiddenSize: D, mlpWidth: F, headWidth: E } = config;
  const queryWidth = config.queryHeads * E;
  const keyValueWidth = config.keyValueHeads * E;
  const shapes = new Map<string, number[]>([
    ["input_layernorm.weight", [D]],
    ["self_attn.q_proj.weight", [queryWidth, D]],
    ["self_attn.k_proj.weight", [keyValueWidth, D]],
    ["self_attn.v_proj.weight", [keyValueWidth, D]],
  ]);
  if (config.attentionBias) {
    shapes.set("self_attn.q_proj.bias", [queryWidth]);
    shapes.set("self_attn.k_proj.bias", [keyValueWidth]);
    shapes.set("self_attn.v_proj.bias", [keyValueWidth]);
  }
  if (config.queryKeyNorm) {
    shapes.set("self_attn.q_norm.weight", [E]);
    shapes.set("self_attn.k_norm.weight", [E]);
  }
  shapes.set("self_attn.o_proj.weight", [D, queryWidth]);
  shapes.set("post_attention_layernorm.weight", [D]);
  if (config.outputNorms) {
    shapes.set("pre_feedforward_layernorm.weight", [D]);
    shapes.set("post_feedforward_layernorm.weight", [D]);
  }
  shapes.set("mlp.gate_proj.weight", [F, D]);
  shapes.set("mlp.up_proj.weight", [F, D]);
  shapes.set("mlp.down_proj.weight", [D, F]);
  return shapes;
}

/** Shapes of the LoRA pair of one linear layer: A [R, in], B [out, R]. */
export function loraShapes(
  config: ModelConfig,
  target: LoraTarget,
  rank: number,
): { a: [number, number]; b: [number, number] } {
  const [rows, columns] = layerTensorShapes(config).get(`${LORA_TARGET_PATH[target]}.weight`) as [
    number,
    number,
  ];
  return { a: [rank, columns], b: [rows, rank] };
}

/** Name and row-major shape of every tensor the architecture needs, in the order of use. */
export function tensorShapes(config: ModelConfig): Map<string, number[]> {
  const { hiddenSize: D, vocabSize: V } = config;
  const shapes = new Map<string, number[]>([["model.embed_tokens.weight", [V, D]]]);
  for (let layer = 0; layer < config.layerCount; layer++) {
    for (const [name, shape] of layerTensorShapes(config)) shapes.set(`model.layers.${layer}.${name}`, shape);
  }
  shapes.set("model.norm.weight", [D]);
  if (!config.tiedEmbeddings) shapes.set("lm_head.weight", [V, D]);
  return shapes;
}

/** Buffers that older exports stored and that follow from the config. */
const HARMLESS_TENSOR = /\.rotary_emb\.inv_freq$/;

/**
 * Throws UnsupportedModel naming the first tensor that is missing or misshapen, or that is there and would change what
 * the model computes.
 */
export function checkTensors(source: TensorSource, config: ModelConfig, path: string): void {
  const expected = tensorShapes(config);
  requireTensors(source, expected, path);
  for (const name of source.names()) {
    if (expected.has(name) || HARMLESS_TENSOR.test(name)) continue;
    if (name === "lm_head.weight") checkTiedHead(source, config, path);
    else
      throw tensorError(
        path,
        name,
        `is not part of a ${config.family} model of this config, and leaving it out would change the result`,
      );
  }
}

/** Throws UnsupportedModel naming the first tensor that is missing or misshapen. */
export function requireTensors(
  source: TensorSource,
  expected: ReadonlyMap<string, readonly number[]>,
  path: string,
): void {
  for (const [name, shape] of expected) {
    const found = source.shape(name);
    if (found === undefined)
      throw tensorError(path, name, `is missing; expected it with shape [${shape.join(", ")}]`);
    if (found.length !== shape.length || found.some((length, i) => length !== shape[i]))
      throw tensorError(
        path,
        name,
        `has shape [${found.join(", ")}]; the config asks for [${shape.join(", ")}]`,
      );
  }
}

/** A config may tie the head and its file still hold one: fine as long as both are the same matrix. */
function checkTiedHead(source: TensorSource, config: ModelConfig, path: string): void {
  const name = "lm_head.weight";
  const shape = source.shape(name)?.join(", ");
  if (shape !== `${config.vocabSize}, ${config.hiddenSize}`)
    throw tensorError(
      path,
      name,
      `has shape [${shape}]; expected [${config.vocabSize}, ${config.hiddenSize}]`,
    );
  const head = source.read(name);
  const embedding = source.read("model.embed_tokens.weight");
  if (head.some((value, i) => value !== embedding[i]))
    throw tensorError(
      path,
      name,
      "differs from model.embed_tokens.weight although the config says tie_word_embeddings; set that to false",
    );
}

export function tensorError(path: string, name: string, problem: string): UnsupportedModel {
  return new UnsupportedModel(
    `${path}: tensor "${name}" ${problem}. The weights and the config must belong together; get the model again.`,
    { code: "unsupported_model", param: name },
  );
}

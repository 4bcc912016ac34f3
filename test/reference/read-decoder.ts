// Reads a Hugging Face folder (and a PEFT adapter) into the oracle's Decoder. It shares no code with src/ on purpose.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { GELU_TANH, LINEAR_SITES, ropeFrequencies, SILU } from "./decoder.ts";
import type { Decoder, Layer, Linear, LinearSite, Llama3Scaling, Lora } from "./decoder.ts";
import { readSafetensors } from "./read-safetensors.ts";
import type { StoredTensor } from "./read-safetensors.ts";

interface HuggingFaceRope {
  rope_type?: string;
  rope_theta?: number;
  factor?: number;
  low_freq_factor?: number;
  high_freq_factor?: number;
  original_max_position_embeddings?: number;
}

interface HuggingFaceConfig {
  hidden_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim?: number;
  vocab_size: number;
  rms_norm_eps: number;
  tie_word_embeddings: boolean;
  /** transformers 5; Gemma 3 has one for each kind of layer. */
  rope_parameters?: HuggingFaceRope | Record<string, HuggingFaceRope>;
  /** transformers 4 */
  rope_theta?: number;
  rope_scaling?: HuggingFaceRope | null;
  model_type: string;
  /** Gemma 3 */
  layer_types?: string[];
  sliding_window?: number | null;
  query_pre_attn_scalar?: number;
}

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(file, "utf8"));
}

function ropeScaling(rope: HuggingFaceRope): Llama3Scaling | { factor: number } | undefined {
  if (rope.rope_type === undefined || rope.rope_type === "default") return undefined;
  if (rope.rope_type === "linear") return { factor: rope.factor ?? NaN };
  const { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } = rope;
  if (
    rope.rope_type !== "llama3" ||
    factor === undefined ||
    low_freq_factor === undefined ||
    high_freq_factor === undefined ||
    original_max_position_embeddings === undefined
  ) {
    throw new Error(`unknown rope scaling ${JSON.stringify(rope)}`);
  }
  return {
    factor,
    lowFrequencyFactor: low_freq_factor,
    highFrequencyFactor: high_freq_factor,
    originalLength: original_max_position_embeddings,
  };
}

function readAdapter(folder: string) {
  const { r, lora_alpha } = readJson(join(folder, "adapter_config.json")) as {
    r: number;
    lora_alpha: number;
  };
  const tensors = readSafetensors(join(folder, "adapter_model.safetensors"));
  return (linear: string): Lora | undefined => {
    const a = tensors.get(`base_model.model.model.${linear}.lora_A.weight`);
    const b = tensors.get(`base_model.model.model.${linear}.lora_B.weight`);
    if (a === undefined || b === undefined) return undefined;
    return { a: a.values, b: b.values, rank: r, scale: lora_alpha / r };
  };
}

/** Reads config.json and model.safetensors of `folder`, with the PEFT adapter of `adapterFolder` when it is named. */
export function readDecoder(folder: string, adapterFolder?: string): Decoder {
  const config = readJson(join(folder, "config.json")) as HuggingFaceConfig;
  const tensors = readSafetensors(join(folder, "model.safetensors"));
  const adapter = adapterFolder === undefined ? () => undefined : readAdapter(adapterFolder);
  const find = (name: string): StoredTensor => {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new Error(`${folder}: no tensor ${name}`);
    return tensor;
  };

  const readLinear = (name: string): Linear => {
    const { shape, values } = find(`model.${name}.weight`);
    const [outWidth, inWidth] = shape;
    if (outWidth === undefined || inWidth === undefined) throw new Error(`${name} is not a matrix`);
    const bias = tensors.get(`model.${name}.bias`)?.values;
    const lora = adapter(name);
    return { inWidth, outWidth, weight: values, ...(bias && { bias }), ...(lora && { lora }) };
  };

  const isGemma = config.model_type === "gemma3_text";
  /** Gemma's files hold what is added to 1. */
  const readNorm = (name: string): Float64Array => {
    const { values } = find(name);
    return isGemma ? values.map((value) => 1 + value) : values;
  };
  const headWidth = config.head_dim ?? config.hidden_size / config.num_attention_heads;

  const frequenciesOf = (layerType: string): Float64Array => {
    const flat = { ...config.rope_scaling, rope_theta: config.rope_theta };
    const all = (config.rope_parameters ?? flat) as HuggingFaceRope & Record<string, HuggingFaceRope>;
    const rope: HuggingFaceRope = isGemma ? (all[layerType] ?? {}) : all;
    if (rope.rope_theta === undefined) throw new Error(`${folder}: config.json has no rope_theta`);
    return ropeFrequencies(headWidth, rope.rope_theta, ropeScaling(rope));
  };

  const readLayer = (n: number): Layer => {
    const prefix = `model.layers.${n}`;
    const linears = LINEAR_SITES.map((site) => [site, readLinear(`layers.${n}.${site}`)] as const);
    const layerType = (isGemma ? config.layer_types?.[n] : undefined) ?? "full_attention";
    const hasHeadNorms = tensors.has(`${prefix}.self_attn.q_norm.weight`);
    return {
      linears: Object.fromEntries(linears) as Record<LinearSite, Linear>,
      inputNorm: readNorm(`${prefix}.input_layernorm.weight`),
      mlpNorm: readNorm(`${prefix}.${isGemma ? "pre_feedforward" : "post_attention"}_layernorm.weight`),
      frequencies: frequenciesOf(layerType),
      window: layerType === "sliding_attention" ? (config.sliding_window ?? NaN) : Infinity,
      ...(hasHeadNorms && {
        queryNorm: readNorm(`${prefix}.self_attn.q_norm.weight`),
        keyNorm: readNorm(`${prefix}.self_attn.k_norm.weight`),
      }),
      ...(isGemma && {
        attentionOutputNorm: readNorm(`${prefix}.post_attention_layernorm.weight`),
        mlpOutputNorm: readNorm(`${prefix}.post_feedforward_layernorm.weight`),
      }),
    };
  };

  const embedding = find("model.embed_tokens.weight").values;
  return {
    width: config.hidden_size,
    heads: config.num_attention_heads,
    keyValueHeads: config.num_key_value_heads,
    headWidth,
    vocabulary: config.vocab_size,
    normEpsilon: config.rms_norm_eps,
    scoreScalar: isGemma ? (config.query_pre_attn_scalar ?? NaN) : headWidth,
    gate: isGemma ? GELU_TANH : SILU,
    embeddingScale: isGemma ? Math.sqrt(config.hidden_size) : 1,
    embedding,
    layers: Array.from({ length: config.num_hidden_layers }, (_, n) => readLayer(n)),
    finalNorm: readNorm("model.norm.weight"),
    head: config.tie_word_embeddings ? embedding : find("lm_head.weight").values,
  };
}

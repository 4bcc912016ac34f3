// How a Hugging Face config.json is read into a ModelConfig. Fields that would change what the model computes and that the
// decoder does not compute are refused by name. Reads no files.
import { z } from "zod";
import {
  checkModelConfig,
  embeddingScaleOf,
  familyTraits,
  MODEL_FAMILIES,
  unsupportedField,
  wantedBy,
  type ModelConfig,
  type ModelFamily,
  type RopeScaling,
  type SlidingAttention,
} from "./model-config.ts";

/** The class that transformers loads a family's text models with, and its model_type. */
export const CLASSES: { readonly [F in ModelFamily]: { architecture: string; modelType: string } } = {
  llama: { architecture: "LlamaForCausalLM", modelType: "llama" },
  qwen2: { architecture: "Qwen2ForCausalLM", modelType: "qwen2" },
  qwen3: { architecture: "Qwen3ForCausalLM", modelType: "qwen3" },
  gemma3: { architecture: "Gemma3ForCausalLM", modelType: "gemma3_text" },
};

/** What transformers takes for fields that a config leaves out. */
const GEMMA3_DEFAULTS = {
  headWidth: 256,
  scoreScalar: 256,
  ropeTheta: 1_000_000,
  localRopeTheta: 10_000,
  /** Every sixth layer sees all. */
  fullAttentionEvery: 6,
};

const positive = z.number().positive().finite();
const tokenId = z.number().int().min(0);
const ropeSchema = z
  .looseObject({
    rope_type: z.string().optional(),
    /** The older spelling of rope_type. */
    type: z.string().optional(),
    rope_theta: positive.optional(),
    factor: positive.optional(),
    low_freq_factor: positive.optional(),
    high_freq_factor: positive.optional(),
    original_max_position_embeddings: positive.optional(),
    partial_rotary_factor: z.number().optional(),
  })
  .nullish();
type RawRope = z.infer<typeof ropeSchema>;

const configSchema = z.looseObject({
  architectures: z.array(z.string()).nullish(),
  model_type: z.string().nullish(),
  vocab_size: z.number(),
  hidden_size: z.number(),
  num_hidden_layers: z.number(),
  num_attention_heads: z.number(),
  num_key_value_heads: z.number().nullish(),
  head_dim: z.number().nullish(),
  intermediate_size: z.number(),
  rms_norm_eps: positive.nullish(),
  rope_theta: positive.nullish(),
  rope_scaling: ropeSchema,
  rope_parameters: ropeSchema,
  /** Gemma 3: of the layers with a window. */
  rope_local_base_freq: positive.nullish(),
  query_pre_attn_scalar: positive.nullish(),
  sliding_window: z.number().nullish(),
  layer_types: z.array(z.string()).nullish(),
  sliding_window_pattern: z.number().int().min(1).nullish(),
  _sliding_window_pattern: z.number().int().min(1).nullish(),
  max_position_embeddings: z.number(),
  tie_word_embeddings: z.boolean().nullish(),
  bos_token_id: tokenId.nullish(),
  eos_token_id: z.union([tokenId, z.array(tokenId)]).nullish(),
});
export type RawConfig = z.infer<typeof configSchema>;

interface RequiredValue {
  field: string;
  allowed: readonly unknown[];
  supported: string;
}

/** What the families' activations are called; Gemma has a field of its own, and reads no other. */
const ACTIVATION: RequiredValue = { field: "hidden_act", allowed: ["silu", "swish"], supported: '"silu"' };
const GEMMA3_VALUES: readonly RequiredValue[] = [
  { field: "hidden_activation", allowed: ["gelu_pytorch_tanh"], supported: '"gelu_pytorch_tanh"' },
  { field: "use_bidirectional_attention", allowed: [false], supported: "false (causal attention)" },
];

/** Fields that change what the model computes, with the only values this decoder computes; absent and null are fine. */
const REQUIRED_VALUES: readonly RequiredValue[] = [
  { field: "attention_bias", allowed: [false], supported: "false (Qwen2.5's q, k, v biases need no field)" },
  { field: "mlp_bias", allowed: [false], supported: "false" },
  { field: "use_sliding_window", allowed: [false], supported: "false (full attention in every layer)" },
  { field: "partial_rotary_factor", allowed: [1], supported: "1 (the whole head is rotated)" },
  { field: "rope_interleaved", allowed: [false], supported: "false" },
  { field: "use_mrope", allowed: [false], supported: "false" },
  { field: "is_encoder_decoder", allowed: [false], supported: "false" },
  { field: "num_experts", allowed: [0, 1], supported: "dense models (no mixture of experts)" },
  { field: "num_local_experts", allowed: [0, 1], supported: "dense models (no mixture of experts)" },
  { field: "n_routed_experts", allowed: [0], supported: "dense models (no mixture of experts)" },
  { field: "moe_intermediate_size", allowed: [], supported: "dense models (no mixture of experts)" },
  {
    field: "quantization_config",
    allowed: [],
    supported: "float weights (f32, f16, bf16), or a GGUF file for quantized ones",
  },
  { field: "attn_logit_softcapping", allowed: [], supported: "no soft-capping" },
  { field: "final_logit_softcapping", allowed: [], supported: "no soft-capping" },
  { field: "no_rope_layers", allowed: [], supported: "rotary embedding in every layer" },
];

/**
 * The config of a Hugging Face model folder. `source` is the file's name for messages. Throws UnsupportedModel naming the
 * field when a field is missing, malformed or asks for something the decoder does not compute.
 */
export function modelConfigFromHuggingFace(json: unknown, source = "config.json"): ModelConfig {
  const parsed = configSchema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const path = issue?.path.map(String) ?? [];
    throw unsupportedField(source, path.join("."), valueAt(json, path), wantedBy(issue));
  }
  const raw = parsed.data;
  const family = familyOf(raw, source);
  const ofFamily = family === "gemma3" ? GEMMA3_VALUES : [ACTIVATION];
  for (const { field, allowed, supported } of [...ofFamily, ...REQUIRED_VALUES]) {
    const found = raw[field];
    if (found !== undefined && found !== null && !allowed.includes(found))
      throw unsupportedField(source, field, found, supported);
  }
  const sliding = family === "gemma3" ? readSliding(raw, source) : null;
  if (sliding === null && raw.layer_types?.some((type) => type !== "full_attention"))
    throw unsupportedField(source, "layer_types", raw.layer_types, '"full_attention" in every layer');

  const rope = family === "gemma3" ? readGlobalRope(raw, source) : readRope(ropeOf(raw), source);
  const eos = raw.eos_token_id ?? [];
  // transformers' own defaults: Qwen3 and Gemma 3 fix a width, the others divide.
  const defaultWidth = { llama: null, qwen2: null, qwen3: 128, gemma3: GEMMA3_DEFAULTS.headWidth }[family];
  const headWidth = raw.head_dim ?? defaultWidth ?? raw.hidden_size / raw.num_attention_heads;
  return checkModelConfig(
    source,
    {
      family,
      vocabSize: raw.vocab_size,
      hiddenSize: raw.hidden_size,
      layerCount: raw.num_hidden_layers,
      queryHeads: raw.num_attention_heads,
      keyValueHeads: raw.num_key_value_heads ?? raw.num_attention_heads,
      headWidth,
      mlpWidth: raw.intermediate_size,
      rmsNormEpsilon: raw.rms_norm_eps ?? 1e-6,
      ropeTheta: rope.theta,
      ropeScaling: rope.scaling,
      maxPositions: raw.max_position_embeddings,
      tiedEmbeddings: raw.tie_word_embeddings ?? family === "gemma3",
      ...familyTraits(family),
      embeddingScale: embeddingScaleOf(family, raw.hidden_size),
      scoreScalar:
        family === "gemma3" ? (raw.query_pre_attn_scalar ?? GEMMA3_DEFAULTS.scoreScalar) : headWidth,
      sliding,
      bosTokenId: raw.bos_token_id ?? null,
      eosTokenIds: Array.isArray(eos) ? [...new Set(eos)] : [eos],
    },
    {
      vocabSize: "vocab_size",
      hiddenSize: "hidden_size",
      layerCount: "num_hidden_layers",
      queryHeads: "num_attention_heads",
      keyValueHeads: "num_key_value_heads",
      headWidth: "head_dim",
      mlpWidth: "intermediate_size",
      maxPositions: "max_position_embeddings",
      rmsNormEpsilon: "rms_norm_eps",
      ropeTheta: "rope_theta",
      scoreScalar: "query_pre_attn_scalar",
      windowTokens: "sliding_window",
    },
  );
}

function familyOf(raw: RawConfig, source: string): ModelFamily {
  const supported = MODEL_FAMILIES.map((family) => `"${CLASSES[family].architecture}"`).join(", ");
  const architecture = raw.architectures?.[0];
  const family = MODEL_FAMILIES.find(
    (candidate) =>
      architecture === CLASSES[candidate].architecture ||
      // Some exports leave `architectures` out; model_type then says the same.
      (architecture === undefined && raw.model_type === CLASSES[candidate].modelType),
  );
  if (family === undefined)
    throw architecture === undefined && raw.model_type
      ? unsupportedField(
          source,
          "model_type",
          raw.model_type,
          MODEL_FAMILIES.map((known) => CLASSES[known].modelType).join(", "),
        )
      : unsupportedField(source, "architectures", raw.architectures, supported);
  return family;
}

interface RopeField {
  field: string;
  rope: RawRope;
  defaultTheta: number;
}

/** `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5). */
function ropeOf(raw: RawConfig, defaultTheta = 10_000): RopeField {
  return {
    field: raw.rope_parameters ? "rope_parameters" : "rope_scaling",
    rope: raw.rope_parameters ?? raw.rope_scaling,
    defaultTheta: raw.rope_theta ?? defaultTheta,
  };
}

const LAYER_TYPES = { sliding: "sliding_attention", full: "full_attention" } as const;

/** transformers 5 keeps Gemma's two embeddings apart inside `rope_parameters`; null where the file is older. */
function ropeOfLayers(raw: RawConfig, source: string, type: string): RopeField | null {
  if (!raw.rope_parameters || !Object.values(LAYER_TYPES).some((key) => key in (raw.rope_parameters ?? {})))
    return null;
  const field = `rope_parameters.${type}`;
  const parsed = ropeSchema.safeParse(raw.rope_parameters[type]);
  if (!parsed.success)
    throw unsupportedField(source, field, raw.rope_parameters[type], "rope parameters or nothing");
  const { ropeTheta, localRopeTheta } = GEMMA3_DEFAULTS;
  return { field, rope: parsed.data, defaultTheta: type === LAYER_TYPES.full ? ropeTheta : localRopeTheta };
}

function readGlobalRope(raw: RawConfig, source: string): { theta: number; scaling: RopeScaling } {
  const own = ropeOfLayers(raw, source, LAYER_TYPES.full);
  return readRope(own ?? ropeOf(raw, GEMMA3_DEFAULTS.ropeTheta), source);
}

/** Gemma's layers with a window: by name of each, or all but every sixth. */
function readSliding(raw: RawConfig, source: string): SlidingAttention {
  const every =
    raw.sliding_window_pattern ?? raw._sliding_window_pattern ?? GEMMA3_DEFAULTS.fullAttentionEvery;
  const types =
    raw.layer_types ??
    Array.from({ length: raw.num_hidden_layers }, (_, layer) =>
      (layer + 1) % every === 0 ? LAYER_TYPES.full : LAYER_TYPES.sliding,
    );
  const known: readonly string[] = Object.values(LAYER_TYPES);
  if (types.length !== raw.num_hidden_layers || types.some((type) => !known.includes(type)))
    throw unsupportedField(
      source,
      "layer_types",
      types,
      `${known.map((type) => `"${type}"`).join(" or ")} for each of the ${raw.num_hidden_layers} layers`,
    );
  if (typeof raw.sliding_window !== "number")
    throw unsupportedField(source, "sliding_window", raw.sliding_window, "a number of tokens");
  const rope = ropeOfLayers(raw, source, LAYER_TYPES.sliding);
  const { theta, scaling } = rope
    ? readRope(rope, source)
    : { theta: raw.rope_local_base_freq ?? GEMMA3_DEFAULTS.localRopeTheta, scaling: null };
  if (scaling !== null) throw unsupportedField(source, `${rope?.field}.rope_type`, scaling.kind, '"default"');
  return {
    windowTokens: raw.sliding_window,
    layers: types.map((type) => type === LAYER_TYPES.sliding),
    ropeTheta: theta,
  };
}

function readRope(
  { field, rope, defaultTheta }: RopeField,
  source: string,
): { theta: number; scaling: RopeScaling } {
  const theta = rope?.rope_theta ?? defaultTheta;
  const kind = rope?.rope_type ?? rope?.type ?? "default";
  if (rope?.partial_rotary_factor !== undefined && rope.partial_rotary_factor !== 1)
    throw unsupportedField(source, `${field}.partial_rotary_factor`, rope.partial_rotary_factor, "1");
  const need = (name: string): number => {
    const value = rope?.[name];
    if (typeof value !== "number")
      throw unsupportedField(source, `${field}.${name}`, value, `a number, because rope_type is "${kind}"`);
    return value;
  };
  switch (kind) {
    case "default":
      return { theta, scaling: null };
    case "linear":
      return { theta, scaling: { kind, factor: need("factor") } };
    case "llama3": {
      const scaling: RopeScaling = {
        kind,
        factor: need("factor"),
        lowFrequencyFactor: need("low_freq_factor"),
        highFrequencyFactor: need("high_freq_factor"),
        originalMaxPositions: need("original_max_position_embeddings"),
      };
      if (scaling.highFrequencyFactor <= scaling.lowFrequencyFactor)
        throw unsupportedField(
          source,
          `${field}.high_freq_factor`,
          scaling.highFrequencyFactor,
          `more than low_freq_factor, which is ${scaling.lowFrequencyFactor}`,
        );
      return { theta, scaling };
    }
    default:
      throw unsupportedField(source, `${field}.rope_type`, kind, '"default", "linear", "llama3"');
  }
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (inner, key) =>
      typeof inner === "object" && inner !== null ? (inner as Record<string, unknown>)[key] : undefined,
    value,
  );
}

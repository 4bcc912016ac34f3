// What the decoder must know about a base model, and how a Hugging Face config.json is read into it. A model that would
// compute something else than this project's decoder is refused by the name of the field that says so. Reads no files.
import { z } from "zod";
import { UnsupportedModel } from "../errors.ts";

export const MODEL_FAMILIES = ["llama", "qwen2", "qwen3"] as const;
export type ModelFamily = (typeof MODEL_FAMILIES)[number];

/** How the rotary frequencies are changed for longer contexts; null: not at all. */
export type RopeScaling =
  | null
  | {
      kind: "llama3";
      /** Low frequencies are divided by this. */
      factor: number;
      lowFrequencyFactor: number;
      highFrequencyFactor: number;
      /** Context length the model was first trained with, in tokens. */
      originalMaxPositions: number;
    }
  | { kind: "linear"; /** Positions are divided by this. */ factor: number };

export interface ModelConfig {
  family: ModelFamily;
  /** V: rows of the embedding, which may exceed the tokenizer's vocabulary. */
  vocabSize: number;
  /** D. */
  hiddenSize: number;
  layerCount: number;
  /** H. */
  queryHeads: number;
  /** K; divides H. */
  keyValueHeads: number;
  /** E; even. H · E may differ from D. */
  headWidth: number;
  /** F. */
  mlpWidth: number;
  rmsNormEpsilon: number;
  ropeTheta: number;
  ropeScaling: RopeScaling;
  /** Longest context in tokens. */
  maxPositions: number;
  /** The output head is the embedding matrix. */
  tiedEmbeddings: boolean;
  /** q, k and v have bias vectors (o never has). */
  attentionBias: boolean;
  /** q and k pass an RMS norm per head before the rotary embedding. */
  queryKeyNorm: boolean;
  bosTokenId: number | null;
  /** Generation ends at any of these; may be empty. */
  eosTokenIds: number[];
}

/** What the three families differ in. */
const FAMILY = {
  llama: { architecture: "LlamaForCausalLM", attentionBias: false, queryKeyNorm: false },
  qwen2: { architecture: "Qwen2ForCausalLM", attentionBias: true, queryKeyNorm: false },
  qwen3: { architecture: "Qwen3ForCausalLM", attentionBias: false, queryKeyNorm: true },
} as const satisfies Record<ModelFamily, object>;

/** The members of a config that follow from the family alone. */
export function familyTraits(family: ModelFamily): Pick<ModelConfig, "attentionBias" | "queryKeyNorm"> {
  return { attentionBias: FAMILY[family].attentionBias, queryKeyNorm: FAMILY[family].queryKeyNorm };
}

/** The one wording for every refused field: where, what was found, what is supported. */
export function unsupportedField(
  source: string,
  field: string,
  found: unknown,
  supported: string,
  advice = "Use a Llama, Qwen2.5 or Qwen3 text model.",
): UnsupportedModel {
  return new UnsupportedModel(`${source}: "${field}" is ${show(found)}; supported: ${supported}. ${advice}`, {
    code: "unsupported_model",
    param: field,
  });
}

/** Messages quote values of the file; a hostile file must not make them huge. */
const MAX_SHOWN_CHARACTERS = 120;
function show(found: unknown): string {
  if (found === undefined) return "missing";
  // JSON has neither NaN nor large integers, which GGUF metadata may hold.
  const text = typeof found === "number" || typeof found === "bigint" ? String(found) : JSON.stringify(found);
  return text.length <= MAX_SHOWN_CHARACTERS ? text : `${text.slice(0, MAX_SHOWN_CHARACTERS)}…`;
}

// Upper bounds are far above any published model of these families; they keep a corrupt header from asking for terabytes.
const size = (max: number) => z.number().int().min(1).max(max);
const SIZES = {
  vocabSize: size(4_194_304),
  hiddenSize: size(65_536),
  layerCount: size(1_024),
  queryHeads: size(1_024),
  keyValueHeads: size(1_024),
  headWidth: size(1_024).multipleOf(2),
  mlpWidth: size(1_048_576),
  maxPositions: size(16_777_216),
};

/** Checks the sizes and how they relate; `fieldNames` are the source's own names for the message. */
export function checkModelConfig(
  source: string,
  config: ModelConfig,
  fieldNames: { [K in keyof typeof SIZES | "rmsNormEpsilon" | "ropeTheta"]: string },
): ModelConfig {
  for (const key of Object.keys(SIZES) as (keyof typeof SIZES)[]) {
    const parsed = SIZES[key].safeParse(config[key]);
    if (!parsed.success) {
      const even = key === "headWidth" ? "an even whole number" : "a whole number";
      throw unsupportedField(
        source,
        fieldNames[key],
        config[key],
        `${even} from 1 to ${SIZES[key].maxValue ?? 0}`,
      );
    }
  }
  if (config.queryHeads % config.keyValueHeads !== 0)
    throw unsupportedField(
      source,
      fieldNames.keyValueHeads,
      config.keyValueHeads,
      `a divisor of "${fieldNames.queryHeads}", which is ${config.queryHeads}`,
    );
  for (const key of ["rmsNormEpsilon", "ropeTheta"] as const)
    if (!(config[key] > 0 && Number.isFinite(config[key])))
      throw unsupportedField(source, fieldNames[key], config[key], "a finite number above 0");
  for (const id of [config.bosTokenId, ...config.eosTokenIds])
    if (id !== null && (id < 0 || id >= config.vocabSize))
      throw unsupportedField(
        source,
        "eos_token_id or bos_token_id",
        id,
        `token ids below the vocabulary size ${config.vocabSize}`,
      );
  return config;
}

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
  max_position_embeddings: z.number(),
  tie_word_embeddings: z.boolean().nullish(),
  bos_token_id: tokenId.nullish(),
  eos_token_id: z.union([tokenId, z.array(tokenId)]).nullish(),
});
type RawConfig = z.infer<typeof configSchema>;

/** Fields that change what the model computes, with the only values this decoder computes; absent and null are fine. */
const REQUIRED_VALUES: { field: string; allowed: readonly unknown[]; supported: string }[] = [
  { field: "hidden_act", allowed: ["silu", "swish"], supported: '"silu"' },
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
    throw unsupportedField(source, path.join("."), valueAt(json, path), issue?.message ?? "a JSON object");
  }
  const raw = parsed.data;
  const family = familyOf(raw, source);
  for (const { field, allowed, supported } of REQUIRED_VALUES) {
    const found = raw[field];
    if (found !== undefined && found !== null && !allowed.includes(found))
      throw unsupportedField(source, field, found, supported);
  }
  const layerTypes = raw["layer_types"];
  if (Array.isArray(layerTypes) && layerTypes.some((type) => type !== "full_attention"))
    throw unsupportedField(source, "layer_types", layerTypes, '"full_attention" in every layer');

  const rope = readRope(raw, source);
  const eos = raw.eos_token_id ?? [];
  return checkModelConfig(
    source,
    {
      family,
      vocabSize: raw.vocab_size,
      hiddenSize: raw.hidden_size,
      layerCount: raw.num_hidden_layers,
      queryHeads: raw.num_attention_heads,
      keyValueHeads: raw.num_key_value_heads ?? raw.num_attention_heads,
      // transformers' own defaults: Qwen3 fixes 128, the others divide.
      headWidth: raw.head_dim ?? (family === "qwen3" ? 128 : raw.hidden_size / raw.num_attention_heads),
      mlpWidth: raw.intermediate_size,
      rmsNormEpsilon: raw.rms_norm_eps ?? 1e-6,
      ropeTheta: rope.theta,
      ropeScaling: rope.scaling,
      maxPositions: raw.max_position_embeddings,
      tiedEmbeddings: raw.tie_word_embeddings ?? false,
      ...familyTraits(family),
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
    },
  );
}

function familyOf(raw: RawConfig, source: string): ModelFamily {
  const supported = MODEL_FAMILIES.map((family) => `"${FAMILY[family].architecture}"`).join(", ");
  const architecture = raw.architectures?.[0];
  const family = MODEL_FAMILIES.find(
    (candidate) =>
      architecture === FAMILY[candidate].architecture ||
      // Some exports leave `architectures` out; model_type then says the same.
      (architecture === undefined && raw.model_type === candidate),
  );
  if (family === undefined)
    throw architecture === undefined && raw.model_type
      ? unsupportedField(source, "model_type", raw.model_type, MODEL_FAMILIES.join(", "))
      : unsupportedField(source, "architectures", raw.architectures, supported);
  return family;
}

/** Reads `rope_scaling` (transformers 4) and `rope_parameters` (transformers 5). */
function readRope(raw: RawConfig, source: string): { theta: number; scaling: RopeScaling } {
  const field = raw.rope_parameters ? "rope_parameters" : "rope_scaling";
  const rope = raw.rope_parameters ?? raw.rope_scaling;
  const theta = rope?.rope_theta ?? raw.rope_theta ?? 10_000;
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
    path.length === 0 ? "not an object" : value,
  );
}

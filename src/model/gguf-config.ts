// How GGUF metadata is read into a ModelConfig and how GGUF's tensor names map to Hugging Face's. Reads no tensors but
// rope_freqs, which stands for metadata.
import type { GgufFile, GgufMetadata } from "./gguf.ts";
import {
  checkModelConfig,
  embeddingScaleOf,
  familyTraits,
  MODEL_FAMILIES,
  unsupportedField,
  type ModelConfig,
  type ModelFamily,
  type RopeScaling,
  type SlidingAttention,
} from "./model-config.ts";
import { rotaryFrequencies } from "./rotary.ts";

/** Per rotary frequency, what it is divided by: how GGUF stores Llama 3's scaling. */
export const ROPE_FACTORS_TENSOR = "rope_freqs.weight";

/** Metadata keys (after the architecture's name) that change the computation; present and not 0, the model is refused. */
const REFUSED_KEYS: Readonly<Record<string, string>> = {
  expert_count: "dense models (no mixture of experts)",
  "attention.clamp_kqv": "no clamping",
  "attention.max_alibi_bias": "rotary positions",
  logit_scale: "no scaling of logits",
  residual_scale: "no scaling of residuals",
  embedding_scale: "no scaling of embeddings",
  "attention.scale": "scores scaled by 1/sqrt(head width)",
  attn_logit_softcapping: "no soft-capping",
  final_logit_softcapping: "no soft-capping",
};

/** The config of an open GGUF model. Throws UnsupportedModel naming the metadata key. */
export function modelConfigFromGguf(file: GgufFile): ModelConfig {
  const source = file.path;
  const architecture = file.metadata.get("general.architecture");
  const family = MODEL_FAMILIES.find((candidate) => candidate === architecture);
  if (family === undefined)
    throw unsupportedField(source, "general.architecture", architecture, MODEL_FAMILIES.join(", "));
  const type = file.metadata.get("general.type") ?? "model";
  if (type !== "model") throw unsupportedField(source, "general.type", type, "model");
  const fields = new Fields(file.metadata, family, source);
  for (const [key, supported] of Object.entries(REFUSED_KEYS)) {
    const found = fields.get(key);
    if (found !== undefined && found !== 0)
      throw unsupportedField(source, `${family}.${key}`, found, supported);
  }
  if (family !== "gemma3" && fields.get("attention.sliding_window"))
    throw unsupportedField(
      source,
      `${family}.attention.sliding_window`,
      fields.get("attention.sliding_window"),
      "full attention in every layer",
    );

  const queryHeads = fields.number("attention.head_count");
  const hiddenSize = fields.number("embedding_length");
  const headWidth = fields.optionalNumber("attention.key_length") ?? hiddenSize / queryHeads;
  for (const key of ["attention.value_length", "rope.dimension_count"]) {
    const found = fields.optionalNumber(key);
    if (found !== undefined && found !== headWidth)
      throw unsupportedField(source, `${family}.${key}`, found, `the head width ${headWidth}`);
  }
  const eosTokenIds = ["eos", "eot", "eom"]
    .map((name) => file.metadata.get(`tokenizer.ggml.${name}_token_id`))
    .filter((id) => typeof id === "number");
  const bosTokenId = file.metadata.get("tokenizer.ggml.bos_token_id");
  const layerCount = fields.number("block_count");
  const config = checkModelConfig(
    source,
    {
      family,
      vocabSize: file.shape("token_embd.weight")?.[0] ?? fields.number("vocab_size"),
      hiddenSize,
      layerCount,
      queryHeads,
      keyValueHeads: fields.optionalNumber("attention.head_count_kv") ?? queryHeads,
      headWidth,
      mlpWidth: fields.number("feed_forward_length"),
      rmsNormEpsilon: shortestSingle(fields.number("attention.layer_norm_rms_epsilon")),
      ropeTheta: shortestSingle(fields.optionalNumber("rope.freq_base") ?? (family === "gemma3" ? 1e6 : 1e4)),
      ropeScaling: null,
      maxPositions: fields.number("context_length"),
      tiedEmbeddings: file.shape("output.weight") === undefined,
      ...familyTraits(family),
      embeddingScale: embeddingScaleOf(family, hiddenSize),
      // Of the Gemma 3 models, 27B alone divides by something else, which the files do not say.
      scoreScalar:
        family === "gemma3" && layerCount === GEMMA3_27B_LAYERS ? hiddenSize / queryHeads : headWidth,
      sliding: family === "gemma3" ? slidingOf(fields, layerCount) : null,
      bosTokenId: typeof bosTokenId === "number" ? bosTokenId : null,
      eosTokenIds: [...new Set(eosTokenIds)],
    },
    {
      vocabSize: `${family}.vocab_size`,
      hiddenSize: `${family}.embedding_length`,
      layerCount: `${family}.block_count`,
      queryHeads: `${family}.attention.head_count`,
      keyValueHeads: `${family}.attention.head_count_kv`,
      headWidth: `${family}.attention.key_length`,
      mlpWidth: `${family}.feed_forward_length`,
      maxPositions: `${family}.context_length`,
      rmsNormEpsilon: `${family}.attention.layer_norm_rms_epsilon`,
      ropeTheta: `${family}.rope.freq_base`,
      scoreScalar: `${family}.attention.head_count`,
      windowTokens: `${family}.attention.sliding_window`,
    },
  );
  return { ...config, ropeScaling: ropeScalingOf(file, fields, config) };
}

const GEMMA3_27B_LAYERS = 62;

/**
 * Gemma's windows. The files name their length alone; that every sixth layer has none and which frequencies the others have
 * is a constant of the architecture in llama.cpp (src/models/gemma3.cpp), which newer files repeat.
 */
function slidingOf(fields: Fields, layerCount: number): SlidingAttention {
  const every = fields.optionalNumber("attention.sliding_window_pattern") ?? 6;
  return {
    windowTokens: fields.number("attention.sliding_window"),
    layers: Array.from({ length: layerCount }, (_, layer) => (layer + 1) % every !== 0),
    ropeTheta: shortestSingle(fields.optionalNumber("rope.freq_base_swa") ?? 1e4),
  };
}

/** Metadata under the architecture's own prefix. */
class Fields {
  readonly #metadata: GgufMetadata;
  readonly #prefix: string;
  readonly #source: string;

  constructor(metadata: GgufMetadata, family: ModelFamily, source: string) {
    this.#metadata = metadata;
    this.#prefix = `${family}.`;
    this.#source = source;
  }

  get(key: string): unknown {
    return this.#metadata.get(this.#prefix + key);
  }

  optionalNumber(key: string): number | undefined {
    const value = this.get(key);
    if (value === undefined || typeof value === "number") return value;
    throw unsupportedField(this.#source, this.#prefix + key, value, "one number for all layers");
  }

  number(key: string): number {
    const value = this.optionalNumber(key);
    if (value === undefined) throw unsupportedField(this.#source, this.#prefix + key, undefined, "a number");
    return value;
  }
}

/** GGUF keeps 1e-5 as the f32 9.99999974e-6; the shortest decimal of the same f32 is the number that was meant. */
function shortestSingle(value: number): number {
  for (let digits = 1; digits <= 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}

function ropeScalingOf(file: GgufFile, fields: Fields, config: ModelConfig): RopeScaling {
  const kind = fields.get("rope.scaling.type") ?? "none";
  const factor =
    fields.optionalNumber("rope.scaling.factor") ?? fields.optionalNumber("rope.scale_linear") ?? 1;
  if (kind !== "none" && kind !== "linear")
    throw unsupportedField(file.path, `${config.family}.rope.scaling.type`, kind, "none, linear");
  const factors = file.shape(ROPE_FACTORS_TENSOR) && file.read(ROPE_FACTORS_TENSOR);
  if (factors === undefined) return factor === 1 ? null : { kind: "linear", factor: shortestSingle(factor) };
  if (factor !== 1)
    throw unsupportedField(
      file.path,
      `${config.family}.rope.scaling.factor`,
      factor,
      `no factor beside ${ROPE_FACTORS_TENSOR}`,
    );
  const scaling = llama3ScalingOf(factors, config);
  if (scaling === undefined)
    throw unsupportedField(
      file.path,
      ROPE_FACTORS_TENSOR,
      [...factors.slice(0, 8)],
      "the factors of Llama 3's rope scaling",
    );
  return scaling;
}

// What every published Llama 3.1, 3.2 and 3.3 model uses; the factors alone do not tell these three apart from multiples.
const LLAMA3 = { lowFrequencyFactor: 1, highFrequencyFactor: 4, originalMaxPositions: 8192 };

/** The llama3 scaling that gives these factors to a model of this config (all 1 gives null), or undefined when none does. */
export function llama3ScalingOf(factors: Float32Array, config: ModelConfig): RopeScaling | undefined {
  const factor = Math.max(...factors);
  if (factors.length !== config.headWidth / 2 || !Number.isFinite(factor)) return undefined;
  if (factor === 1 && Math.min(...factors) === 1) return null;
  const scaling = { kind: "llama3" as const, factor, ...LLAMA3 };
  const plain = rotaryFrequencies({ ...config, ropeScaling: null });
  const scaled = rotaryFrequencies({ ...config, ropeScaling: scaling });
  const fits = factors.every((found, i) => {
    const expected = (plain[i] ?? 0) / (scaled[i] ?? 0);
    return Math.abs(found - expected) <= 1e-4 * expected;
  });
  return fits ? scaling : undefined;
}

const LAYER_NAMES: Readonly<Record<string, string>> = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  attn_q_norm: "self_attn.q_norm",
  attn_k_norm: "self_attn.k_norm",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};
/** Where Gemma's norms stand, for names that mean another one elsewhere or nothing. */
const GEMMA3_LAYER_NAMES: Readonly<Record<string, string>> = {
  ...LAYER_NAMES,
  post_attention_norm: "post_attention_layernorm",
  ffn_norm: "pre_feedforward_layernorm",
  post_ffw_norm: "post_feedforward_layernorm",
};
const TOP_NAMES: Readonly<Record<string, string>> = {
  "token_embd.weight": "model.embed_tokens.weight",
  "output_norm.weight": "model.norm.weight",
  "output.weight": "lm_head.weight",
};

/** The Hugging Face name of a GGUF tensor; a name without a counterpart comes back unchanged. */
export function huggingFaceName(ggufName: string, family: ModelFamily): string {
  const names = family === "gemma3" ? GEMMA3_LAYER_NAMES : LAYER_NAMES;
  const match = /^blk\.(\d+)\.([a-z_]+)\.(weight|bias)$/.exec(ggufName);
  const inner = match && names[match[2] ?? ""];
  return inner ? `model.layers.${match[1]}.${inner}.${match[3]}` : (TOP_NAMES[ggufName] ?? ggufName);
}

/** The GGUF name of one of `tensorShapes`. */
export function ggufTensorName(name: string, family: ModelFamily): string {
  const top = Object.entries(TOP_NAMES).find(([, own]) => own === name);
  if (top !== undefined) return top[0];
  const names = family === "gemma3" ? GEMMA3_LAYER_NAMES : LAYER_NAMES;
  const match = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name);
  const inner = match && Object.entries(names).find(([, own]) => own === match[2]);
  if (!inner) throw new Error(`internal: GGUF has no name for ${name}`);
  return `blk.${match[1]}.${inner[0]}.${match[3]}`;
}

/** Gives q and k of Llama models the row order of GGUF: the inverse of `unpermuteRows`. */
export function permuteRows(data: Float32Array, headWidth: number, columns: number): Float32Array {
  const permuted = new Float32Array(data.length);
  const half = headWidth / 2;
  for (let row = 0; row < data.length / columns; row++) {
    const within = row % headWidth;
    const target = row - within + 2 * (within % half) + Math.floor(within / half);
    permuted.set(data.subarray(row * columns, (row + 1) * columns), target * columns);
  }
  return permuted;
}

/**
 * Undoes the row order that GGUF gives q and k of Llama models: GGUF interleaves the two halves of each head (its row
 * 2i + p), Hugging Face keeps them apart (row p · E/2 + i). `data` is [H · E, columns]; a new array is returned.
 */
export function unpermuteRows(data: Float32Array, headWidth: number, columns: number): Float32Array {
  const restored = new Float32Array(data.length);
  const rows = data.length / columns;
  const half = headWidth / 2;
  for (let head = 0; head < rows; head += headWidth)
    for (let p = 0; p < 2; p++)
      for (let i = 0; i < half; i++) {
        const from = (head + 2 * i + p) * columns;
        restored.set(data.subarray(from, from + columns), (head + p * half + i) * columns);
      }
  return restored;
}

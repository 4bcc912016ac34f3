// A model with its adapter merged in as one GGUF file, and the adapter alone as llama.cpp's LoRA file. Both follow the converters of
// llama.cpp (convert_hf_to_gguf.py, convert_lora_to_gguf.py): names, the order of q and k rows, norms around one.
import { isDeepStrictEqual } from "node:util";
import { UnsupportedModel } from "../errors.ts";
import { loraTensorName, type LoraAdapter } from "../model/adapter.ts";
import type { TensorReader } from "../model/decoder-weights.ts";
import { ggufTensorName, llama3ScalingOf, permuteRows, ROPE_FACTORS_TENSOR } from "../model/gguf-config.ts";
import { LORA_TARGET_PATH } from "../model/lora-targets.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { rotaryFrequencies } from "../model/rotary.ts";
import { tensorShapes } from "../model/tensor-shapes.ts";
import { writeGguf, type StoredTensor, type StoredValue } from "./gguf-writer.ts";
import { requireHalfRange } from "./merged-weights.ts";
import { BLOCK_VALUES, type StoredType } from "./quantize.ts";

/** llama.cpp's numbers for what most of a file's weights are (llama_ftype). */
const FILE_TYPES = { F16: 1, Q4_0: 2, Q8_0: 7 } as const;
export type GgufPrecision = keyof typeof FILE_TYPES;

/** Of the block formats' layout. */
const QUANTIZATION_VERSION = 2;

/** What llama.cpp takes for given of Gemma 3 (src/models/gemma3.cpp). */
const GEMMA3 = { fullEvery: 6, windowRopeTheta: 10_000, layersOf27B: 62 };

function isPublishedGemma3({
  sliding,
  layerCount,
  headWidth,
  hiddenSize,
  queryHeads,
  scoreScalar,
}: ModelConfig): boolean {
  const scalar = layerCount === GEMMA3.layersOf27B ? hiddenSize / queryHeads : headWidth;
  return (
    sliding !== null &&
    sliding.ropeTheta === GEMMA3.windowRopeTheta &&
    scoreScalar === scalar &&
    sliding.layers.every((has, layer) => has === ((layer + 1) % GEMMA3.fullEvery !== 0))
  );
}

/** Writes the merged model, flushed. `vocabulary`: the tokenizer as metadata. */
export async function writeGgufModel(
  path: string,
  weights: TensorReader,
  options: { name: string; precision: GgufPrecision; vocabulary: ReadonlyMap<string, StoredValue> },
): Promise<void> {
  const { name, precision, vocabulary } = options;
  const { config } = weights;
  const metadata = new Map<string, StoredValue>([
    ["general.architecture", { text: config.family }],
    ["general.type", { text: "model" }],
    ["general.name", { text: name }],
    ["general.file_type", { u32: FILE_TYPES[precision] }],
    ["general.quantization_version", { u32: QUANTIZATION_VERSION }],
    ...Object.entries(architectureOf(config)).map(
      ([key, value]) => [`${config.family}.${key}`, value] as const,
    ),
    ...vocabulary,
  ]);
  const tensors = [...tensorShapes(config)].map(([own, shape]): StoredTensor => {
    const type = typeOf(own, shape, precision);
    return {
      name: ggufTensorName(own, config.family),
      shape,
      type,
      values: () => {
        const values = inGgufOrder(own, weights.tensor(own), shape.at(-1) ?? 1, config);
        if (type === "F16") requireHalfRange(values, own);
        return values;
      },
    };
  });
  await writeGguf(path, metadata, [...ropeFactors(config), ...tensors]);
}

/** Vectors stay f32, as llama.cpp wants them. The embedding is worth more bits than four: it is the head, too, where the two are tied. */
function typeOf(name: string, shape: readonly number[], precision: GgufPrecision): StoredType {
  if (shape.length === 1) return "F32";
  if ((shape.at(-1) ?? 1) % BLOCK_VALUES !== 0) return "F16";
  const isVocabulary = name === "model.embed_tokens.weight" || name === "lm_head.weight";
  return precision === "Q4_0" && isVocabulary ? "Q8_0" : precision;
}

function inGgufOrder(name: string, values: Float32Array, columns: number, config: ModelConfig): Float32Array {
  if (isPermuted(name, config)) return permuteRows(values, config.headWidth, columns);
  return config.normsAroundOne && name.endsWith("norm.weight") ? values.map((value) => value + 1) : values;
}

/** Only Llama's q and k: ggml rotates neighbours there, Hugging Face the two halves of a head. */
function isPermuted(name: string, config: ModelConfig): boolean {
  return config.family === "llama" && /\.[qk]_proj\.weight$/.test(name);
}

function architectureOf(config: ModelConfig): Record<string, StoredValue> {
  const { sliding, ropeScaling: scaling, layerCount } = config;
  if (sliding !== null && !isPublishedGemma3(config))
    throw new UnsupportedModel(
      `This model cannot be written as GGUF: llama.cpp takes what a file does not say of Gemma 3's windows, their rotary base and the scale of scores from the published models (${layerCount} layers, all but every ${GEMMA3.fullEvery}th with a window), and this one differs. Take the format merged.`,
      { code: "unsupported_model", param: "format" },
    );
  return {
    context_length: { u32: config.maxPositions },
    embedding_length: { u32: config.hiddenSize },
    block_count: { u32: layerCount },
    feed_forward_length: { u32: config.mlpWidth },
    "attention.head_count": { u32: config.queryHeads },
    "attention.head_count_kv": { u32: config.keyValueHeads },
    "attention.key_length": { u32: config.headWidth },
    "attention.value_length": { u32: config.headWidth },
    "attention.layer_norm_rms_epsilon": { f32: config.rmsNormEpsilon },
    "rope.dimension_count": { u32: config.headWidth },
    "rope.freq_base": { f32: config.ropeTheta },
    vocab_size: { u32: config.vocabSize },
    ...(sliding === null ? {} : { "attention.sliding_window": { u32: sliding.windowTokens } }),
    ...(scaling?.kind === "linear"
      ? { "rope.scaling.type": { text: "linear" }, "rope.scaling.factor": { f32: scaling.factor } }
      : {}),
  };
}

/** Llama 3's scaling, as what each frequency is divided by. */
function ropeFactors(config: ModelConfig): StoredTensor[] {
  if (config.ropeScaling?.kind !== "llama3") return [];
  const plain = rotaryFrequencies({ ...config, ropeScaling: null });
  const scaled = rotaryFrequencies(config);
  const factors = Float32Array.from(plain, (frequency, i) => frequency / (scaled[i] as number));
  // Of the scaling, a file holds these alone.
  if (!isDeepStrictEqual(llama3ScalingOf(factors, config), config.ropeScaling))
    throw new UnsupportedModel(
      "This model cannot be written as GGUF: its rope scaling is not that of a published Llama 3 model, and a file holds too little to tell others apart. Take the format merged.",
      { code: "unsupported_model", param: "format" },
    );
  return [{ name: ROPE_FACTORS_TENSOR, shape: [factors.length], type: "F32", values: () => factors }];
}

/** Writes the adapter, flushed, in f32. The loader scales by alpha / R itself, so B goes in unscaled. */
export async function writeGgufAdapter(
  path: string,
  adapter: LoraAdapter,
  config: ModelConfig,
): Promise<void> {
  const metadata = new Map<string, StoredValue>([
    ["general.architecture", { text: config.family }],
    ["general.type", { text: "adapter" }],
    ["adapter.type", { text: "lora" }],
    ["adapter.lora.alpha", { f32: adapter.alpha }],
  ]);
  const tensors: StoredTensor[] = [];
  for (let layer = 0; layer < config.layerCount; layer++)
    for (const target of adapter.targetModules)
      for (const matrix of ["A", "B"] as const) {
        const own = loraTensorName(layer, target, matrix);
        const tensor = adapter.tensors.get(own);
        if (tensor === undefined) throw new Error(`internal: the adapter has no ${own}`);
        const base = `model.layers.${layer}.${LORA_TARGET_PATH[target]}.weight`;
        // Rows of the product are rows of B: A, which takes in what the layer takes in, keeps its order.
        const reorders = matrix === "B" && isPermuted(base, config);
        const data = reorders ? permuteRows(tensor.data, config.headWidth, adapter.rank) : tensor.data;
        tensors.push({
          name: `${ggufTensorName(base, config.family)}.lora_${matrix.toLowerCase()}`,
          shape: tensor.shape,
          type: "F32",
          values: () => data,
        });
      }
  await writeGguf(path, metadata, tensors);
}

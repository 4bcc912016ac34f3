// A base model's weights as host tensors, grouped the way graphs are fed: embedding, one record per layer, final norm, head.
// One copy in memory serves every session of a process.
import { finish } from "../steps.ts";
import type { Steps } from "../steps.ts";
import { UnsupportedModel } from "../errors.ts";
import { float32 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";
import type { ModelConfig } from "./model-config.ts";
import { rotaryCaches } from "./rotary.ts";
import { layerTensorShapes } from "./tensor-shapes.ts";

/** Where tensors come from: model/base-model's BaseModel, or a test. */
export interface TensorReader {
  readonly config: ModelConfig;
  tensor(name: string): Float32Array;
}

export interface DecoderWeights {
  /** [V, D]. */
  embedding: HostTensor<"float32">;
  /** By the names of layerTensorShapes. */
  layers: readonly Readonly<Record<string, HostTensor<"float32">>>[];
  /** [D]. */
  finalNorm: HostTensor<"float32">;
  /** [V, D]; the embedding itself where the two are tied. */
  head: HostTensor<"float32">;
  /** What an embedding's rows are multiplied by before the first layer. */
  embeddingScale: number;
  /** [P, E/2] for positions 0 to P - 1. */
  cos: HostTensor<"float32">;
  sin: HostTensor<"float32">;
  /** The same of layers with a window. */
  sliding: { cos: HostTensor<"float32">; sin: HostTensor<"float32"> } | null;
}

/**
 * Reads every weight, as float32. `positions`: P, the longest sequence that will be run. Norms stored as the distance from 1
 * become what the decoder multiplies by, and the queries' norm takes in what scores are divided by, where that is not the
 * root of the head width. Throws UnsupportedModel for a weight that is no finite number.
 */
export function loadDecoderWeights(reader: TensorReader, positions: number): DecoderWeights {
  return finish(loadInSteps(reader, positions));
}

/** As loadDecoderWeights, giving way before each tensor: a server answers others in between. */
export function* loadInSteps(reader: TensorReader, positions: number): Steps<DecoderWeights> {
  const { config } = reader;
  const { sliding, headWidth, normsAroundOne, scoreScalar } = config;
  const queryScale = Math.sqrt(headWidth / scoreScalar);
  const read = (name: string): Float32Array => {
    const values = finite(name, reader.tensor(name));
    const around = normsAroundOne && name.endsWith("norm.weight") ? values.map((value) => 1 + value) : values;
    const isScaled = queryScale !== 1 && name.endsWith("q_norm.weight");
    return isScaled ? around.map((value) => queryScale * value) : around;
  };
  const { vocabSize: V, hiddenSize: D } = config;
  yield;
  const embedding = float32(read("model.embed_tokens.weight"), [V, D]);
  const layers: Record<string, HostTensor<"float32">>[] = [];
  for (let layer = 0; layer < config.layerCount; layer++) {
    const tensors: Record<string, HostTensor<"float32">> = {};
    for (const [name, shape] of layerTensorShapes(config)) {
      yield;
      tensors[name] = float32(read(`model.layers.${layer}.${name}`), shape);
    }
    layers.push(tensors);
  }
  yield;
  return {
    embedding,
    layers,
    finalNorm: float32(read("model.norm.weight"), [D]),
    head: config.tiedEmbeddings ? embedding : float32(read("lm_head.weight"), [V, D]),
    // Rounded as transformers rounds it.
    embeddingScale: Math.fround(config.embeddingScale),
    ...rotaryCaches(config, positions),
    sliding:
      sliding && rotaryCaches({ headWidth, ropeTheta: sliding.ropeTheta, ropeScaling: null }, positions),
  };
}

/** A damaged file would else show as answers of noise, or as a training run that diverges in its first step. */
function finite(name: string, values: Float32Array): Float32Array {
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (value - value === 0) continue;
    throw new UnsupportedModel(
      `The base model's tensor ${name} must hold finite numbers, has ${value} at element ${i}: the file is damaged. Fetch or make it again.`,
      { code: "unsupported_model" },
    );
  }
  return values;
}

/** What goes into the first layer for some tokens: [N, D]. */
export function embed(
  { embedding, embeddingScale }: DecoderWeights,
  tokens: Int32Array,
): HostTensor<"float32"> {
  const width = embedding.shape[1] as number;
  const rows = new Float32Array(tokens.length * width);
  for (const [i, token] of tokens.entries()) {
    rows.set(embedding.data.subarray(token * width, (token + 1) * width), i * width);
  }
  if (embeddingScale !== 1)
    for (let i = 0; i < rows.length; i++) rows[i] = (rows[i] as number) * embeddingScale;
  return float32(rows, [tokens.length, width]);
}

// The decoder of the Llama family (SmolLM2, Llama 3, Qwen2.5, Qwen3), defined once for training and serving. It knows
// shapes and operators, neither weights' bytes nor what a loss or a chat is.
//
// Tokens of all rows lie flat, without padding: x is [N, D]. Only attention sees rows: `blockIndex` [B, T] says which flat
// token stands where (padding repeats some token; the causal mask keeps it from being seen), `flatIndex` [N] leads back.
// Source of the architecture: huggingface/transformers models/{llama,qwen2,qwen3}/modeling_*.py.
import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import { LORA_TARGET_PATH } from "./lora-targets.ts";
import type { LoraTarget } from "./lora-targets.ts";
import { linear, linears } from "./lora.ts";
import type { Linear, LoraSites } from "./lora.ts";
import type { ModelConfig } from "./model-config.ts";
import { layerTensorShapes } from "./tensor-shapes.ts";

/** The name of a layer's feed in a graph of the whole decoder: "layers.3.mlp.up_proj.weight". */
export function layerFeed(layer: number, name: string): string {
  return `layers.${layer}.${name}`;
}

/** Declares one layer's weights as graph inputs; `prefix` keeps the layers of a whole-model graph apart. */
export function declareLayerWeights(g: Graph, config: ModelConfig, prefix = ""): LayerWeights {
  const weights: LayerWeights = new Map();
  for (const [name, shape] of layerTensorShapes(config))
    weights.set(name, g.input(prefix + name, "float32", shape));
  return weights;
}

export type LayerWeights = Map<string, Value>;

/** Inputs that all layers share. */
export interface TokenLayout {
  /** int64 [1, N]: place of each token in its row. */
  positions: Value;
  /** float32 [P, E/2], P > every position. */
  cos: Value;
  sin: Value;
  /** int32 [B, T] and its inverse int32 [N]. */
  blockIndex: Value;
  flatIndex: Value;
  /** float32 [B, T, 1]: 1 for tokens, 0 for padding. */
  blockMask: Value;
  /** float32 [T, T]: 0 where a token may look, a large negative number where not. */
  causalMask: Value;
  /** Keys and values of earlier tokens, for serving. */
  past: PastLayout | null;
}

export interface PastLayout {
  /** float32 [B, 1, 1, S]: 0 for cache places that are filled, a large negative number for the others. */
  mask: Value;
  /** int64 [2]: S and T, for cutting the attention weights in two. */
  sizes: Value;
}

export interface LayerResult {
  /** [N, D]. */
  output: Value;
  /** Rotated keys and values [N, K*E], what a cache keeps. */
  keys: Value;
  values: Value;
}

/** Declares the inputs that all layers share. */
export function declareLayout(g: Graph, config: ModelConfig, options: { past: boolean }): TokenLayout {
  const half = config.headWidth / 2;
  return {
    positions: g.input("positions", "int64", [1, "N"]),
    cos: g.input("cos", "float32", ["P", half]),
    sin: g.input("sin", "float32", ["P", half]),
    blockIndex: g.input("block_index", "int32", ["B", "T"]),
    flatIndex: g.input("flat_index", "int32", ["N"]),
    blockMask: g.input("block_mask", "float32", ["B", "T", 1]),
    causalMask: g.input("causal_mask", "float32", ["T", "T"]),
    past: options.past
      ? {
          mask: g.input("past_mask", "float32", ["B", 1, 1, "S"]),
          sizes: g.input("past_sizes", "int64", [2]),
        }
      : null,
  };
}

/** One decoder layer: x [N, D] to [N, D]. `pastKeys` and `pastValues` are [B, K, S, E] where the layout has a past. */
export function decoderLayer(
  g: Graph,
  config: ModelConfig,
  x: Value,
  weights: LayerWeights,
  layout: TokenLayout,
  sites: LoraSites,
  pastKeysValues: { keys: Value; values: Value } | null = null,
): LayerResult {
  const weight = (name: string): Value => weights.get(name) as Value;
  const norm = (input: Value, name: string): Value =>
    g.op("SimplifiedLayerNormalization", [input, weight(name)], { epsilon: config.rmsNormEpsilon });

  const layer = (target: LoraTarget): Linear => [weight(`${LORA_TARGET_PATH[target]}.weight`), target];

  const normed = norm(x, "input_layernorm.weight");
  const projected = linears(g, normed, [layer("q_proj"), layer("k_proj"), layer("v_proj")], sites);
  const [queries, keys, values] = (["q", "k", "v"] as const).map((name, i) => {
    const heads = name === "q" ? config.queryHeads : config.keyValueHeads;
    let y = projected[i] as Value;
    if (config.attentionBias) y = g.add(y, weight(`self_attn.${name}_proj.bias`));
    if (config.queryKeyNorm && name !== "v") {
      const perHead = g.reshape(y, ["N", heads, config.headWidth]);
      y = g.reshape(norm(perHead, `self_attn.${name}_norm.weight`), ["N", heads * config.headWidth]);
    }
    return name === "v" ? y : rotate(g, y, heads, layout);
  }) as [Value, Value, Value];
  const context = attention(g, config, queries, keys, values, layout, pastKeysValues);
  const attended = g.add(x, linear(g, context, layer("o_proj"), sites));

  const normedMlp = norm(attended, "post_attention_layernorm.weight");
  const [gate, up] = linears(g, normedMlp, [layer("gate_proj"), layer("up_proj")], sites) as [Value, Value];
  const activated = g.mul(g.op("QuickGelu", [gate], { alpha: 1 }), up);
  const output = g.add(attended, linear(g, activated, layer("down_proj"), sites));
  return { output, keys, values };
}

/**
 * Each token is a row of its own here: ONNX Runtime refuses rows of more tokens than the caches have positions, and the
 * flat tokens of many short rows are more than that.
 */
function rotate(g: Graph, x: Value, heads: number, { positions, cos, sin }: TokenLayout): Value {
  const width = x.shape[1] as number;
  const rotated = g.op(
    "RotaryEmbedding",
    [g.reshape(x, ["N", 1, width]), g.reshape(positions, ["N", 1]), cos, sin],
    { numHeads: heads },
  );
  return g.reshape(rotated, ["N", width]);
}

/**
 * Grouped-query attention on flat queries [N, H*E], keys and values [N, K*E]; result [N, H*E]. The R = H/K query heads of a
 * group are stacked along the tokens, so that keys are shared by one matrix product and their gradients are summed in it.
 */
function attention(
  g: Graph,
  config: ModelConfig,
  queries: Value,
  keys: Value,
  values: Value,
  layout: TokenLayout,
  past: { keys: Value; values: Value } | null,
): Value {
  const { keyValueHeads: K, headWidth: E } = config;
  const R = config.queryHeads / K;
  const { blockIndex, flatIndex } = layout;
  const blocks = (x: Value): Value => g.op("Gather", [x, blockIndex], { inverse: flatIndex });
  const heads = (x: Value): Value => g.transpose(g.reshape(blocks(x), ["B", "T", K, E]), [0, 2, 1, 3]);

  const q = g.reshape(g.transpose(g.reshape(blocks(queries), ["B", "T", K, R, E]), [0, 2, 3, 1, 4]), [
    "B",
    K,
    R === 1 ? "T" : `${R}*T`,
    E,
  ]);
  const k = heads(keys);
  const v = heads(values);
  const alpha = 1 / Math.sqrt(E);
  const stacked = q.shape[2] as string;
  // Adding the [T, T] mask to all R stacked heads needs them apart for a moment; the reshapes move no data.
  const scores = g.reshape(
    g.add(g.reshape(g.matmul(q, k, { transB: true, alpha }), ["B", K * R, "T", "T"]), layout.causalMask),
    ["B", K, stacked, "T"],
  );
  let context: Value;
  if (layout.past === null || past === null) {
    context = g.matmul(g.op("Softmax", [scores], {}), v);
  } else {
    const pastScores = g.add(g.matmul(q, past.keys, { transB: true, alpha }), layout.past.mask);
    const weights = g.op("Softmax", [g.op("Concat", [pastScores, scores], { axis: 3 })], {});
    const [onPast, onNew] = g.apply("Split", [weights, layout.past.sizes], {
      axis: 3,
      sizes: ["S", "T"],
    }) as [Value, Value];
    context = g.add(g.matmul(onPast, past.values), g.matmul(onNew, v));
  }
  const rows = g.transpose(g.reshape(context, ["B", K, R, "T", E]), [0, 3, 1, 2, 4]);
  // Padding must not send gradients back: it is multiplied by zero before it is left out.
  const masked = g.mul(g.reshape(rows, ["B", "T", K * R * E]), layout.blockMask);
  const flat = g.reshape(masked, ["B*T", K * R * E]);
  return g.op("Gather", [flat, flatIndex], { inverse: blockIndex });
}

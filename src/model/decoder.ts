// The decoder of the Llama family (SmolLM2, Llama 3, Qwen2.5, Qwen3) and of Gemma 3, defined once for training and serving. It knows
// shapes and operators, neither weights' bytes nor what a loss or a chat is.
//
// Tokens of all rows lie flat, without padding: x is [N, D]. Only attention sees rows: `blockIndex` [B, T] says which flat
// token stands where (padding repeats some token; the causal mask keeps it from being seen), `flatIndex` [N] leads back.
// Source of the architecture: huggingface/transformers models/{llama,qwen2,qwen3,gemma3}/modeling_*.py.
import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import { fastGeluParts } from "../graph/gradients.ts";
import { attention } from "./attention.ts";
import type { TokenLayout } from "./attention.ts";
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

export interface LayerResult {
  /** [N, D]. */
  output: Value;
  /** Rotated keys and values [N, K*E], what a cache keeps. */
  keys: Value;
  values: Value;
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
  const added = (y: Value, name: string): Value => (config.outputNorms ? norm(y, name) : y);
  const mixed = linear(g, context, layer("o_proj"), sites);
  const attended = g.add(x, added(mixed, "post_attention_layernorm.weight"));

  // What Gemma calls the norm behind attention is elsewhere the name of the one before the MLP.
  const mlpNorm = config.outputNorms ? "pre_feedforward_layernorm" : "post_attention_layernorm";
  const normedMlp = norm(attended, `${mlpNorm}.weight`);
  const [gate, up] = linears(g, normedMlp, [layer("gate_proj"), layer("up_proj")], sites) as [Value, Value];
  const activated = GATED_UNITS[config.activation](g, gate, up);
  const projectedDown = linear(g, activated, layer("down_proj"), sites);
  const output = g.add(attended, added(projectedDown, "post_feedforward_layernorm.weight"));
  return { output, keys, values };
}

/**
 * silu(gate) * up, arXiv:2002.05202. Its backward pass computes silu again from the gate: of a layer's activations only gate
 * and up are kept, where its operators' own rules would keep five tensors of this size.
 */
function siluUnit(g: Graph, gate: Value, up: Value): Value {
  const activated = g.mul(g.op("QuickGelu", [gate], { alpha: 1 }), up);
  return g.composite(activated, [gate, up], (dy) => {
    const sigmoid = g.op("Sigmoid", [gate], {});
    const silu = g.mul(gate, sigmoid);
    // silu' = sigmoid (1 + gate - silu)
    const slope = g.mul(sigmoid, g.add(g.sub(gate, silu), g.constant(1)));
    return [g.mul(g.mul(dy, up), slope), g.mul(dy, silu)];
  });
}

/**
 * gelu(gate) * up with the hyperbolic tangent's approximation, arXiv:1606.08415: gelu(x) = x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))
 * = x sigmoid(u), u = √(8/π) (x + 0.044715 x³). Backwards as above.
 */
function geluUnit(g: Graph, gate: Value, up: Value): Value {
  const activated = g.mul(g.op("FastGelu", [gate], {}), up);
  return g.composite(activated, [gate, up], (dy) => {
    const { sigmoid, slope } = fastGeluParts(g, gate);
    return [g.mul(g.mul(dy, up), slope), g.mul(dy, g.mul(gate, sigmoid))];
  });
}

const GATED_UNITS = { silu: siluUnit, geluTanh: geluUnit };

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

// BERT's encoder (arXiv:1810.04805) with mean pooling, as a graph: token ids to one vector for each row. Tokens are flat, as in
// decoder.ts; attention alone sees them in padded rows. Knows no weights, no text and no ONNX Runtime.
import { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import { layerFeed } from "./decoder.ts";
import type { EncoderConfig } from "./encoder-config.ts";

/** Names and shapes of a layer's feeds; q, k and v are one matrix. */
export function encoderLayerFeeds(config: EncoderConfig): ReadonlyMap<string, readonly number[]> {
  const { hiddenSize: D, mlpWidth: F } = config;
  return new Map([
    ["qkv.weight", [3 * D, D]],
    ["qkv.bias", [3 * D]],
    ["attention.weight", [D, D]],
    ["attention.bias", [D]],
    ["attention_norm.weight", [D]],
    ["attention_norm.bias", [D]],
    ["up.weight", [F, D]],
    ["up.bias", [F]],
    ["down.weight", [D, F]],
    ["down.bias", [D]],
    ["norm.weight", [D]],
    ["norm.bias", [D]],
  ]);
}

/** Names and shapes of the feeds outside of the layers. `places` is the sum of the position's and the segment's embedding. */
export function encoderFeeds(config: EncoderConfig): ReadonlyMap<string, readonly number[]> {
  const { vocabSize: V, hiddenSize: D, maxPositions: P } = config;
  return new Map([
    ["words", [V, D]],
    ["places", [P, D]],
    ["norm.weight", [D]],
    ["norm.bias", [D]],
  ]);
}

/**
 * Inputs besides the weights, for B rows of at most T tokens, N in all: `tokens` int32 [N], `positions` int64 [N] (place in its
 * row), `block_index` int32 [B, T] and `flat_index` int32 [N] (as in decoder's TokenLayout), `mask` float32 [B, 1, 1, T] (0 for
 * tokens, a large negative number for padding), and `pool` float32 [B, N] (a token's share in its row's vector, 0 elsewhere).
 * Output `pooled` [B, D], not yet of length 1.
 */
export function buildEncoderGraph(config: EncoderConfig): Graph {
  const g = new Graph();
  const weights = new Map<string, Value>();
  for (const [name, shape] of encoderFeeds(config)) weights.set(name, g.input(name, "float32", shape));
  const weight = (name: string): Value => weights.get(name) as Value;
  const tokens = g.input("tokens", "int32", ["N"]);
  const positions = g.input("positions", "int64", ["N"]);
  const layout: RowLayout = {
    blockIndex: g.input("block_index", "int32", ["B", "T"]),
    flatIndex: g.input("flat_index", "int32", ["N"]),
    mask: g.input("mask", "float32", ["B", 1, 1, "T"]),
  };
  const pool = g.input("pool", "float32", ["B", "N"]);

  const rows = (table: string, index: Value): Value =>
    g.op("Gather", [weight(table), index], { inverse: null });
  let x = norm(g, config, g.add(rows("words", tokens), rows("places", positions)), weight, "norm");
  for (let layer = 0; layer < config.layerCount; layer++) {
    const feeds = new Map<string, Value>();
    for (const [name, shape] of encoderLayerFeeds(config)) {
      feeds.set(name, g.input(layerFeed(layer, name), "float32", shape));
    }
    x = encoderLayer(g, config, x, (name) => feeds.get(name) as Value, layout);
  }
  g.output("pooled", g.matmul(pool, x));
  return g;
}

interface RowLayout {
  blockIndex: Value;
  flatIndex: Value;
  mask: Value;
}

type Weight = (name: string) => Value;

function encoderLayer(g: Graph, config: EncoderConfig, x: Value, weight: Weight, layout: RowLayout): Value {
  const linear = (input: Value, name: string): Value =>
    g.add(g.gemm(input, weight(`${name}.weight`), { transB: true }), weight(`${name}.bias`));
  const context = attention(g, config, linear(x, "qkv"), layout);
  const attended = norm(g, config, g.add(linear(context, "attention"), x), weight, "attention_norm");
  const activated = g.op("Gelu", [linear(attended, "up")], {});
  return norm(g, config, g.add(linear(activated, "down"), attended), weight, "norm");
}

function norm(g: Graph, { normEpsilon }: EncoderConfig, x: Value, weight: Weight, name: string): Value {
  const inputs = [x, weight(`${name}.weight`), weight(`${name}.bias`)];
  return g.op("LayerNormalization", inputs, { epsilon: normEpsilon });
}

/** Every token sees every token of its row: [N, 3*D] to [N, D]. */
function attention(
  g: Graph,
  config: EncoderConfig,
  qkv: Value,
  { blockIndex, flatIndex, mask }: RowLayout,
): Value {
  const { hiddenSize: D, heads: H, headWidth: E } = config;
  const blocks = g.op("Gather", [qkv, blockIndex], { inverse: null });
  const [q, k, v] = g
    .apply("Split", [blocks], { axis: 2, sizes: [D, D, D] })
    .map((part) => g.transpose(g.reshape(part, ["B", "T", H, E]), [0, 2, 1, 3])) as [Value, Value, Value];
  const scores = g.add(g.matmul(q, k, { transB: true, alpha: 1 / Math.sqrt(E) }), mask);
  const context = g.transpose(g.matmul(g.op("Softmax", [scores], {}), v), [0, 2, 1, 3]);
  return g.op("Gather", [g.reshape(context, ["B*T", D]), flatIndex], { inverse: null });
}

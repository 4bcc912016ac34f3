// Grouped-query attention on flat tokens, for training and serving, with its backward pass in closed form. The R = H/K query
// heads of a group lie beside their token, so that keys are shared by one matrix product and their gradients summed in it.
//
// Long rows attend in blocks of queries that see only the keys up to their own end: no work above the diagonal. Their
// attention weights are computed again in the backward pass; keeping them would take T² numbers a head and layer.
import { product } from "../graph/dimensions.ts";
import type { Dimension } from "../graph/dimensions.ts";
import type { Graph } from "../graph/graph.ts";
import { cutEvenly, joined } from "../graph/parts.ts";
import type { Value } from "../graph/value.ts";
import { isSliding } from "./model-config.ts";
import type { ModelConfig } from "./model-config.ts";

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
  /** float32 [B, T, 1]: 1 for tokens, 0 for padding and further copies of shared tokens. */
  blockMask: Value;
  /** Tokens that several rows begin with; null in serving, where nothing goes backwards. */
  shared: SharedLayout | null;
  /** Blocks of queries; T is this many times U. */
  queryBlocks: number;
  /**
   * float32 [R*U, T], of the last block: 0 where a token may look, a large negative number where not; a row for each of the R
   * heads that stand beside each other.
   */
  causalMask: Value;
  /** Keys and values of earlier tokens, for serving. */
  past: PastLayout | null;
}

/** The same inputs for layers of either kind; without sliding layers in the model, one kind. */
export interface TokenLayouts {
  full: TokenLayout;
  sliding: TokenLayout | null;
}

/** Where the X further copies of the C shared tokens stand, which gradients they send back. */
export interface SharedLayout {
  /** int32 [X, C]: place in the block of each copy. */
  copies: Value;
  /** int32 [N]: which shared token a flat token is; any where it is none. */
  index: Value;
  /** float32 [N, 1]: 1 where it is one, else 0. */
  mask: Value;
}

export interface PastLayout {
  /**
   * float32 [B, 1, 1, S]: 0 for cache places that are filled, a large negative number for the others. With a window
   * [B, 1, R*T, S], because each new token sees others of them.
   */
  mask: Value;
  /** int64 [2]: S and T, for cutting the attention weights in two. */
  sizes: Value;
}

/** Declares the inputs that all layers share. */
export function declareLayout(
  g: Graph,
  config: ModelConfig,
  { past, queryBlocks = 1 }: { past: boolean; queryBlocks?: number },
): TokenLayout {
  const half = config.headWidth / 2;
  const U = queryBlocks === 1 ? "T" : "U";
  const T = product([queryBlocks, U]);
  const R = config.queryHeads / config.keyValueHeads;
  return {
    positions: g.input("positions", "int64", [1, "N"]),
    cos: g.input("cos", "float32", ["P", half]),
    sin: g.input("sin", "float32", ["P", half]),
    blockIndex: g.input("block_index", "int32", ["B", T]),
    flatIndex: g.input("flat_index", "int32", ["N"]),
    blockMask: g.input("block_mask", "float32", ["B", T, 1]),
    shared: past
      ? null
      : {
          copies: g.input("shared_copies", "int32", ["X", "C"]),
          index: g.input("shared_index", "int32", ["N"]),
          mask: g.input("shared_mask", "float32", ["N", 1]),
        },
    queryBlocks,
    causalMask: g.input("causal_mask", "float32", [product([R, U]), T]),
    past: past
      ? {
          mask: g.input("past_mask", "float32", ["B", 1, 1, "S"]),
          sizes: g.input("past_sizes", "int64", [2]),
        }
      : null,
  };
}

/** `declareLayout`, and what layers with a window have of their own: angles and masks, under names with "sliding_". */
export function declareLayouts(
  g: Graph,
  config: ModelConfig,
  options: { past: boolean; queryBlocks?: number },
): TokenLayouts {
  const full = declareLayout(g, config, options);
  if (config.sliding === null) return { full, sliding: null };
  const R = config.queryHeads / config.keyValueHeads;
  const T = full.blockIndex.shape[1] as Dimension;
  const sliding = {
    ...full,
    cos: g.input("sliding_cos", "float32", full.cos.shape),
    sin: g.input("sliding_sin", "float32", full.sin.shape),
    causalMask: g.input("sliding_causal_mask", "float32", full.causalMask.shape),
    past: full.past && {
      ...full.past,
      mask: g.input("sliding_past_mask", "float32", ["B", 1, product([R, T]), "S"]),
    },
  };
  return { full, sliding };
}

/** The inputs of one layer. */
export function layoutOf({ full, sliding }: TokenLayouts, config: ModelConfig, layer: number): TokenLayout {
  return isSliding(config, layer) && sliding !== null ? sliding : full;
}

/** Queries [N, H*E], keys and values [N, K*E]; result [N, H*E]. The past's are [B, K, S, E]. */
export function attention(
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
  const T = blockIndex.shape[1] as Dimension;
  /** [B, T, K*width] to [B, K, T, width]. */
  const heads = (blocks: Value, width: number): Value =>
    g.transpose(g.reshape(blocks, ["B", T, K, width]), [0, 2, 1, 3]);
  // A shared token's queries count in one row only, because what comes of the others is masked; its keys and values in all.
  const blocks = g.op("Gather", [queries, blockIndex], { inverse: flatIndex });
  const q = g.reshape(heads(blocks, R * E), ["B", K, product([R, T]), E]);
  const [k, v] = [heads(toBlocks(g, keys, layout), E), heads(toBlocks(g, values, layout), E)];
  const context =
    layout.past === null || past === null
      ? causalAttention(g, { q, k, v }, layout)
      : attentionWithPast(g, { q, k, v }, past, layout.causalMask, layout.past);
  const rows = g.transpose(g.reshape(context, ["B", K, T, R * E]), [0, 2, 1, 3]);
  // Padding must not send gradients back: it is multiplied by zero before it is left out.
  const masked = g.mul(g.reshape(rows, ["B", T, K * R * E]), layout.blockMask);
  const flat = g.reshape(masked, [product(["B", T]), K * R * E]);
  return g.op("Gather", [flat, flatIndex], { inverse: blockIndex });
}

/** [N, W] to [B, T, W]. Backwards, a shared token gets what all its copies send. */
function toBlocks(g: Graph, x: Value, { blockIndex, flatIndex, shared }: TokenLayout): Value {
  const blocks = g.op("Gather", [x, blockIndex], { inverse: flatIndex });
  if (shared === null) return blocks;
  return g.composite(blocks, [x], (dy) => {
    const rows = g.reshape(dy, [product(blockIndex.shape), x.shape[1] as Dimension]);
    const own = g.op("Gather", [rows, flatIndex], { inverse: null });
    const ofCopies = g.sum(g.op("Gather", [rows, shared.copies], { inverse: null }), [0]);
    const more = g.op("Gather", [g.reshape(ofCopies, ["C", x.shape[1] as Dimension]), shared.index], {
      inverse: null,
    });
    return [g.add(own, g.mul(more, shared.mask))];
  });
}

/** q [B, K, R*T, E] with the R heads of a token side by side, k and v [B, K, T, E]. */
interface Heads {
  q: Value;
  k: Value;
  v: Value;
}

function attentionWithPast(
  g: Graph,
  { q, k, v }: Heads,
  past: { keys: Value; values: Value },
  causalMask: Value,
  { mask, sizes }: PastLayout,
): Value {
  const alpha = 1 / Math.sqrt(k.shape[3] as number);
  const pastScores = g.add(g.matmul(q, past.keys, { transB: true, alpha }), mask);
  const scores = g.add(g.matmul(q, k, { transB: true, alpha }), causalMask);
  const weights = g.op("Softmax", [g.op("Concat", [pastScores, scores], { axis: 3 })], {});
  const [onPast, onNew] = g.apply("Split", [weights, sizes], { axis: 3, sizes: ["S", "T"] }) as [
    Value,
    Value,
  ];
  return g.add(g.matmul(onPast, past.values), g.matmul(onNew, v));
}

/** softmax(q k' / sqrt(E) + mask) v, a block of queries at a time. */
function causalAttention(g: Graph, heads: Heads, { queryBlocks, causalMask }: TokenLayout): Value {
  const { q, k, v } = heads;
  const alpha = 1 / Math.sqrt(k.shape[3] as number);
  const cut = (x: Value, axis: number): readonly Value[] => cutEvenly(g, x, axis, queryBlocks);
  const prefixes = (parts: readonly Value[], axis: number): Value[] =>
    parts.map((_, i) => joined(g, parts.slice(0, i + 1), axis));
  const [queries, keys, values] = [cut(q, 2), prefixes(cut(k, 2), 2), prefixes(cut(v, 2), 2)];
  // The last block's mask, from its end: what a block sees before itself, it sees whole.
  const masks = cut(causalMask, 1).map((_, i, parts) => joined(g, parts.slice(queryBlocks - 1 - i), 1));

  const weigh = (i: number, scores: Value): Value => g.op("Softmax", [g.add(scores, masks[i] as Value)], {});
  const kept = queries.map((block, i) =>
    weigh(i, g.matmul(block, keys[i] as Value, { transB: true, alpha })),
  );
  const blocks = kept.map((weights, i) => g.matmul(weights, values[i] as Value));
  const context = joined(g, blocks, 2);

  return g.composite(context, [q, k, v], (dy) => {
    // Scaled before instead of in the product, so that ONNX Runtime does not take it for the forward pass's and keep that.
    const again = queryBlocks === 1 ? null : cut(g.mul(q, g.constant(alpha)), 2);
    // sum(dP P) over the keys is sum(dy context) over the head's width.
    const sums = cut(g.sum(g.mul(dy, context), [3]), 2);
    const gradients = cut(dy, 2).map((dBlock, i) => {
      const [query, key, value] = [queries[i], keys[i], values[i]] as [Value, Value, Value];
      const weights =
        again === null ? (kept[i] as Value) : weigh(i, g.matmul(again[i] as Value, key, { transB: true }));
      const dWeights = g.matmul(dBlock, value, { transB: true });
      const dScores = g.mul(weights, g.sub(dWeights, sums[i] as Value));
      return {
        q: g.matmul(dScores, key, { alpha }),
        k: cutEvenly(g, g.matmul(dScores, query, { transA: true, alpha }), 2, i + 1),
        v: cutEvenly(g, g.matmul(weights, dBlock, { transA: true }), 2, i + 1),
      };
    });
    // Each part of the keys was seen by the blocks from its own on.
    const sumParts = (of: "k" | "v"): Value => {
      const parts = gradients.map((_, j) =>
        gradients
          .slice(j)
          .map((gradient) => gradient[of][j] as Value)
          .reduce(g.add),
      );
      return joined(g, parts, 2);
    };
    return [
      joined(
        g,
        gradients.map((gradient) => gradient.q),
        2,
      ),
      sumParts("k"),
      sumParts("v"),
    ];
  });
}

// Grouped-query attention on flat tokens, for training and serving. The R = H/K query heads of a group lie beside their token, so
// that keys are shared by one matrix product and their gradients summed in it. Tokens that several rows begin with are
// computed once: their queries stand in a row of their own, their keys and values before those of every row.
import { product, quotient, total } from "../graph/dimensions.ts";
import type { Dimension } from "../graph/dimensions.ts";
import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import { causalAttention } from "./causal-attention.ts";
import type { Heads } from "./causal-attention.ts";
import { isSliding } from "./model-config.ts";
import type { ModelConfig } from "./model-config.ts";

/** Inputs that all layers share. */
export interface TokenLayout {
  /** int64 [1, N]: place of each token in its row. */
  positions: Value;
  /** float32 [P, E/2], P > every position. */
  cos: Value;
  sin: Value;
  /** int32 [B, T] and its inverse int32 [N]: of a shared token, its place in the first row. */
  blockIndex: Value;
  flatIndex: Value;
  /** float32 [B, T, 1], with shared tokens [B, Q, 1]: 1 for tokens, 0 for padding. */
  blockMask: Value;
  /** Tokens that all rows begin with; null where there are none, and in serving, where nothing goes backwards. */
  shared: SharedLayout | null;
  /** Blocks of queries; Q, the places of a row's own tokens, is this many times U. */
  queryBlocks: number;
  /**
   * float32 [R*U, T], of the last block, with shared tokens [R*Q, T], of all blocks: 0 where a token may look, a large negative
   * number where not; a row for each of the R heads that stand beside each other.
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

/** The C shared tokens are the first flat ones; T = C + Q. */
export interface SharedLayout {
  /** Blocks of queries of the shared tokens; C is this many times V. */
  queryBlocks: number;
  /** int32 [C]: 0 to C - 1. */
  tokens: Value;
  /** int32 [N]: which shared token a flat token is; any where it is none. */
  index: Value;
  /** float32 [N, 1]: 1 where it is one, else 0. */
  mask: Value;
  /** float32 [R*V, C]: causalMask of the shared tokens. */
  causalMask: Value;
  /** int32 [X, C]: places in the block [B, T] of the further copies, whose gradients belong to the shared tokens too. */
  copies: Value;
  /** int32 [B, Q]: flat token at each place of the rows' own tokens; padding names some token. */
  ownIndex: Value;
  /** int32 [N]: place of each of these tokens among the B*Q; any of a shared one. */
  ownPlaces: Value;
  /** int32 [N]: place of each token where the C shared stand before the B*Q. */
  places: Value;
  /** int64 [1 + queryBlocks]: C, and U for each block. */
  keySizes: Value | null;
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

/** Which of the graphs for a layout: blocks of queries of the rows' own tokens, and of the shared ones, 0 where there are none. */
export interface AttentionForm {
  queryBlocks: number;
  sharedBlocks: number;
}

export const WHOLE_ROWS: AttentionForm = { queryBlocks: 1, sharedBlocks: 0 };

/** Declares the inputs that all layers share. */
export function declareLayout(
  g: Graph,
  config: ModelConfig,
  { past, form = WHOLE_ROWS }: { past: boolean; form?: AttentionForm },
): TokenLayout {
  const { queryBlocks, sharedBlocks } = form;
  const half = config.headWidth / 2;
  const R = config.queryHeads / config.keyValueHeads;
  const isShared = sharedBlocks > 0;
  // One block is the whole row.
  const U = queryBlocks > 1 ? "U" : isShared ? "Q" : "T";
  const own = product([queryBlocks, U]);
  const V = sharedBlocks > 1 ? "V" : "C";
  const C = product([sharedBlocks, V]);
  const T = isShared ? total([C, own]) : own;
  return {
    positions: g.input("positions", "int64", [1, "N"]),
    cos: g.input("cos", "float32", ["P", half]),
    sin: g.input("sin", "float32", ["P", half]),
    blockIndex: g.input("block_index", "int32", ["B", T]),
    flatIndex: g.input("flat_index", "int32", ["N"]),
    blockMask: g.input("block_mask", "float32", ["B", own, 1]),
    shared: isShared
      ? {
          queryBlocks: sharedBlocks,
          tokens: g.input("shared_tokens", "int32", [C]),
          index: g.input("shared_index", "int32", ["N"]),
          mask: g.input("shared_mask", "float32", ["N", 1]),
          causalMask: g.input("shared_causal_mask", "float32", [product([R, V]), C]),
          copies: g.input("shared_copies", "int32", ["X", C]),
          ownIndex: g.input("own_index", "int32", ["B", own]),
          ownPlaces: g.input("own_places", "int32", ["N"]),
          places: g.input("places", "int32", ["N"]),
          keySizes: queryBlocks > 1 ? g.input("key_sizes", "int64", [1 + queryBlocks]) : null,
        }
      : null,
    queryBlocks,
    causalMask: g.input("causal_mask", "float32", [product([R, isShared ? own : U]), T]),
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
  options: { past: boolean; form?: AttentionForm },
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
    shared: full.shared && {
      ...full.shared,
      causalMask: g.input("sliding_shared_causal_mask", "float32", full.shared.causalMask.shape),
    },
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
  const { blockIndex, flatIndex, shared, queryBlocks, causalMask } = layout;
  const inputs = [queries, keys, values] as const;
  if (shared !== null) return sharedAttention(g, config, inputs, layout, shared);
  const toBlocks = (x: Value): Value => g.op("Gather", [x, blockIndex], { inverse: flatIndex });
  const heads = toHeads(g, config, inputs.map(toBlocks));
  const context =
    layout.past === null || past === null
      ? causalAttention(g, heads, { queryBlocks, causalMask, leading: null })
      : attentionWithPast(g, heads, past, causalMask, layout.past);
  const masked = g.mul(fromHeads(g, config, context, blockIndex.shape), layout.blockMask);
  // Padding must not send gradients back: it is multiplied by zero before it is left out.
  const flat = g.reshape(masked, [product(blockIndex.shape), masked.shape[2] as Dimension]);
  return g.op("Gather", [flat, flatIndex], { inverse: blockIndex });
}

/** The same where rows share tokens: those attend to each other once, then each row's own tokens to them and to the row's. */
function sharedAttention(
  g: Graph,
  config: ModelConfig,
  inputs: readonly [queries: Value, keys: Value, values: Value],
  { blockIndex, flatIndex, blockMask, queryBlocks, causalMask }: TokenLayout,
  shared: SharedLayout,
): Value {
  const [queries, keys, values] = inputs;
  const C = shared.tokens.shape[0] as Dimension;
  const Q = shared.ownIndex.shape[1] as Dimension;
  const width = queries.shape[1] as Dimension;
  /** Rows of a flat tensor; backwards, flat tokens that are not among them get nothing. */
  const rowsAt = (x: Value, rows: Value, back: Value, mask: Value): Value =>
    g.composite(g.op("Gather", [x, rows], { inverse: null }), [x], (dy) => {
      const flat = g.reshape(dy, [product(rows.shape), x.shape[1] as Dimension]);
      return [g.mul(g.op("Gather", [flat, back], { inverse: null }), mask)];
    });
  const sharedRows = (x: Value): Value =>
    g.reshape(rowsAt(x, shared.tokens, shared.index, shared.mask), [1, C, x.shape[1] as Dimension]);
  const isOwn = g.sub(g.constant(1), shared.mask);
  /** [N, W] to [B, T, W]. Backwards, a shared token gets what all its copies send. */
  const toBlocks = (x: Value): Value =>
    g.composite(g.op("Gather", [x, blockIndex], { inverse: flatIndex }), [x], (dy) => {
      const W = x.shape[1] as Dimension;
      const rows = g.reshape(dy, [product(blockIndex.shape), W]);
      const first = g.op("Gather", [rows, flatIndex], { inverse: null });
      const copies = g.reshape(g.sum(g.op("Gather", [rows, shared.copies], { inverse: null }), [0]), [C, W]);
      const further = g.op("Gather", [copies, shared.index], { inverse: null });
      return [g.add(first, g.mul(further, shared.mask))];
    });

  const ofShared = causalAttention(g, toHeads(g, config, inputs.map(sharedRows)), {
    queryBlocks: shared.queryBlocks,
    causalMask: shared.causalMask,
    leading: null,
  });
  const own = rowsAt(queries, shared.ownIndex, shared.ownPlaces, isOwn);
  const ofOwn = causalAttention(g, toHeads(g, config, [own, toBlocks(keys), toBlocks(values)]), {
    queryBlocks,
    causalMask,
    leading: { count: C, block: quotient(Q, queryBlocks) as Dimension, sizes: shared.keySizes },
  });
  const sharedContext = g.reshape(fromHeads(g, config, ofShared, [1, C]), [C, width]);
  const ownContext = g.mul(fromHeads(g, config, ofOwn, shared.ownIndex.shape), blockMask);
  const ownRows = g.reshape(ownContext, [product(shared.ownIndex.shape), width]);
  const all = g.op("Concat", [sharedContext, ownRows], { axis: 0 });
  return g.composite(
    g.op("Gather", [all, shared.places], { inverse: null }),
    [sharedContext, ownContext],
    (dy) => [
      g.op("Gather", [dy, shared.tokens], { inverse: null }),
      g.op("Gather", [dy, shared.ownIndex], { inverse: null }),
    ],
  );
}

/** Queries, keys and values [B, T, width] to heads. */
function toHeads(g: Graph, config: ModelConfig, blocks: readonly Value[]): Heads {
  const { keyValueHeads: K, headWidth: E } = config;
  const R = config.queryHeads / K;
  const split = (x: Value, width: number): Value => {
    const [B, T] = x.shape as [Dimension, Dimension];
    return g.transpose(g.reshape(x, [B, T, K, width]), [0, 2, 1, 3]);
  };
  const [queries, keys, values] = blocks as [Value, Value, Value];
  const [B, Q] = queries.shape as [Dimension, Dimension];
  const q = g.reshape(split(queries, R * E), [B, K, product([R, Q]), E]);
  return { q, k: split(keys, E), v: split(values, E) };
}

/** [B, K, R*Q, E] to [B, Q, H*E]. */
function fromHeads(g: Graph, config: ModelConfig, context: Value, [B, Q]: readonly Dimension[]): Value {
  const { keyValueHeads: K, headWidth: E } = config;
  const R = config.queryHeads / K;
  const shape = [B, K, Q, R * E] as readonly Dimension[];
  const rows = g.transpose(g.reshape(context, shape), [0, 2, 1, 3]);
  return g.reshape(rows, [B, Q, K * R * E] as readonly Dimension[]);
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

// Causal attention of rows of heads, with its backward pass in closed form.
//
// Long rows attend in blocks of queries that see only the keys up to their own end: no work above the diagonal. Their
// attention weights are computed again in the backward pass; keeping them would take T² numbers a head and layer.
import type { Dimension } from "../graph/dimensions.ts";
import type { Graph } from "../graph/graph.ts";
import { cutEvenly, joined } from "../graph/parts.ts";
import type { Value } from "../graph/value.ts";

/** q [B, K, R*Q, E] with the R heads of a token side by side, k and v [B, K, T, E]. */
export interface Heads {
  q: Value;
  k: Value;
  v: Value;
}

export interface CausalAttention {
  /** Blocks of queries; Q is this many times U. */
  queryBlocks: number;
  /** float32 [R*U, T], of the last block; with leading keys [R*Q, T], of all blocks. */
  causalMask: Value;
  /** Keys that stand before those of the queries' own tokens and that all of these see: T is their count + Q. Null: T is Q. */
  leading: {
    count: Dimension;
    /** U. */
    block: Dimension;
    /** int64 [1 + queryBlocks]: their count, and U for each block; null for one block, which sees all keys. */
    sizes: Value | null;
  } | null;
}

/** softmax(q k' / sqrt(E) + mask) v, a block of queries at a time. */
export function causalAttention(g: Graph, heads: Heads, options: CausalAttention): Value {
  const { q, k, v } = heads;
  const { queryBlocks } = options;
  const alpha = 1 / Math.sqrt(k.shape[3] as number);
  const cut = (x: Value, axis: number): readonly Value[] => cutEvenly(g, x, axis, queryBlocks);
  const cutKeys = (x: Value, axis: number, blocks = queryBlocks): readonly Value[] =>
    cutAtBlocks(g, x, axis, blocks, options);
  // What the block before the first would see: the leading keys.
  const leading = options.leading === null || queryBlocks === 1 ? 0 : 1;
  const seen = (parts: readonly Value[]): Value[] =>
    queries.map((_, i) => joined(g, parts.slice(0, leading + i + 1), 2));
  const queries = cut(q, 2);
  const [keys, values] = [seen(cutKeys(k, 2)), seen(cutKeys(v, 2))];
  const masks = leading === 0 ? masksFromLast(g, options) : masksOfBlocks(g, options, cutKeys);

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
        k: cutKeys(g.matmul(dScores, query, { transA: true, alpha }), 2, i + 1),
        v: cutKeys(g.matmul(weights, dBlock, { transA: true }), 2, i + 1),
      };
    });
    // Each part of the keys was seen by the blocks from its own on.
    const sumParts = (of: "k" | "v"): Value => {
      const parts = Array.from({ length: leading + queryBlocks }, (_, j) =>
        gradients
          .slice(Math.max(0, j - leading))
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

/** From the end of the last block's mask: how far back a key lies is all that counts, and no block sees more than the last. */
function masksFromLast(g: Graph, { queryBlocks, causalMask }: CausalAttention): Value[] {
  const parts = cutEvenly(g, causalMask, 1, queryBlocks);
  return parts.map((_, i) => joined(g, parts.slice(queryBlocks - 1 - i), 1));
}

/** Each block's rows of the mask, up to the keys that the block sees: leading keys lie further back for a later block. */
function masksOfBlocks(
  g: Graph,
  { queryBlocks, causalMask }: CausalAttention,
  cutKeys: (x: Value, axis: number) => readonly Value[],
): Value[] {
  return cutEvenly(g, causalMask, 0, queryBlocks).map((rows, i) =>
    joined(g, cutKeys(rows, 1).slice(0, i + 2), 1),
  );
}

/** Along the axis of the keys: the leading ones, and those of the first `blocks` blocks. A single block is not cut. */
function cutAtBlocks(
  g: Graph,
  x: Value,
  axis: number,
  blocks: number,
  { queryBlocks, leading }: CausalAttention,
): readonly Value[] {
  if (leading === null) return cutEvenly(g, x, axis, blocks);
  if (leading.sizes === null) return [x];
  const sizes = [leading.count, ...Array.from({ length: blocks }, () => leading.block)];
  const given =
    blocks === queryBlocks
      ? [leading.sizes]
      : g.apply("Split", [leading.sizes], { axis: 0, sizes: [1 + blocks, queryBlocks - blocks] });
  return g.apply("Split", [x, given[0] as Value], { axis, sizes });
}

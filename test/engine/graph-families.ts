// Small configs of the four families and random feeds for layer graphs over ragged rows, for tests of graphs.
import { layOut } from "../../src/data/batches.ts";
import { WHOLE_ROWS } from "../../src/model/attention.ts";
import type { AttentionForm } from "../../src/model/attention.ts";
import type { Graph } from "../../src/graph/graph.ts";
import { familyTraits, isSliding, MODEL_FAMILIES } from "../../src/model/model-config.ts";
import type { ModelConfig, ModelFamily } from "../../src/model/model-config.ts";
import { createRandom } from "../../src/random.ts";
import { float32 } from "../../src/runtime/tensor.ts";
import { LayoutFeeds } from "../../src/training/layout-feeds.ts";
import type { Tensor, TensorFeeds } from "../reference/interpreter.ts";

/** Four query heads on two key/value heads of width 4 on a model width of 6: no two sizes are mistaken for each other. */
export function smallConfig(family: ModelFamily): ModelConfig {
  return {
    family,
    ...familyTraits(family),
    vocabSize: 11,
    hiddenSize: 6,
    layerCount: 1,
    queryHeads: 4,
    keyValueHeads: 2,
    headWidth: 4,
    mlpWidth: 5,
    rmsNormEpsilon: 1e-3,
    ropeTheta: 100,
    ropeScaling: null,
    embeddingScale: family === "gemma3" ? 3 : 1,
    scoreScalar: 4,
    sliding: family === "gemma3" ? { windowTokens: 2, layers: [true], ropeTheta: 10 } : null,
    maxPositions: 8,
    tiedEmbeddings: false,
    bosTokenId: null,
    eosTokenIds: [],
  };
}

export const FAMILIES = MODEL_FAMILIES;

/** Keys and values of earlier tokens per row. */
export interface Past {
  lengths: readonly number[];
  /** S. */
  places: number;
}

export interface LayerFeedOptions {
  past?: Past;
  form?: AttentionForm;
  /** Of each row's tokens; more than none only where the form has blocks for them. */
  sharedTokens?: number;
}

/**
 * Feeds for a layer graph over rows of the given lengths: the layout as training makes it, everything else seeded random
 * float32 numbers. Inputs of equal name get equal numbers in every graph.
 */
export function layerFeeds(
  graph: Graph,
  config: ModelConfig,
  rowLengths: readonly number[],
  { past, form = WHOLE_ROWS, sharedTokens = 0 }: LayerFeedOptions = {},
): Record<string, Tensor> {
  const rows = rowLengths.map((length) => new Int32Array(length));
  const { queryBlocks, sharedBlocks } = form;
  const layout = { ...layOut(rows, { queryBlocks, sharedTokens }), sharedBlocks };
  const { rowCount: B, rowLength: T, tokens } = layout;
  const R = config.queryHeads / config.keyValueHeads;
  const N = tokens.length;
  const S = past?.places ?? 0;
  const half = config.headWidth / 2;
  const positions = Float64Array.from(layout.flatIndex, (place) => {
    return (past?.lengths[Math.floor(place / T)] ?? 0) + (place % T);
  });
  // One layer's graph is fed what its kind of layer has; a graph that knows kinds is fed both.
  const graphHasKinds = graph.inputs.some(({ name }) => name === "sliding_causal_mask");
  const window = isSliding(config, 0) ? (config.sliding?.windowTokens ?? NaN) : Infinity;
  const angleTensor = (theta: number, of: (angle: number) => number): Tensor => ({
    shape: [config.maxPositions, half],
    data: Float64Array.from({ length: config.maxPositions * half }, (_, i) =>
      Math.fround(of(Math.floor(i / half) * theta ** (-(i % half) / half))),
    ),
  });
  const none = float32(new Float32Array(0), [0]);
  const made = new LayoutFeeds(config, { cos: none, sin: none, sliding: null }).of(layout);
  const layoutFeeds: Record<string, Tensor> = Object.fromEntries(
    Object.entries(made).map(([name, { shape, data }]): [string, Tensor] => [
      name,
      { shape, data: Float64Array.from(data, Number) },
    ]),
  );
  const feeds: Record<string, Tensor> = {
    ...layoutFeeds,
    positions: { shape: [1, N], data: positions },
    cos: angleTensor(config.ropeTheta, Math.cos),
    sin: angleTensor(config.ropeTheta, Math.sin),
    ...(isSliding(config, 0) && !graphHasKinds
      ? { causal_mask: layoutFeeds["sliding_causal_mask"] as Tensor }
      : {}),
    ...(isSliding(config, 0) && !graphHasKinds && layoutFeeds["sliding_shared_causal_mask"] !== undefined
      ? { shared_causal_mask: layoutFeeds["sliding_shared_causal_mask"] }
      : {}),
    sliding_cos: angleTensor(config.sliding?.ropeTheta ?? NaN, Math.cos),
    sliding_sin: angleTensor(config.sliding?.ropeTheta ?? NaN, Math.sin),
    sliding_past_mask: {
      shape: [B, 1, R * T, S],
      data: Float64Array.from({ length: B * R * T * S }, (_, i) => {
        const filled = past?.lengths[Math.floor(i / S / R / T)] ?? 0;
        const token = filled + (Math.floor(i / S / R) % T);
        return i % S < filled && token - (i % S) < window ? 0 : -1e9;
      }),
    },
    past_mask: {
      shape: [B, 1, 1, S],
      data: Float64Array.from({ length: B * S }, (_, i) =>
        i % S < (past?.lengths[Math.floor(i / S)] ?? 0) ? 0 : -1e9,
      ),
    },
    past_sizes: { shape: [2], data: Float64Array.of(S, T) },
  };
  const sizes: Record<string, number> = { N, S, B };
  for (const { name, shape } of graph.inputs) {
    if (feeds[name] !== undefined) continue;
    const dimensions = shape.map((one) => sizes[one] ?? Number(one));
    // Weights of norms and dropout masks away from zero.
    const shift = /norm|dropout/.test(name) ? 1 : 0;
    feeds[name] = randomTensor(name, dimensions, shift);
  }
  return feeds;
}

/** The same numbers for the same name and size. */
export function randomTensor(name: string, shape: readonly number[], shift = 0): Tensor {
  const random = createRandom(...Array.from(name, (letter) => letter.charCodeAt(0)));
  const count = shape.reduce((total, size) => total * size, 1);
  return {
    shape,
    data: Float64Array.from({ length: count }, () => Math.fround(random.next() - 0.5 + shift)),
  };
}

/** The rows of a [N, W] tensor. */
export function rowsOf({ shape, data }: Tensor, from: number, to: number): Tensor {
  const width = shape[1] as number;
  return { shape: [to - from, width], data: data.slice(from * width, to * width) };
}

/** Largest absolute difference; Infinity where the shapes differ. */
export function difference(a: Tensor | undefined, b: Tensor | undefined): number {
  if (a === undefined || b === undefined || a.shape.join() !== b.shape.join()) return Infinity;
  return Math.max(...a.data.map((value, i) => Math.abs(value - (b.data[i] as number))));
}

export type { TensorFeeds };

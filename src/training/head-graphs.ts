// The loss head: final norm, output projection and log-likelihood of the target tokens, only for rows that carry loss, a
// chunk at a time. The backward pass uses the closed form of softmax with cross-entropy, so that neither a one-hot matrix
// nor the gradient of the logits is ever built: for weight w, dH = w (softmax(h E') E - E[target]).
import { backward } from "../graph/backward.ts";
import { cutEvenly, joined } from "../graph/parts.ts";
import type { Dimension } from "../graph/dimensions.ts";
import { Graph } from "../graph/graph.ts";
import { subgraph } from "../graph/subgraph.ts";
import type { Value } from "../graph/value.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { UNIFORM } from "./row-weights.ts";
import type { WeightForm } from "./row-weights.ts";

/**
 * Rows per run: 256 keep the logits of a 49,152-token vocabulary at 50 MB, and matrix products run at full speed from
 * about 128 rows on.
 */
export const HEAD_ROWS = 256;

export interface LossHead {
  /** Per row: log_probability [M, 1] of the target, best_log_probability [M, 1] of any token. */
  outputs: { log_probability: Value; best_log_probability: Value };
  /** [M, D]: the gradient by the rows of the loss whose derivative by each log-probability is minus the row's weight. */
  dRows: Value;
}

/**
 * Puts the loss behind rows [M, D]; declares norm [D], head [V, D], targets int64 [M, 1] and what the weights need. The rows run
 * in `parts` equal parts, so that only one part's logits are in memory at a time.
 */
export function lossHead(
  g: Graph,
  config: ModelConfig,
  rows: Value,
  { weights: form, parts = 1 }: { weights: WeightForm; parts?: number },
): LossHead {
  const { hiddenSize: D, vocabSize: V } = config;
  const M = rows.shape[0] as Dimension;
  const norm = g.input("norm", "float32", [D]);
  const head = g.input("head", "float32", [V, D]);
  const targets = g.input("targets", "int64", [M, 1]);
  const [normed] = g.apply("SimplifiedLayerNormalization", [rows, norm], { epsilon: config.rmsNormEpsilon });
  const hidden = normed as Value;
  const targetParts = cutEvenly(g, targets, 0, parts);
  const results = cutEvenly(g, hidden, 0, parts).map((part, i) => {
    const logits = g.gemm(part, head, { transB: true });
    const logProbabilities = g.op("LogSoftmax", [logits], {});
    return {
      // Not the exponential of the line above: ONNX Runtime takes six times as long for that as for a softmax.
      expected: g.gemm(g.op("Softmax", [logits], {}), head),
      logProbability: g.op("GatherElements", [logProbabilities, targetParts[i] as Value], {}),
      best: g.op("ReduceMax", [logProbabilities], { axes: [1], keepDims: true }),
    };
  });
  const all = (of: keyof (typeof results)[number]): Value =>
    joined(
      g,
      results.map((result) => result[of]),
      0,
    );
  const logProbability = all("logProbability");
  const weights = form.declare(g, logProbability);
  const actual = g.op("Gather", [head, g.reshape(targets, [M])], { inverse: null });
  const gradient = g.mul(g.sub(all("expected"), actual), weights);
  const [dRows] = backward(g, [{ value: hidden, gradient }], [rows]);
  return {
    outputs: { log_probability: logProbability, best_log_probability: all("best") },
    dRows: dRows as Value,
  };
}

export interface HeadGraphs {
  /** rows [M, D] and the inputs of `lossHead` but row_weight to its outputs. */
  evaluate: Graph;
  /** The same and row_weight to the same and d_rows. */
  train: Graph;
}

export function buildHeadGraphs(config: ModelConfig): HeadGraphs {
  const g = new Graph();
  const rows = g.input("rows", "float32", ["M", config.hiddenSize]);
  const { outputs, dRows } = lossHead(g, config, rows, { weights: UNIFORM });
  return {
    evaluate: subgraph(g, { ...outputs }),
    train: subgraph(g, { ...outputs, d_rows: dRows }),
  };
}

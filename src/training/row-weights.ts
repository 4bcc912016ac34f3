// How strongly the log-probability of each loss row of a pass counts: minus the loss's derivative by it. A method's weights
// come in two forms that must agree, as part of the whole-step graph and on the host for passes that run layer by layer.
import type { Dimension } from "../graph/dimensions.ts";
import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import { float32 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";

/** The part that stands in a graph, which is built once for each of these. */
export interface WeightForm {
  name: "uniform" | "pairs";
  /** Row weights [M, 1] of the target's log-probabilities [M, 1]; declares the inputs that `RowWeights.feeds` feeds. */
  declare(g: Graph, logProbability: Value): Value;
  /** The input through which the gradient flows in. */
  root: string;
  /** Whether they depend on the pass's own log-probabilities. */
  needsLogProbabilities: boolean;
}

/** The weights of one pass. */
export interface RowWeights {
  form: WeightForm;
  /** For M rows, of which those behind the pass's own are filler at weight 0. */
  feeds(rows: number): Record<string, HostTensor<"float32">>;
  /** [M]. */
  of(logProbabilities: Float32Array): Float32Array;
}

/** The weights are fed as they are. */
export const UNIFORM: WeightForm = {
  name: "uniform",
  root: "row_weight",
  needsLogProbabilities: false,
  declare: (g, logProbability) => g.input("row_weight", "float32", logProbability.shape),
};

/** The same weight for each of `count` rows: a loss that is a sum over tokens. */
export function uniformWeights(weight: number, count: number): RowWeights {
  return {
    form: UNIFORM,
    feeds: (rows) => ({
      row_weight: float32(new Float32Array(rows).fill(weight, 0, count), [rows, 1]),
    }),
    of: (logProbabilities) => new Float32Array(logProbabilities.length).fill(weight),
  };
}

/** Row r of a pass belongs to pair `pair[r]`, to its preferred answer where `sign[r]` is 1, to the other where it is -1. */
export interface PairRows {
  pair: Int32Array;
  sign: Int8Array;
}

/**
 * DPO, equation 7 of arXiv:2305.18290: for each pair the weight is ± share β σ(-β m), where m is how much further apart the
 * model holds the two answers than the reference does.
 */
const PAIRS: WeightForm = {
  name: "pairs",
  root: "pair_share",
  needsLogProbabilities: true,
  declare: (g, logProbability) => {
    const M = logProbability.shape[0] as Dimension;
    // [Q, M]: 1 where a row belongs to the pair's preferred answer, -1 for the other, 0 for rows of other pairs.
    const signs = g.input("pair_signs", "float32", ["Q", M]);
    // [Q, 1]: β times the reference's margin; and β by how many pairs the step has.
    const reference = g.input("pair_reference", "float32", ["Q", 1]);
    const share = g.input("pair_share", "float32", ["Q", 1]);
    const beta = g.input("beta", "float32", [1, 1]);
    const margin = g.mul(g.gemm(signs, logProbability), beta);
    const wrong = g.op("Sigmoid", [g.sub(reference, margin)], {});
    return g.gemm(signs, g.mul(wrong, share), { transA: true });
  },
};

export interface PairWeights {
  rows: PairRows;
  beta: number;
  /** Per pair, in nats: log-probability of the preferred answer less that of the other, as the reference has it. */
  referenceMargins: readonly number[];
  /** The share of each pair in the loss: 1 / pairs of the step. */
  share: number;
}

export function pairWeights({ rows, beta, referenceMargins, share }: PairWeights): RowWeights {
  const { pair, sign } = rows;
  const Q = referenceMargins.length;
  return {
    form: PAIRS,
    feeds: (count) => {
      const signs = new Float32Array(Q * count);
      for (const [r, q] of pair.entries()) signs[q * count + r] = sign[r] as number;
      return {
        pair_signs: float32(signs, [Q, count]),
        pair_reference: float32(
          Float32Array.from(referenceMargins, (one) => beta * one),
          [Q, 1],
        ),
        pair_share: float32(new Float32Array(Q).fill(beta * share), [Q, 1]),
        beta: float32(Float32Array.of(beta), [1, 1]),
      };
    },
    of: (logProbabilities) => {
      const margins = pairMargins(rows, Q, logProbabilities);
      const weights = margins.map((margin, q) => {
        const beyond = beta * (margin - (referenceMargins[q] as number));
        return (beta * share) / (1 + Math.exp(beyond));
      });
      return Float32Array.from(pair, (q, r) => (sign[r] as number) * (weights[q] as number));
    },
  };
}

/** Per pair: log-probability of the preferred answer less that of the other, in nats, summed in float64. */
function pairMargins({ pair, sign }: PairRows, pairs: number, logProbabilities: Float32Array): number[] {
  const margins = Array<number>(pairs).fill(0);
  for (const [r, q] of pair.entries()) {
    margins[q] = (margins[q] as number) + (sign[r] as number) * (logProbabilities[r] as number);
  }
  return margins;
}

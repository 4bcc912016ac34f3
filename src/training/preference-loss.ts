// Direct preference optimisation (arXiv:2305.18290): a pair's loss is -ln σ(β m), where m is by how much more the model prefers
// the preferred answer to the other than the reference does, in nats: a difference of two differences of log-probabilities. An
// answer's log-probability is the sum over its tokens, as in the paper.
import { supervisedPass } from "../data/batches.ts";
import {
  countPairTokens,
  pairsOfLossRows,
  rowsOfPairs,
  splitPairsIntoPasses,
} from "../data/preference-batches.ts";
import type { BatchPair } from "../data/preference-batches.ts";
import type { Loss, Measured } from "./loss.ts";
import { pairWeights } from "./row-weights.ts";

/** Log-probabilities of a pair's two answers, in nats. */
export interface PairScore {
  preferred: number;
  rejected: number;
}

/** A pair and what the reference, the model as training began, makes of its answers. */
export interface ReferencedPair extends BatchPair {
  reference: PairScore;
}

/** Means over pairs. */
export interface PreferenceMetrics extends Measured {
  /** β m: the reward of the preferred answer less that of the other. */
  rewardMargin: number;
  /** Share of the pairs whose margin is above 0. */
  rewardAccuracy: number;
  /** Log-probability of the preferred answer. */
  chosenLogps: number;
  rejectedLogps: number;
}

export function preferenceLoss(beta: number, passTokens?: number): Loss<ReferencedPair, PreferenceMetrics> {
  return {
    names: {
      loss: "Loss",
      rewardMargin: "RewardMargin",
      rewardAccuracy: "RewardAccuracy",
      chosenLogps: "ChosenLogps",
      rejectedLogps: "RejectedLogps",
    },
    passes: (pairs) => {
      const share = 1 / pairs.length;
      return splitPairsIntoPasses(pairs, passTokens).map((examples) => ({
        examples,
        get pass() {
          return supervisedPass(rowsOfPairs(examples));
        },
        get weights() {
          const rows = pairsOfLossRows(examples);
          const referenceMargins = examples.map(({ reference }) => reference.preferred - reference.rejected);
          return pairWeights({ rows, beta, referenceMargins, share });
        },
      }));
    },
    measure: (passes, results) => {
      const each = passes.flatMap(({ examples }, i) => {
        const scores = pairScores(examples, results[i]?.logProbabilities ?? new Float32Array());
        return scores.map((score, q) => measurePair(score, (examples[q] as ReferencedPair).reference, beta));
      });
      const mean = (of: keyof PreferenceMetrics): number =>
        each.reduce((sum, one) => sum + one[of], 0) / each.length;
      return {
        loss: mean("loss"),
        rewardMargin: mean("rewardMargin"),
        rewardAccuracy: mean("rewardAccuracy"),
        chosenLogps: mean("chosenLogps"),
        rejectedLogps: mean("rejectedLogps"),
      };
    },
    countTokens: countPairTokens,
  };
}

function measurePair(score: PairScore, reference: PairScore, beta: number): PreferenceMetrics {
  const margin = beta * (score.preferred - reference.preferred - (score.rejected - reference.rejected));
  return {
    // -ln σ(x), written so that no exponential overflows.
    loss: Math.max(-margin, 0) + Math.log1p(Math.exp(-Math.abs(margin))),
    rewardMargin: margin,
    rewardAccuracy: margin > 0 ? 1 : 0,
    chosenLogps: score.preferred,
    rejectedLogps: score.rejected,
  };
}

/** The answers' log-probabilities of the pairs of one pass, summed in float64. */
export function pairScores(pairs: readonly BatchPair[], logProbabilities: Float32Array): PairScore[] {
  const scores = pairs.map((): PairScore => ({ preferred: 0, rejected: 0 }));
  const { pair, sign } = pairsOfLossRows(pairs);
  for (const [r, q] of pair.entries()) {
    const score = scores[q] as PairScore;
    score[sign[r] === 1 ? "preferred" : "rejected"] += logProbabilities[r] as number;
  }
  return scores;
}

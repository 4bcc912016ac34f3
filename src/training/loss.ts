// What a training method minimises, as the step and the loop see it: how its examples are cut into passes, how strongly each
// row counts, and what is measured. The supervised loss is here, the preference loss in preference-loss.ts.
import { countSupervised, PASS_TOKENS, splitIntoPasses, supervisedPass } from "../data/batches.ts";
import type { BatchExample, SupervisedPass } from "../data/batches.ts";
import type { PassResult } from "./decoder-runner.ts";
import type { MetricName } from "./job-directory.ts";
import { uniformWeights } from "./row-weights.ts";
import type { RowWeights } from "./row-weights.ts";

/** What a method measures over examples; `loss` is what it minimises. */
export interface Measured {
  loss: number;
}

export interface Loss<Example, Metrics extends Measured> {
  /** The metrics' names in reports. */
  readonly names: Readonly<Record<keyof Metrics, MetricName>>;
  /** Cuts examples into passes, none laid out yet; the gradients of all of them together are those of the examples' mean loss. */
  passes(examples: readonly Example[]): LossPass<Example>[];
  /** Over the examples of passes, by what the runner made of each. */
  measure(passes: readonly LossPass<Example>[], results: readonly PassResult[]): Metrics;
  /** Tokens of an example, masked ones and those that rows share included. */
  countTokens(example: Example): number;
}

export interface LossPass<Example> {
  readonly examples: readonly Example[];
  /** Laid out anew by each reading and not kept: of a whole validation set, one pass at a time is in memory. */
  readonly pass: SupervisedPass;
  /** Of the pass's loss rows; as `pass`, made by each reading. */
  readonly weights: RowWeights;
}

/** Loss in mean nats per supervised token; accuracy as the share of them that was the most likely token. */
export interface LossMetrics extends Measured {
  accuracy: number;
}

/** Cross-entropy: the mean of -ln p over the supervised tokens of a step, in passes of so many tokens. */
export const supervisedLoss = (passTokens: number): Loss<BatchExample, LossMetrics> => ({
  names: { loss: "Loss", accuracy: "MeanTokenAccuracy" },
  passes: (examples) => {
    const weight = 1 / countSupervised(examples);
    return splitIntoPasses(examples, passTokens).map((rows) => ({
      examples: rows,
      get pass() {
        return supervisedPass(rows);
      },
      get weights() {
        return uniformWeights(weight, countSupervised(rows));
      },
    }));
  },
  measure: (_, results) => {
    const supervised = results.reduce((sum, result) => sum + result.supervised, 0);
    return {
      loss: results.reduce((sum, result) => sum + result.lossSum, 0) / supervised,
      accuracy: results.reduce((sum, result) => sum + result.correct, 0) / supervised,
    };
  },
  countTokens: ({ tokens }) => tokens.length,
});

/** In passes for full speed. */
export const SUPERVISED_LOSS = supervisedLoss(PASS_TOKENS);

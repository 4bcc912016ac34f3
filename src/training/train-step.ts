// One optimizer step: forward and backward over the step's passes, clipping, AdamW. Accumulating over passes gives the
// gradient of the whole batch, because each row is weighted by the batch's count of supervised tokens.
import type { BatchExample } from "../data/batches.ts";
import { countSupervised, splitIntoPasses, supervisedPass } from "../data/batches.ts";
import { TunesmithError } from "../errors.ts";
import type { DecoderRunner, DropoutStream, PassResult } from "./decoder-runner.ts";
import type { LoraParameters } from "./lora-parameters.ts";
import { clipScale, l2Norm } from "./optimizer.ts";
import type { AdamW } from "./optimizer.ts";

/** Loss in mean nats per supervised token; accuracy as the share of them that was the most likely token. */
export interface LossMetrics {
  loss: number;
  accuracy: number;
}

export interface StepResult extends LossMetrics {
  /** L2 norm of the gradient before clipping. */
  gradientNorm: number;
}

export interface StepOptions {
  learningRate: number;
  clipNorm: number;
  dropoutStream: DropoutStream;
  signal?: AbortSignal;
}

/**
 * Moves the parameters one step along the mean loss of the examples. Aborting leaves parameters and moments untouched, and so
 * does a loss or gradient that is no finite number: that throws TunesmithError (training_diverged), as do parameters that
 * the step made infinite.
 */
export async function trainStep(
  runner: DecoderRunner,
  parameters: LoraParameters,
  optimizer: AdamW,
  examples: readonly BatchExample[],
  { learningRate, clipNorm, dropoutStream, signal }: StepOptions,
): Promise<StepResult> {
  const { gradients, metrics } = await lossAndGradients(runner, parameters, examples, dropoutStream, signal);
  const gradientNorm = l2Norm(gradients);
  if (!Number.isFinite(metrics.loss) || !Number.isFinite(gradientNorm)) {
    const what = `at step ${optimizer.step + 1} the loss is ${metrics.loss} and the norm of the gradient ${gradientNorm}`;
    throw diverged(what, learningRate);
  }
  optimizer.update(parameters.data, gradients, learningRate, clipScale(gradientNorm, clipNorm));
  // The last step's update is looked at by no later step.
  const parameterNorm = l2Norm(parameters.data);
  if (!Number.isFinite(parameterNorm)) {
    throw diverged(`after step ${optimizer.step} the norm of the adapter is ${parameterNorm}`, learningRate);
  }
  return { ...metrics, gradientNorm };
}

function diverged(what: string, learningRate?: number): TunesmithError {
  const rate = learningRate === undefined ? "" : ` The learning rate was ${learningRate}.`;
  return new TunesmithError(
    `Training has diverged: ${what}, where finite numbers are expected.${rate} Create the job again with a lower learning_rate_multiplier.`,
    { code: "training_diverged", param: "learning_rate_multiplier" },
  );
}

/** Mean loss of the examples and its gradient by every parameter, flat as `parameters.data`. */
export async function lossAndGradients(
  runner: DecoderRunner,
  parameters: LoraParameters,
  examples: readonly BatchExample[],
  dropoutStream: DropoutStream,
  signal?: AbortSignal,
): Promise<{ gradients: Float32Array; metrics: LossMetrics }> {
  const gradients = new Float32Array(parameters.data.length);
  const rowWeight = 1 / countSupervised(examples);
  const results: PassResult[] = [];
  for (const [i, pass] of splitIntoPasses(examples).entries()) {
    results.push(
      await runner.train(supervisedPass(pass), rowWeight, gradients, [...dropoutStream, i], signal),
    );
  }
  return { gradients, metrics: meanOf(results) };
}

/** Loss and accuracy of the examples as the model stands. Throws TunesmithError (training_diverged) for a loss without value. */
export async function evaluateLoss(
  runner: DecoderRunner,
  examples: readonly BatchExample[],
  signal?: AbortSignal,
): Promise<LossMetrics> {
  const results: PassResult[] = [];
  for (const pass of splitIntoPasses(examples)) {
    signal?.throwIfAborted();
    results.push(await runner.evaluate(supervisedPass(pass)));
  }
  const metrics = meanOf(results);
  if (!Number.isFinite(metrics.loss)) throw diverged(`the validation loss is ${metrics.loss}`);
  return metrics;
}

function meanOf(results: readonly PassResult[]): LossMetrics {
  const supervised = results.reduce((sum, result) => sum + result.supervised, 0);
  return {
    loss: results.reduce((sum, result) => sum + result.lossSum, 0) / supervised,
    accuracy: results.reduce((sum, result) => sum + result.correct, 0) / supervised,
  };
}

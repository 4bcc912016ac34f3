// One optimizer step: forward and backward over the step's passes, clipping, AdamW. Accumulating over passes gives the
// gradient of the whole batch, because the loss weighs each row by its share in the batch.
import { TunesmithError } from "../errors.ts";
import type { DecoderRunner, DropoutStream, PassResult } from "./decoder-runner.ts";
import type { Loss, Measured } from "./loss.ts";
import type { LoraParameters } from "./lora-parameters.ts";
import { clipScale, l2Norm } from "./optimizer.ts";
import type { AdamW } from "./optimizer.ts";

/** What was measured, and the L2 norm of the gradient before clipping. */
export type StepResult<Metrics> = Metrics & { gradientNorm: number };

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
export async function trainStep<Example, Metrics extends Measured>(
  loss: Loss<Example, Metrics>,
  runner: DecoderRunner,
  parameters: LoraParameters,
  optimizer: AdamW,
  examples: readonly Example[],
  { learningRate, clipNorm, dropoutStream, signal }: StepOptions,
): Promise<StepResult<Metrics>> {
  const { gradients, metrics } = await lossAndGradients(
    loss,
    runner,
    parameters,
    examples,
    dropoutStream,
    signal,
  );
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
export async function lossAndGradients<Example, Metrics extends Measured>(
  loss: Loss<Example, Metrics>,
  runner: DecoderRunner,
  parameters: LoraParameters,
  examples: readonly Example[],
  dropoutStream: DropoutStream,
  signal?: AbortSignal,
): Promise<{ gradients: Float32Array; metrics: Metrics }> {
  const gradients = new Float32Array(parameters.data.length);
  const passes = loss.passes(examples);
  const results: PassResult[] = [];
  for (const [i, { pass, weights }] of passes.entries()) {
    results.push(await runner.train(pass, weights, gradients, [...dropoutStream, i], signal));
  }
  return { gradients, metrics: loss.measure(passes, results) };
}

/** What the loss measures of the examples as the model stands. Throws TunesmithError (training_diverged) for a loss without value. */
export async function evaluateLoss<Example, Metrics extends Measured>(
  loss: Loss<Example, Metrics>,
  runner: DecoderRunner,
  examples: readonly Example[],
  signal?: AbortSignal,
): Promise<Metrics> {
  const passes = loss.passes(examples);
  const results: PassResult[] = [];
  for (const { pass } of passes) {
    signal?.throwIfAborted();
    results.push(await runner.evaluate(pass));
  }
  const metrics = loss.measure(passes, results);
  if (!Number.isFinite(metrics.loss)) throw diverged(`the validation loss is ${metrics.loss}`);
  return metrics;
}

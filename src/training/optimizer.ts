// AdamW, learning-rate schedule and gradient clipping on flat arrays.

export interface AdamWOptions {
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
}

/** AdamW, algorithm 2 of arXiv:1711.05101, with the schedule multiplier folded into the learning rate. */
export class AdamW {
  /** First moment m and second moment v; float32, as the parameters. */
  readonly m: Float32Array;
  readonly v: Float32Array;
  /** Steps taken: t. */
  step = 0;
  readonly #options: AdamWOptions;

  constructor(size: number, options: AdamWOptions) {
    this.m = new Float32Array(size);
    this.v = new Float32Array(size);
    this.#options = options;
  }

  /** Moves `parameters` in place along `gradients`, which are multiplied by `gradientScale` first. */
  update(parameters: Float32Array, gradients: Float32Array, learningRate: number, gradientScale = 1): void {
    const { beta1, beta2, epsilon, weightDecay } = this.#options;
    const { m, v } = this;
    this.step += 1;
    // Multiplied, not divided by, 2.4 million times a step.
    const rate = learningRate / (1 - beta1 ** this.step);
    const correction2 = 1 / (1 - beta2 ** this.step);
    const [rest1, rest2] = [1 - beta1, 1 - beta2];
    const decay = 1 - learningRate * weightDecay;
    for (let i = 0; i < parameters.length; i++) {
      const g = (gradients[i] as number) * gradientScale;
      const mi = beta1 * (m[i] as number) + rest1 * g;
      const vi = beta2 * (v[i] as number) + rest2 * g * g;
      m[i] = mi;
      v[i] = vi;
      parameters[i] =
        (parameters[i] as number) * decay - (rate * mi) / (Math.sqrt(vi * correction2) + epsilon);
    }
  }
}

/** Linear warm-up from 0, then linear decay that would reach 0 one step after the last. `step` counts from 0. */
export function learningRateAt(
  step: number,
  options: { peak: number; warmupSteps: number; totalSteps: number },
): number {
  const { peak, warmupSteps, totalSteps } = options;
  if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps;
  return (peak * (totalSteps - step)) / (totalSteps - warmupSteps);
}

/** The factor that brings gradients of this norm down to `clipNorm`; 1 where they are within. */
export function clipScale(norm: number, clipNorm: number): number {
  return norm > clipNorm ? clipNorm / norm : 1;
}

/** L2 norm, summed in float64. By index: an iterator takes six times as long. */
export function l2Norm(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] as number) ** 2;
  return Math.sqrt(sum);
}

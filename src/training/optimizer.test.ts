// AdamW against the paper's formula one number at a time, the schedule's ends, and clipping on both sides of its limit.
import { describe, expect, it } from "vitest";
import { createRandom } from "../random.ts";
import { AdamW, clipScale, l2Norm, learningRateAt } from "./optimizer.ts";

const OPTIONS = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1 };

/** Algorithm 2 of arXiv:1711.05101 for one parameter, in float64. */
function scalarAdamW(theta: number, gradients: readonly number[], alphas: readonly number[]): number {
  let [m, v] = [0, 0];
  for (const [i, g] of gradients.entries()) {
    const [t, alpha] = [i + 1, alphas[i] as number];
    m = OPTIONS.beta1 * m + (1 - OPTIONS.beta1) * g;
    v = OPTIONS.beta2 * v + (1 - OPTIONS.beta2) * g * g;
    const mHat = m / (1 - OPTIONS.beta1 ** t);
    const vHat = v / (1 - OPTIONS.beta2 ** t);
    theta =
      theta - alpha * (mHat / (Math.sqrt(vHat) + OPTIONS.epsilon)) - alpha * OPTIONS.weightDecay * theta;
  }
  return theta;
}

describe("AdamW", () => {
  it("takes the formula's ten steps, with a scale on the gradients", () => {
    const random = createRandom(1);
    const size = 5;
    const start = Float32Array.from({ length: size }, () => random.next() * 4 - 2);
    const steps = Array.from({ length: 10 }, () => Float32Array.from(start, () => random.next() - 0.5));
    const rates = steps.map((_, i) => 0.1 / (i + 1));
    const optimizer = new AdamW(size, OPTIONS);
    const parameters = start.slice();
    for (const [i, gradients] of steps.entries())
      optimizer.update(parameters, gradients, rates[i] as number, 0.5);
    expect(optimizer.step).toBe(10);
    for (const [i, theta] of start.entries()) {
      const gradients = steps.map((step) => 0.5 * (step[i] as number));
      expect(parameters[i]).toBeCloseTo(scalarAdamW(theta, gradients, rates), 5);
    }
  });

  it("moves by the learning rate at its first step, whatever the gradient's size", () => {
    for (const gradient of [1e-3, 1, 1e3]) {
      const parameters = Float32Array.of(0);
      new AdamW(1, OPTIONS).update(parameters, Float32Array.of(gradient), 0.01);
      expect(parameters[0]).toBeCloseTo(-0.01, 6);
    }
  });

  it("shrinks parameters without a gradient by the decay alone", () => {
    const parameters = Float32Array.of(2);
    new AdamW(1, OPTIONS).update(parameters, Float32Array.of(0), 0.5);
    expect(parameters[0]).toBeCloseTo(2 * (1 - 0.5 * 0.1), 6);
  });

  it("reaches the minimum of a badly scaled quadratic, twice with the same bits", () => {
    const target = [3, -1, 0.5];
    const curvature = [1, 100, 0.01];
    const minimize = (): Float32Array => {
      const optimizer = new AdamW(3, { ...OPTIONS, weightDecay: 0 });
      const parameters = new Float32Array(3);
      for (let step = 0; step < 500; step++) {
        const gradients = parameters.map((x, i) => (curvature[i] as number) * (x - (target[i] as number)));
        optimizer.update(
          parameters,
          gradients,
          learningRateAt(step, { peak: 0.05, warmupSteps: 10, totalSteps: 500 }),
        );
      }
      return parameters;
    };
    const found = minimize();
    for (const [i, value] of found.entries()) expect(value).toBeCloseTo(target[i] as number, 2);
    expect(minimize()).toEqual(found);
  });
});

describe("learningRateAt", () => {
  const rates = (warmupSteps: number, totalSteps: number): number[] =>
    Array.from({ length: totalSteps }, (_, step) =>
      learningRateAt(step, { peak: 1, warmupSteps, totalSteps }),
    );

  it("warms up to the peak and falls until it would be 0 after the last step", () => {
    expect(rates(2, 6)).toEqual([0.5, 1, 1, 0.75, 0.5, 0.25]);
  });

  it("starts at the peak without warm-up", () => {
    expect(rates(0, 4)).toEqual([1, 0.75, 0.5, 0.25]);
    expect(rates(0, 1)).toEqual([1]);
  });

  it("only rises where all steps warm up", () => {
    expect(rates(4, 4)).toEqual([0.25, 0.5, 0.75, 1]);
  });

  it("scales with the peak", () => {
    expect(learningRateAt(0, { peak: 3e-4, warmupSteps: 3, totalSteps: 9 })).toBeCloseTo(1e-4, 12);
  });
});

describe("clipping", () => {
  it("leaves gradients within the limit alone and brings longer ones down to it", () => {
    expect(clipScale(0.5, 1)).toBe(1);
    expect(clipScale(1, 1)).toBe(1);
    expect(clipScale(0, 1)).toBe(1);
    expect(clipScale(4, 1)).toBe(0.25);
    expect(clipScale(4, 2)).toBe(0.5);
  });

  it("measures the norm in float64", () => {
    expect(l2Norm(Float32Array.of(3, 4))).toBe(5);
    expect(l2Norm(new Float32Array())).toBe(0);
    // In float32 the square of 1e25 is infinite.
    expect(l2Norm(Float32Array.of(1e25, 0))).toBeCloseTo(Math.fround(1e25), -12);
  });
});

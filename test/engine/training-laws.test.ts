// What must hold of training whatever the numbers are: repeatability, batching that does not show in the result, masks that
// hide, dropout that is seeded, and a step that an abort leaves undone. On a tiny random Llama (test/goldens).
import { afterEach, describe, expect, it } from "vitest";
import { splitIntoPasses, supervisedPass } from "../../src/data/batches.ts";
import type { BatchExample } from "../../src/data/batches.ts";
import { LORA_TARGET_PATH } from "../../src/model/lora-targets.ts";
import { createRandom } from "../../src/random.ts";
import type { HostTensor } from "../../src/runtime/tensor.ts";
import { DecoderRunner } from "../../src/training/decoder-runner.ts";
import { LoraParameters } from "../../src/training/lora-parameters.ts";
import type { LoraPlan } from "../../src/training/lora-parameters.ts";
import { AdamW, l2Norm } from "../../src/training/optimizer.ts";
import { SUPERVISED_LOSS } from "../../src/training/loss.ts";
import { uniformWeights } from "../../src/training/row-weights.ts";
import { evaluateLoss, lossAndGradients, trainStep } from "../../src/training/train-step.ts";
import { loadTinyModel, relativeError } from "./goldens.ts";

/** Sums of float32 products in another order differ by this much. */
const ROUNDING = 1e-5;

const ADAMW = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 };
const STEP = { learningRate: 1e-3, clipNorm: 1, dropoutStream: [5] };

const tiny = await loadTinyModel("tiny-llama");
const { config, weights } = tiny;
const started: DecoderRunner[] = [];
afterEach(async () => {
  for (const runner of started.splice(0)) await runner.release();
});

/** A runner of its own parameters: the golden adapter's, or those of a new plan and seed. */
function start(
  plan: Partial<LoraPlan> = {},
  seed: number | null = null,
  mode: { wholeStepTokens?: number } = {},
) {
  const lora = { ...tiny.lora, ...plan };
  const parameters = new LoraParameters(config, lora);
  if (seed === null) parameters.data.set(tiny.parameters.data.subarray(0, parameters.data.length));
  else parameters.initialize(seed);
  const runner = new DecoderRunner({ config, weights, parameters, lora, threads: 1, ...mode });
  started.push(runner);
  return { runner, parameters, optimizer: new AdamW(parameters.data.length, ADAMW) };
}

/** Random examples whose second half is supervised. */
function makeExamples(lengths: readonly number[], seed = 1): BatchExample[] {
  const random = createRandom(seed);
  return lengths.map((length) => ({
    tokens: Int32Array.from({ length }, () => random.below(config.vocabSize)),
    supervised: Uint8Array.from({ length }, (_, i) => (i >= length / 2 ? 1 : 0)),
  }));
}

/** weight [out, in] + alpha / rank b [out, R] a [R, in]. */
function plusProduct(
  { data, shape: [, width] }: HostTensor<"float32">,
  b: HostTensor<"float32">,
  a: HostTensor<"float32">,
  { rank, alpha }: LoraPlan,
): Float32Array {
  return data.map((value, i) => {
    const [row, column] = [Math.floor(i / (width as number)), i % (width as number)];
    let sum = 0;
    for (let r = 0; r < rank; r++)
      sum += (b.data[row * rank + r] as number) * (a.data[r * (width as number) + column] as number);
    return value + (alpha / rank) * sum;
  });
}

/** Sums of one pass per group of examples, as one optimizer step adds them up. */
async function accumulate(
  { runner, parameters }: ReturnType<typeof start>,
  groups: readonly BatchExample[][],
) {
  const gradients = new Float32Array(parameters.data.length);
  const total = { lossSum: 0, correct: 0, supervised: 0 };
  for (const group of groups) {
    const pass = supervisedPass(group);
    const result = await runner.train(pass, uniformWeights(0.01, pass.targets.length), gradients, []);
    for (const key of ["lossSum", "correct", "supervised"] as const) total[key] += result[key];
  }
  return { ...total, gradients };
}

describe("repeatability", () => {
  it("gives the same losses and parameters, bit for bit, for the same seed", async () => {
    const run = async (seed: number) => {
      const { runner, parameters, optimizer } = start({ dropout: 0.2 }, seed);
      const losses: number[] = [];
      for (let step = 0; step < 4; step++) {
        const options = { ...STEP, dropoutStream: [seed, step] };
        losses.push(
          (await trainStep(SUPERVISED_LOSS, runner, parameters, optimizer, tiny.examples, options)).loss,
        );
      }
      return { losses, data: parameters.data, m: optimizer.m, v: optimizer.v };
    };
    const first = await run(3);
    expect(await run(3)).toEqual(first);
    expect((await run(4)).losses).not.toEqual(first.losses);
  });
});

describe("passes do not show in the result", () => {
  // 1,188 inputs: above the limit where a pass computes its layers again, and more loss rows than a run of the head takes.
  const many = makeExamples([100, 90, 100, 80, 100, 100, 95, 100, 85, 100, 100, 99, 51]);

  it("for one large pass, passes of one row and anything between", async () => {
    const model = start();
    const large = await accumulate(model, [many]);
    expect(large.supervised).toBeGreaterThan(512);
    const groupings = [many.map((one) => [one]), [many.slice(0, 4), many.slice(4)], [[...many].reverse()]];
    for (const groups of groupings) {
      const small = await accumulate(model, groups);
      expect(Math.abs(small.lossSum / large.lossSum - 1)).toBeLessThan(ROUNDING);
      expect([small.correct, small.supervised]).toEqual([large.correct, large.supervised]);
      expect(relativeError(small.gradients, large.gradients)).toBeLessThan(ROUNDING);
    }
  });

  it("for rows of very different lengths: padding changes nothing", async () => {
    const model = start();
    const ragged = makeExamples([40, 2, 17, 3, 90]);
    const together = await accumulate(model, [ragged]);
    const apart = await accumulate(
      model,
      ragged.map((one) => [one]),
    );
    expect(Math.abs(apart.lossSum / together.lossSum - 1)).toBeLessThan(ROUNDING);
    expect(relativeError(apart.gradients, together.gradients)).toBeLessThan(ROUNDING);
    const passes = ragged.map((one) => model.runner.evaluate(supervisedPass([one])));
    const evaluated = (await Promise.all(passes)).reduce((sum, { lossSum }) => sum + lossSum, 0);
    expect(Math.abs(evaluated / together.lossSum - 1)).toBeLessThan(ROUNDING);
  });

  it("for the order of a batch's examples", async () => {
    const { runner, parameters } = start();
    const one = await lossAndGradients(SUPERVISED_LOSS, runner, parameters, many, []);
    const other = await lossAndGradients(SUPERVISED_LOSS, runner, parameters, [...many].reverse(), []);
    expect(Math.abs(other.metrics.loss / one.metrics.loss - 1)).toBeLessThan(ROUNDING);
    expect(relativeError(other.gradients, one.gradients)).toBeLessThan(ROUNDING);
  });

  it("for more tokens in a pass than the longest sequence has positions", async () => {
    const short = makeExamples([16, 16, 16, 16]);
    const cut = (cache: (typeof weights)["cos"]) => ({
      ...cache,
      shape: [16, cache.shape[1] as number],
      data: cache.data.slice(0, 16 * (cache.shape[1] as number)),
    });
    const fewPositions = { ...weights, cos: cut(weights.cos), sin: cut(weights.sin) };
    const { parameters, lora } = tiny;
    const runner = new DecoderRunner({ config, weights: fewPositions, parameters, lora, threads: 1 });
    started.push(runner);
    const found = await lossAndGradients(SUPERVISED_LOSS, runner, parameters, short, []);
    const expected = await lossAndGradients(SUPERVISED_LOSS, start().runner, parameters, short, []);
    expect(found).toEqual(expected);
  });
});

describe("the loss mask", () => {
  const example = makeExamples([24])[0] as BatchExample;
  const masked = (on: (i: number) => boolean): BatchExample => ({
    tokens: example.tokens,
    supervised: example.supervised.map((_, i) => (on(i) ? 1 : 0)),
  });

  it("hides what comes after the last supervised token", async () => {
    const { runner, parameters } = start();
    const before = masked((i) => i >= 8 && i < 16);
    const changed = {
      ...before,
      tokens: before.tokens.map((token, i) => (i >= 16 ? (token + 1) % 97 : token)),
    };
    const cut = { tokens: before.tokens.slice(0, 16), supervised: before.supervised.slice(0, 16) };
    const expected = await lossAndGradients(SUPERVISED_LOSS, runner, parameters, [before], []);
    expect(await lossAndGradients(SUPERVISED_LOSS, runner, parameters, [changed], [])).toEqual(expected);
    const shorter = await lossAndGradients(SUPERVISED_LOSS, runner, parameters, [cut], []);
    expect(shorter.metrics.loss).toBeCloseTo(expected.metrics.loss, 5);
    expect(relativeError(shorter.gradients, expected.gradients)).toBeLessThan(ROUNDING);
    // The last supervised token itself counts.
    const moved = { ...before, tokens: before.tokens.with(15, ((before.tokens[15] as number) + 1) % 97) };
    expect((await evaluateLoss(SUPERVISED_LOSS, runner, [moved])).loss).not.toBeCloseTo(
      expected.metrics.loss,
      3,
    );
  });

  it("adds up: two halves of a mask have the loss and gradient of the whole", async () => {
    const model = start();
    const parts = [masked((i) => i >= 4 && i % 2 === 0), masked((i) => i >= 4 && i % 2 === 1)];
    const whole = await accumulate(model, [[masked((i) => i >= 4)]]);
    const halves = await accumulate(
      model,
      parts.map((part) => [part]),
    );
    expect(halves.supervised).toBe(whole.supervised);
    expect(Math.abs(halves.lossSum / whole.lossSum - 1)).toBeLessThan(ROUNDING);
    expect(relativeError(halves.gradients, whole.gradients)).toBeLessThan(ROUNDING);
  });

  it("weighs every supervised token of a batch alike, whatever example it is in", async () => {
    const { runner } = start();
    const [long, short] = makeExamples([60, 6]) as [BatchExample, BatchExample];
    const both = await evaluateLoss(SUPERVISED_LOSS, runner, [long, short]);
    const [one, other] = [
      await evaluateLoss(SUPERVISED_LOSS, runner, [long]),
      await evaluateLoss(SUPERVISED_LOSS, runner, [short]),
    ];
    expect(both.loss).toBeCloseTo((30 * one.loss + 3 * other.loss) / 33, 5);
  });
});

describe("an adapter", () => {
  it("changes nothing before its first step: B is zero", async () => {
    const base = start({ targetModules: [] });
    const fresh = start({ rank: 8, alpha: 16 }, 1);
    const examples = makeExamples([30, 20, 40]);
    const expected = await evaluateLoss(SUPERVISED_LOSS, base.runner, examples);
    expect(await evaluateLoss(SUPERVISED_LOSS, fresh.runner, examples)).toEqual(expected);
    const { gradients, metrics } = await lossAndGradients(
      SUPERVISED_LOSS,
      fresh.runner,
      fresh.parameters,
      examples,
      [],
    );
    expect(metrics).toEqual(expected);
    // Only B can move from there.
    for (const { matrix, offset, length } of fresh.parameters.slots) {
      expect(gradients.subarray(offset, offset + length).every((value) => value === 0)).toBe(
        matrix === "lora_A",
      );
    }
  });

  it("lowers the loss along its gradient, by as much as the gradient says", async () => {
    const { runner, parameters } = start();
    const examples = makeExamples([30, 20, 40]);
    const { gradients, metrics } = await lossAndGradients(SUPERVISED_LOSS, runner, parameters, examples, []);
    const norm = l2Norm(gradients);
    const length = 1e-2;
    for (const [i, gradient] of gradients.entries()) {
      parameters.data[i] = (parameters.data[i] as number) - (length * gradient) / norm;
    }
    const { loss } = await evaluateLoss(SUPERVISED_LOSS, runner, examples);
    expect((metrics.loss - loss) / (length * norm)).toBeGreaterThan(0.9);
    expect((metrics.loss - loss) / (length * norm)).toBeLessThan(1.1);
  });

  it("is the same as weights that it is added to: W + alpha / rank B A", async () => {
    const lora = { ...tiny.lora, dropout: 0 };
    const examples = makeExamples([9, 14]);
    const { runner: beside } = start({ dropout: 0 });
    const apart = await evaluateLoss(SUPERVISED_LOSS, beside, examples);
    const layers = weights.layers.map((layer, i) => {
      const merged: Record<string, (typeof layer)[string]> = { ...layer };
      for (const target of lora.targetModules) {
        const name = `${LORA_TARGET_PATH[target]}.weight`;
        const weight = layer[name] as HostTensor<"float32">;
        const of = (matrix: string) =>
          tiny.parameters.layers[i]?.[`${target}.${matrix}`] as HostTensor<"float32">;
        merged[name] = { ...weight, data: plusProduct(weight, of("lora_B"), of("lora_A"), lora) };
      }
      return merged;
    });
    const zero = new LoraParameters(config, lora);
    const runner = new DecoderRunner({
      ...{ config, lora, threads: 1, parameters: zero },
      weights: { ...weights, layers },
    });
    started.push(runner);
    const { loss } = await evaluateLoss(SUPERVISED_LOSS, runner, examples);
    expect(Math.abs(loss - apart.loss)).toBeLessThan(ROUNDING * apart.loss);
    // And the adapter is one that matters.
    const { runner: bare } = start({ dropout: 0 }, 1);
    expect(Math.abs((await evaluateLoss(SUPERVISED_LOSS, bare, examples)).loss - loss)).toBeGreaterThan(0.01);
  });

  it("learns a batch by heart", async () => {
    const { runner, parameters, optimizer } = start({}, 1);
    const options = { ...STEP, learningRate: 0.02 };
    for (let step = 0; step < 60; step++)
      await trainStep(SUPERVISED_LOSS, runner, parameters, optimizer, tiny.examples, options);
    const { loss, accuracy } = await evaluateLoss(SUPERVISED_LOSS, runner, tiny.examples);
    expect(loss).toBeLessThan(0.1);
    expect(accuracy).toBe(1);
  });
});

describe("clipping", () => {
  it("scales only gradients above its limit", async () => {
    const step = async (clipNorm: number) => {
      const { runner, parameters, optimizer } = start();
      const { gradientNorm } = await trainStep(
        SUPERVISED_LOSS,
        runner,
        parameters,
        optimizer,
        tiny.examples,
        {
          ...STEP,
          clipNorm,
        },
      );
      return { gradientNorm, m: l2Norm(optimizer.m) };
    };
    const free = await step(Infinity);
    expect(free.m).toBeCloseTo(0.1 * free.gradientNorm, 4);
    expect(await step(free.gradientNorm * 1.01)).toEqual(free);
    const clipped = await step(free.gradientNorm / 4);
    expect(clipped.gradientNorm).toBe(free.gradientNorm);
    expect(clipped.m / free.m).toBeCloseTo(1 / 4, 5);
  });
});

describe("dropout", () => {
  it("is seeded, changes the training loss and never the evaluation", async () => {
    const { runner, parameters } = start({ dropout: 0.5 });
    const without = start();
    const train = async (stream: number[]) =>
      (await lossAndGradients(SUPERVISED_LOSS, runner, parameters, tiny.examples, stream)).metrics.loss;
    const expected = await evaluateLoss(SUPERVISED_LOSS, without.runner, tiny.examples);
    expect(await evaluateLoss(SUPERVISED_LOSS, runner, tiny.examples)).toEqual(expected);
    expect(await train([1, 2])).toBe(await train([1, 2]));
    const losses = [await train([1, 2]), await train([1, 3]), await train([2, 2]), expected.loss];
    expect(new Set(losses).size).toBe(losses.length);
  });

  it("keeps the adapter's share the same on average", async () => {
    const { runner, parameters } = start({ dropout: 0.5 });
    const examples = makeExamples([30, 40]);
    // Small B: the loss is then nearly linear in the adapter's share.
    for (const { matrix, offset, length } of parameters.slots) {
      const view = parameters.data.subarray(offset, offset + length);
      if (matrix === "lora_B") for (let i = 0; i < length; i++) view[i] = (view[i] as number) * 0.05;
    }
    const base = (await evaluateLoss(SUPERVISED_LOSS, start({ targetModules: [] }).runner, examples)).loss;
    const whole = (await evaluateLoss(SUPERVISED_LOSS, runner, examples)).loss - base;
    let mean = 0;
    const runs = 60;
    for (let i = 0; i < runs; i++) {
      mean +=
        ((await lossAndGradients(SUPERVISED_LOSS, runner, parameters, examples, [i])).metrics.loss - base) /
        runs;
    }
    expect(mean / whole).toBeGreaterThan(0.85);
    expect(mean / whole).toBeLessThan(1.15);
  });
});

describe("an abort", () => {
  it.each([
    // One look a pass, or one a layer each way.
    { wholeStepTokens: 400, looks: 2 },
    { wholeStepTokens: 0, looks: 8 },
  ])("leaves parameters, moments and step count untouched wherever it comes (%o)", async (mode) => {
    const { runner, parameters, optimizer } = start({}, null, mode);
    const examples = makeExamples(Array<number>(9).fill(60));
    expect(splitIntoPasses(examples)).toHaveLength(2);
    await trainStep(SUPERVISED_LOSS, runner, parameters, optimizer, examples, STEP);
    const before = { data: parameters.data.slice(), m: optimizer.m.slice(), v: optimizer.v.slice(), step: 1 };
    let stops = 0;
    for (let finished = false; !finished; stops++) {
      const signal = abortAtLook(stops);
      const result = await trainStep(SUPERVISED_LOSS, runner, parameters, optimizer, examples, {
        ...STEP,
        signal,
      }).catch((error: unknown) => error);
      finished = !signal.aborted;
      if (finished) break;
      expect(result).toBe(signal.reason);
      const { m, v, step } = optimizer;
      expect({ data: parameters.data, m, v, step }).toEqual(before);
    }
    expect(stops).toBe(mode.looks);
    expect(optimizer.step).toBe(2);
  });

  it("ends an evaluation", async () => {
    const { runner } = start();
    const signal = abortAtLook(0);
    await expect(evaluateLoss(SUPERVISED_LOSS, runner, tiny.examples, signal)).rejects.toBe(signal.reason);
  });
});

/** A signal that aborts when it is looked at for the (n + 1)th time. */
function abortAtLook(n: number): AbortSignal {
  const controller = new AbortController();
  const { signal } = controller;
  let looks = 0;
  signal.throwIfAborted = () => {
    if (looks++ === n) controller.abort(new Error(`stopped at look ${n}`));
    if (signal.aborted) throw signal.reason as Error;
  };
  return signal;
}

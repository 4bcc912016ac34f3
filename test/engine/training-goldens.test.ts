// Loss, every LoRA gradient and ten AdamW steps of four tiny models against PyTorch and PEFT (test/goldens).
import { describe, expect, it } from "vitest";
import { DecoderRunner } from "../../src/training/decoder-runner.ts";
import { AdamW, learningRateAt } from "../../src/training/optimizer.ts";
import { SUPERVISED_LOSS } from "../../src/training/loss.ts";
import { evaluateLoss, lossAndGradients, trainStep } from "../../src/training/train-step.ts";
import { loadTinyModel, relativeError, TINY_MODELS } from "./goldens.ts";

// The goldens are float64 and the engine is float32; measured errors are 1e-6 and below.
const LOSS_TOLERANCE = 1e-5;
const GRADIENT_TOLERANCE = 1e-4;

// One graph for a whole pass, and layer by layer.
const RUNNERS = [{ wholeStepTokens: 512 }, { wholeStepTokens: 0 }];

describe.each(TINY_MODELS)("%s against PyTorch", (name) => {
  it.each(RUNNERS)("has the golden loss and every golden gradient (%o)", async (mode) => {
    const { golden, expected, examples, parameters, ...model } = await loadTinyModel(name);
    const runner = new DecoderRunner({ ...model, ...mode, parameters, threads: 1 });
    const { gradients, metrics } = await lossAndGradients(SUPERVISED_LOSS, runner, parameters, examples, []);
    expect(Math.abs(metrics.loss / golden.loss.adapter - 1)).toBeLessThan(LOSS_TOLERANCE);
    expect(parameters.slots).toHaveLength(2 * 7 * model.config.layerCount);
    for (const { peftName, offset, length } of parameters.slots) {
      const gradient = gradients.subarray(offset, offset + length);
      const error = relativeError(gradient, expected.get(`gradient.${peftName}`)?.values ?? []);
      expect(error, peftName).toBeLessThan(GRADIENT_TOLERANCE);
    }
    expect((await evaluateLoss(SUPERVISED_LOSS, runner, examples)).loss).toBeCloseTo(metrics.loss, 6);
    parameters.data.fill(0);
    expect(
      Math.abs((await evaluateLoss(SUPERVISED_LOSS, runner, examples)).loss / golden.loss.base - 1),
    ).toBeLessThan(LOSS_TOLERANCE);
    await runner.release();
  });

  it.each(RUNNERS)("takes the golden ten steps (%o)", async (mode) => {
    const { golden, expected, examples, parameters, ...model } = await loadTinyModel(name);
    const runner = new DecoderRunner({ ...model, ...mode, parameters, threads: 1 });
    const {
      weight_decay: weightDecay,
      max_grad_norm: clipNorm,
      learning_rates: rates,
      losses,
    } = golden.training;
    const optimizer = new AdamW(parameters.data.length, {
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay,
    });
    for (const [step, rate] of rates.entries()) {
      const learningRate = learningRateAt(step, { peak: 1e-3, warmupSteps: 2, totalSteps: rates.length });
      expect(learningRate).toBeCloseTo(rate, 12);
      const options = { learningRate, clipNorm, dropoutStream: [] };
      const result = await trainStep(SUPERVISED_LOSS, runner, parameters, optimizer, examples, options);
      expect(Math.abs(result.loss / (losses[step] as number) - 1)).toBeLessThan(LOSS_TOLERANCE);
      const norm = golden.training.gradient_norms_before_clipping[step] as number;
      expect(Math.abs(result.gradientNorm / norm - 1)).toBeLessThan(GRADIENT_TOLERANCE);
    }
    const { loss } = await evaluateLoss(SUPERVISED_LOSS, runner, examples);
    expect(Math.abs(loss / (losses[10] as number) - 1)).toBeLessThan(LOSS_TOLERANCE);
    for (const { peftName, offset, length } of parameters.slots) {
      const final = parameters.data.subarray(offset, offset + length);
      expect(relativeError(final, expected.get(`final.${peftName}`)?.values ?? []), peftName).toBeLessThan(
        1e-4,
      );
    }
    await runner.release();
  });
});

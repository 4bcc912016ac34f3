// The oracle against PyTorch + transformers + PEFT (test/goldens, made by scripts/make-goldens.py) and against itself by
// finite differences.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { at, logits, loss } from "./decoder.ts";
import type { Decoder, Lora, Sequence } from "./decoder.ts";
import { loraGradients } from "./decoder-backward.ts";
import { readDecoder } from "./read-decoder.ts";
import { readSafetensors } from "./read-safetensors.ts";

const GOLDENS = join(import.meta.dirname, "..", "goldens");
const MODELS = ["tiny-llama", "tiny-llama3", "tiny-qwen2", "tiny-qwen3", "tiny-gemma3"] as const;

interface Golden {
  batch: Sequence[];
  loss: { base: number; adapter: number };
  greedy?: { model: "base" | "adapter"; prompt: number[]; tokens: number[] }[];
  training: {
    betas: [number, number];
    eps: number;
    weight_decay: number;
    learning_rates: number[];
    max_grad_norm: number;
    losses: number[];
    gradient_norms_before_clipping: number[];
  };
}

function open(name: string) {
  const folder = join(GOLDENS, name);
  const tensors = readSafetensors(join(GOLDENS, `${name}.safetensors`));
  return {
    golden: JSON.parse(readFileSync(join(GOLDENS, `${name}.json`), "utf8")) as Golden,
    base: readDecoder(folder),
    adapted: readDecoder(folder, join(folder, "adapter")),
    tensor: (key: string): Float64Array => {
      const found = tensors.get(key);
      if (found === undefined) throw new Error(`no golden tensor ${key}`);
      return found.values;
    },
    tensorNames: [...tensors.keys()],
  };
}

/** The largest difference divided by the largest expected magnitude. */
function relativeError(found: Float64Array, expected: Float64Array): number {
  expect(found.length).toBe(expected.length);
  let [difference, magnitude] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const distance = Math.abs(at(found, i) - at(expected, i));
    if (Number.isNaN(distance)) return NaN;
    difference = Math.max(difference, distance);
    magnitude = Math.max(magnitude, Math.abs(at(expected, i)));
  }
  return difference / magnitude;
}

/** Every LoRA matrix of the model by its name in PEFT's file; the arrays are the model's own and may be written to. */
function loraMatrices(model: Decoder): Map<string, Float64Array> {
  const matrices = new Map<string, Float64Array>();
  model.layers.forEach((layer, n) => {
    for (const [site, { lora }] of Object.entries(layer.linears) as [string, { lora?: Lora }][]) {
      if (lora === undefined) continue;
      matrices.set(`base_model.model.model.layers.${n}.${site}.lora_A.weight`, lora.a);
      matrices.set(`base_model.model.model.layers.${n}.${site}.lora_B.weight`, lora.b);
    }
  });
  return matrices;
}

function gradientsByName(model: Decoder, batch: readonly Sequence[]): Map<string, Float64Array> {
  const byName = new Map<string, Float64Array>();
  for (const [site, { a, b }] of loraGradients(model, batch)) {
    byName.set(`base_model.model.model.${site}.lora_A.weight`, a);
    byName.set(`base_model.model.model.${site}.lora_B.weight`, b);
  }
  return byName;
}

describe.each(MODELS)("%s equals PyTorch", (name) => {
  const { golden, base, adapted, tensor, tensorNames } = open(name);

  test("logits of every sequence, without and with the adapter", () => {
    golden.batch.forEach(({ tokens }, i) => {
      expect(relativeError(logits(base, tokens), tensor(`logits.base.${i}`))).toBeLessThan(1e-12);
      expect(relativeError(logits(adapted, tokens), tensor(`logits.adapter.${i}`))).toBeLessThan(1e-12);
    });
  });

  test("loss", () => {
    expect(Math.abs(loss(base, golden.batch) / golden.loss.base - 1)).toBeLessThan(1e-12);
    expect(Math.abs(loss(adapted, golden.batch) / golden.loss.adapter - 1)).toBeLessThan(1e-12);
  });

  test("every LoRA gradient", () => {
    const gradients = gradientsByName(adapted, golden.batch);
    const expected = tensorNames.filter((key) => key.startsWith("gradient."));
    expect([...gradients.keys()].map((key) => `gradient.${key}`).sort()).toEqual(expected.sort());
    for (const [key, gradient] of gradients) {
      expect(relativeError(gradient, tensor(`gradient.${key}`)), key).toBeLessThan(1e-11);
    }
  });

  test("ten AdamW steps with clipping: losses, gradient norms and the final adapter", () => {
    const { adapted: model } = open(name);
    const matrices = loraMatrices(model);
    const { betas, eps, weight_decay, learning_rates, max_grad_norm, ...expected } = golden.training;
    const firstMoments = new Map(
      [...matrices].map(([key, values]) => [key, new Float64Array(values.length)]),
    );
    const secondMoments = new Map(
      [...matrices].map(([key, values]) => [key, new Float64Array(values.length)]),
    );
    learning_rates.forEach((rate, step) => {
      expect(Math.abs(loss(model, golden.batch) / (expected.losses[step] ?? NaN) - 1)).toBeLessThan(1e-10);
      const gradients = gradientsByName(model, golden.batch);
      let squares = 0;
      for (const gradient of gradients.values()) squares += gradient.reduce((total, g) => total + g * g, 0);
      const norm = Math.sqrt(squares);
      expect(Math.abs(norm / (expected.gradient_norms_before_clipping[step] ?? NaN) - 1)).toBeLessThan(1e-10);
      const clip = Math.min(1, max_grad_norm / (norm + 1e-6)); // torch.nn.utils.clip_grad_norm_
      for (const [key, theta] of matrices) {
        const [gradient, m, v] = [gradients.get(key), firstMoments.get(key), secondMoments.get(key)];
        if (gradient === undefined || m === undefined || v === undefined)
          throw new Error(`nothing kept for ${key}`);
        // AdamW, algorithm 2 of arXiv:1711.05101, with decay scaled by the rate as PyTorch does.
        for (let i = 0; i < theta.length; i++) {
          const g = clip * at(gradient, i);
          m[i] = betas[0] * at(m, i) + (1 - betas[0]) * g;
          v[i] = betas[1] * at(v, i) + (1 - betas[1]) * g * g;
          const mHat = at(m, i) / (1 - betas[0] ** (step + 1));
          const vHat = at(v, i) / (1 - betas[1] ** (step + 1));
          theta[i] = at(theta, i) * (1 - rate * weight_decay) - (rate * mHat) / (Math.sqrt(vHat) + eps);
        }
      }
    });
    expect(Math.abs(loss(model, golden.batch) / (expected.losses.at(-1) ?? NaN) - 1)).toBeLessThan(1e-10);
    for (const [key, theta] of matrices) {
      expect(relativeError(theta, tensor(`final.${key}`)), key).toBeLessThan(1e-9);
    }
  });

  test("gradients agree with central differences", () => {
    const { adapted: model } = open(name);
    const gradients = gradientsByName(model, golden.batch);
    const step = 1e-5;
    let seed = 12345;
    for (const [key, theta] of loraMatrices(model)) {
      seed = (seed * 1103515245 + 12345) % 2 ** 31; // a small generator: the coordinates are the same in every run
      const i = seed % theta.length;
      const before = at(theta, i);
      theta[i] = before + step;
      const above = loss(model, golden.batch);
      theta[i] = before - step;
      const below = loss(model, golden.batch);
      theta[i] = before;
      const gradient = gradients.get(key) ?? new Float64Array(0);
      expect(Math.abs((above - below) / (2 * step) - at(gradient, i)), `${key}[${i}]`).toBeLessThan(1e-8);
    }
  });
});

test.each(["tiny-llama", "tiny-gemma3"])("greedy continuation of %s equals PyTorch's", (name) => {
  const { golden, base, adapted } = open(name);
  expect(golden.greedy).toHaveLength(2);
  for (const { model, prompt, tokens } of golden.greedy ?? []) {
    const decoder = model === "base" ? base : adapted;
    const sequence = [...prompt];
    for (let i = 0; i < tokens.length; i++) {
      const row = logits(decoder, sequence).subarray(-decoder.vocabulary);
      sequence.push(row.indexOf(Math.max(...row)));
    }
    expect(sequence.slice(prompt.length)).toEqual(tokens);
  }
});

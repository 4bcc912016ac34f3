// The golden files of test/goldens as the engine's tests use them. Made by scripts/make-goldens.py.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { BatchExample } from "../../src/data/batches.ts";
import { readAdapter } from "../../src/model/adapter.ts";
import { openBaseModel } from "../../src/model/base-model.ts";
import { loadDecoderWeights } from "../../src/model/decoder-weights.ts";
import type { DecoderWeights } from "../../src/model/decoder-weights.ts";
import { LORA_TARGETS } from "../../src/model/lora-targets.ts";
import type { ModelConfig } from "../../src/model/model-config.ts";
import { LoraParameters } from "../../src/training/lora-parameters.ts";
import type { LoraPlan } from "../../src/training/lora-parameters.ts";
import { readSafetensors } from "../reference/read-safetensors.ts";
import type { StoredTensor } from "../reference/read-safetensors.ts";

export const GOLDEN_FOLDER = join(import.meta.dirname, "../goldens");
export const TINY_MODELS = ["tiny-llama", "tiny-llama3", "tiny-qwen2", "tiny-qwen3", "tiny-gemma3"] as const;

export interface Golden {
  batch: { tokens: number[]; mask: number[] }[];
  loss: { base: number; adapter: number };
  greedy?: { model: "base" | "adapter"; prompt: number[]; tokens: number[] }[];
  training: {
    lora: { r: number; lora_alpha: number };
    weight_decay: number;
    max_grad_norm: number;
    learning_rates: number[];
    losses: number[];
    gradient_norms_before_clipping: number[];
  };
}

export interface TinyModel {
  golden: Golden;
  /** float64: logits.*, gradient.*, final.*. */
  expected: Map<string, StoredTensor>;
  config: ModelConfig;
  weights: DecoderWeights;
  lora: LoraPlan;
  /** The golden's random adapter. */
  parameters: LoraParameters;
  examples: BatchExample[];
}

/** More than the goldens' rows and those of the tests have. */
const POSITIONS = 600;

export async function loadTinyModel(name: (typeof TINY_MODELS)[number]): Promise<TinyModel> {
  const golden = JSON.parse(readFileSync(join(GOLDEN_FOLDER, `${name}.json`), "utf8")) as Golden;
  const model = await openBaseModel(join(GOLDEN_FOLDER, name));
  const adapter = await readAdapter(join(GOLDEN_FOLDER, name, "adapter"), model.config);
  const { r: rank, lora_alpha: alpha } = golden.training.lora;
  const lora: LoraPlan = { rank, alpha, dropout: 0, targetModules: LORA_TARGETS };
  const parameters = new LoraParameters(model.config, lora);
  for (const { peftName, offset } of parameters.slots) {
    parameters.data.set(adapter.tensors.get(peftName)?.data as Float32Array, offset);
  }
  const weights = loadDecoderWeights(model, POSITIONS);
  await model.close();
  return {
    golden,
    expected: readSafetensors(join(GOLDEN_FOLDER, `${name}.safetensors`)),
    config: model.config,
    weights,
    lora,
    parameters,
    examples: golden.batch.map(({ tokens, mask }) => ({
      tokens: Int32Array.from(tokens),
      supervised: Uint8Array.from(mask),
    })),
  };
}

/** Largest difference over the largest expected magnitude. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let difference = 0;
  let magnitude = 0;
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs((actual[i] as number) - (expected[i] as number)));
    magnitude = Math.max(magnitude, Math.abs(expected[i] as number));
  }
  return difference / magnitude;
}

// A base model with an adapter taken into its weights: W + (alpha / R) · B · A, worked out in double precision and rounded once to
// f32, one tensor at a time. Storing it with fewer bits comes after that: a merge into quantized weights would lose the adapter.
import { UnsupportedModel } from "../errors.ts";
import { loraTensorName, type LoraAdapter } from "../model/adapter.ts";
import type { TensorReader } from "../model/decoder-weights.ts";
import { LORA_TARGET_PATH } from "../model/lora-targets.ts";
import { firstNonFinite } from "./finite.ts";
import { LARGEST_HALF } from "./quantize.ts";

/** Reads as the base model does. Throws UnsupportedModel for a tensor that holds NaN or infinity. */
export function mergedWeights(base: TensorReader, adapter: LoraAdapter): TensorReader {
  const targets = new Map(adapter.targetModules.map((target) => [LORA_TARGET_PATH[target], target]));
  return {
    config: base.config,
    tensor(name) {
      const values = base.tensor(name);
      const [, layer = "", path = ""] = /^model\.layers\.(\d+)\.(.+)\.weight$/.exec(name) ?? [];
      const target = targets.get(path);
      if (target !== undefined) {
        const matrix = (which: "A" | "B") =>
          adapter.tensors.get(loraTensorName(Number(layer), target, which));
        const [a, b] = [matrix("A"), matrix("B")];
        if (a === undefined || b === undefined)
          throw new Error(`internal: the adapter has no pair for ${name}`);
        addProduct(values, a.data, b.data, adapter);
      }
      requireFinite(values, name);
      return values;
    },
  };
}

/** W [out, in] becomes W + alpha / R · B [out, R] · A [R, in]. */
function addProduct(
  weight: Float32Array,
  a: Float32Array,
  b: Float32Array,
  { rank, alpha }: Pick<LoraAdapter, "rank" | "alpha">,
): void {
  const columns = a.length / rank;
  const row = new Float64Array(columns);
  for (let out = 0; out < b.length / rank; out++) {
    row.set(weight.subarray(out * columns, (out + 1) * columns));
    for (let r = 0; r < rank; r++) {
      const factor = ((b[out * rank + r] as number) * alpha) / rank;
      const start = r * columns;
      for (let i = 0; i < columns; i++) row[i] = (row[i] as number) + factor * (a[start + i] as number);
    }
    weight.set(row, out * columns);
  }
}

function requireFinite(values: Float32Array, name: string): void {
  const place = firstNonFinite(values);
  if (place >= 0)
    throw new UnsupportedModel(
      `The weights cannot be exported: value ${place} of "${name}" is ${values[place]}, expected a number. The adapter or the base model is damaged; train again or get the base model again.`,
      { code: "unsupported_model", param: name },
    );
}

/** Throws UnsupportedModel where a value would become infinite as an f16. */
export function requireHalfRange(values: Float32Array, name: string): void {
  for (let i = 0; i < values.length; i++) {
    if (Math.abs(values[i] as number) <= LARGEST_HALF) continue;
    throw new UnsupportedModel(
      `The weights cannot be stored as f16: value ${i} of "${name}" is ${values[i]}, expected at most ${LARGEST_HALF}. Take the precision bf16 or f32 of the format merged.`,
      { code: "unsupported_model", param: "precision" },
    );
  }
}

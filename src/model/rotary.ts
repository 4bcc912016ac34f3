// Cosines and sines of the rotary embedding, arXiv:2104.09864, with Llama 3's and linear scaling of the frequencies.
// Scaling as huggingface/transformers modeling_rope_utils.py.
import { float32 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";
import type { ModelConfig } from "./model-config.ts";

/** What the frequencies follow from. */
export type RotaryConfig = Pick<ModelConfig, "headWidth" | "ropeTheta" | "ropeScaling">;

/** Angle per position of each of the E/2 pairs. */
export function rotaryFrequencies(config: RotaryConfig): Float64Array {
  const { headWidth: E, ropeTheta, ropeScaling } = config;
  return Float64Array.from({ length: E / 2 }, (_, i) => {
    const frequency = ropeTheta ** (-(2 * i) / E);
    if (ropeScaling === null) return frequency;
    if (ropeScaling.kind === "linear") return frequency / ropeScaling.factor;
    const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalMaxPositions } = ropeScaling;
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < originalMaxPositions / high) return frequency;
    if (wavelength > originalMaxPositions / low) return frequency / factor;
    const smooth = (originalMaxPositions / wavelength - low) / (high - low);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
}

/** Both [P, E/2], for positions 0 to P - 1. */
export function rotaryCaches(
  config: RotaryConfig,
  positions: number,
): { cos: HostTensor<"float32">; sin: HostTensor<"float32"> } {
  const frequencies = rotaryFrequencies(config);
  const half = frequencies.length;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let position = 0; position < positions; position++) {
    for (const [i, frequency] of frequencies.entries()) {
      cos[position * half + i] = Math.cos(position * frequency);
      sin[position * half + i] = Math.sin(position * frequency);
    }
  }
  return { cos: float32(cos, [positions, half]), sin: float32(sin, [positions, half]) };
}

// The trainable parameters: every LoRA pair of a model in one flat array, with a view per tensor. One array makes the
// optimizer, clipping and checkpoints plain loops. Names are PEFT's.
import type { ModelConfig } from "../model/model-config.ts";
import { loraTensorName } from "../model/adapter.ts";
import type { LoraTarget } from "../model/lora-targets.ts";
import { loraShapes } from "../model/tensor-shapes.ts";
import { createRandom } from "../random.ts";
import { float32 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";
import { STREAM } from "./random-streams.ts";

export interface LoraPlan {
  rank: number;
  alpha: number;
  /** Share of the adapters' inputs that is set to zero while training. */
  dropout: number;
  targetModules: readonly LoraTarget[];
}

/** Where one LoRA matrix lies in the flat array. */
export interface LoraSlot {
  layer: number;
  target: LoraTarget;
  matrix: "lora_A" | "lora_B";
  /** As in PEFT's adapter_model.safetensors. */
  peftName: string;
  shape: readonly [number, number];
  offset: number;
  length: number;
}

export class LoraParameters {
  readonly slots: readonly LoraSlot[];
  /** All parameters, slot after slot. */
  readonly data: Float32Array;
  /** Per layer: views of `data` under the names of the layer graph's inputs ("q_proj.lora_A"). */
  readonly layers: readonly Readonly<Record<string, HostTensor<"float32">>>[];

  constructor(config: ModelConfig, plan: LoraPlan) {
    const slots: LoraSlot[] = [];
    let offset = 0;
    for (let layer = 0; layer < config.layerCount; layer++) {
      for (const target of plan.targetModules) {
        const shapes = loraShapes(config, target, plan.rank);
        for (const [matrix, shape] of [
          ["lora_A", shapes.a],
          ["lora_B", shapes.b],
        ] as const) {
          const peftName = loraTensorName(layer, target, matrix === "lora_A" ? "A" : "B");
          slots.push({ layer, target, matrix, peftName, shape, offset, length: shape[0] * shape[1] });
          offset += shape[0] * shape[1];
        }
      }
    }
    this.slots = slots;
    const data = new Float32Array(offset);
    this.data = data;
    const layers = Array.from(
      { length: config.layerCount },
      (): Record<string, HostTensor<"float32">> => ({}),
    );
    for (const slot of slots) {
      const view = data.subarray(slot.offset, slot.offset + slot.length);
      (layers[slot.layer] as Record<string, HostTensor<"float32">>)[`${slot.target}.${slot.matrix}`] =
        float32(view, slot.shape);
    }
    this.layers = layers;
  }

  /**
   * A uniform in ±1/sqrt(in), B zero, so that an untrained adapter changes nothing: PEFT's default, LoraLayer.reset_lora_parameters
   * (huggingface/peft src/peft/tuners/lora/layer.py, kaiming_uniform_ with a = sqrt(5)).
   */
  initialize(seed: number): void {
    for (const [i, { matrix, shape, offset, length }] of this.slots.entries()) {
      const view = this.data.subarray(offset, offset + length);
      if (matrix === "lora_B") view.fill(0);
      else {
        const random = createRandom(seed, STREAM.initialAdapter, i);
        const bound = 1 / Math.sqrt(shape[1]);
        for (let j = 0; j < length; j++) view[j] = (random.next() * 2 - 1) * bound;
      }
    }
  }
}

// The two graphs that training on long passes runs once per decoder layer: forward, and backward from the layer's input alone.
// What is kept between them is one [N, D] array a layer, so that memory hardly grows with the length of a row; the price is
// computing each layer forward twice. Short passes use step-graph.ts.
import { Graph } from "../graph/graph.ts";
import { backward } from "../graph/backward.ts";
import { subgraph } from "../graph/subgraph.ts";
import type { Value } from "../graph/value.ts";
import { declareLayout, WHOLE_ROWS } from "../model/attention.ts";
import { declareLayerWeights, decoderLayer } from "../model/decoder.ts";
import type { LoraSite, LoraSites } from "../model/lora.ts";
import type { LoraTarget } from "../model/lora-targets.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { loraShapes } from "../model/tensor-shapes.ts";
import type { LoraPlan } from "./lora-parameters.ts";

export interface LayerGraphs {
  /** x and weights to `output`. */
  forward: Graph;
  /** The same feeds and `d_output` to `d_x` and `d_<site>.lora_A`, `d_<site>.lora_B`; computes the layer again from x. */
  backward: Graph;
}

/** Declares one layer's LoRA pairs; `prefix` keeps the layers of a whole-model graph apart. */
export function declareLora(g: Graph, config: ModelConfig, lora: LoraPlan, prefix = ""): LoraSites {
  const sites = new Map<LoraTarget, LoraSite>();
  for (const target of lora.targetModules) {
    const shapes = loraShapes(config, target, lora.rank);
    const dropout =
      lora.dropout > 0 ? g.input(`${prefix}${target}.dropout`, "float32", ["N", shapes.a[1]]) : null;
    const a = g.input(`${prefix}${target}.lora_A`, "float32", shapes.a);
    const b = g.input(`${prefix}${target}.lora_B`, "float32", shapes.b);
    sites.set(target, { a, b, dropout });
  }
  return { scale: lora.alpha / lora.rank, sites };
}

/** The trainable inputs of a layer. */
export function loraMatrices({ sites }: LoraSites): Value[] {
  return [...sites.values()].flatMap(({ a, b }) => [a, b]);
}

/** Builds and differentiates one layer. Gradients are those of a loss whose gradient by the layer's output is `d_output`. */
export function buildLayerGraphs(config: ModelConfig, lora: LoraPlan, form = WHOLE_ROWS): LayerGraphs {
  const g = new Graph();
  const x = g.input("x", "float32", ["N", config.hiddenSize]);
  const weights = declareLayerWeights(g, config);
  const layout = declareLayout(g, config, { past: false, form });
  const sites = declareLora(g, config, lora);
  const { output } = decoderLayer(g, config, x, weights, layout, sites);
  const gradient = g.input("d_output", "float32", ["N", config.hiddenSize]);
  const targets = [x, ...loraMatrices(sites)];
  const gradients = backward(g, [{ value: output, gradient }], targets);
  const gradientOutputs = Object.fromEntries(
    targets.map((target, i) => [`d_${target.name}`, gradients[i] as Value]),
  );
  return { forward: subgraph(g, { output }), backward: subgraph(g, gradientOutputs) };
}

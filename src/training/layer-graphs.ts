// The two graphs that training runs once per decoder layer: forward, and backward from what forward saved. Running layer by
// layer keeps one copy of the weights (fed, not built in), bounds memory to what is saved, and compiles in milliseconds.
import { Graph } from "../graph/graph.ts";
import { backward } from "../graph/backward.ts";
import { subgraph } from "../graph/subgraph.ts";
import type { Value } from "../graph/value.ts";
import { declareLayerWeights, declareLayout, decoderLayer } from "../model/decoder.ts";
import type { LoraSite } from "../model/lora.ts";
import type { LoraTarget } from "../model/lora-targets.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { loraShapes } from "../model/tensor-shapes.ts";
import type { LoraPlan } from "./lora-parameters.ts";

export interface LayerGraphs {
  /** x and weights to `output` and everything in `saved`. */
  forward: Graph;
  /** The same feeds, what was saved and `d_output` to `d_x` and `d_<site>.lora_A`, `d_<site>.lora_B`. */
  backward: Graph;
  /** For rows too long to keep `saved`: computes the layer again from x alone. */
  recomputingBackward: Graph;
  /** Forward without anything saved, for evaluation. */
  evaluate: Graph;
}

/** Builds and differentiates one layer. Gradients are those of a loss whose gradient by the layer's output is `d_output`. */
export function buildLayerGraphs(config: ModelConfig, lora: LoraPlan): LayerGraphs {
  const g = new Graph();
  const x = g.input("x", "float32", ["N", config.hiddenSize]);
  const weights = declareLayerWeights(g, config);
  const layout = declareLayout(g, config, { past: false });
  const sites = new Map<LoraTarget, LoraSite>();
  const targets: [string, Value][] = [["x", x]];
  for (const target of lora.targetModules) {
    const { a: shapeA, b: shapeB } = loraShapes(config, target, lora.rank);
    const a = g.input(`${target}.lora_A`, "float32", shapeA);
    const b = g.input(`${target}.lora_B`, "float32", shapeB);
    const dropout = lora.dropout > 0 ? g.input(`${target}.dropout`, "float32", ["N", shapeA[1]]) : null;
    sites.set(target, { a, b, dropout });
    targets.push([a.name, a], [b.name, b]);
  }
  const { output, trace } = decoderLayer(g, config, x, weights, layout, {
    scale: lora.alpha / lora.rank,
    sites,
  });
  const gradient = g.input("d_output", "float32", ["N", config.hiddenSize]);
  const gradients = backward(
    g,
    [{ value: output, gradient }],
    targets.map(([, value]) => value),
  );
  const gradientOutputs = Object.fromEntries(
    targets.map(([name], i) => [`d_${name}`, gradients[i] as Value]),
  );
  return {
    forward: subgraph(g, { output, ...trace.saved }),
    backward: subgraph(g, gradientOutputs, trace.saved),
    recomputingBackward: subgraph(g, gradientOutputs),
    evaluate: subgraph(g, { output }),
  };
}

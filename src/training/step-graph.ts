// Forward, loss and backward of the whole decoder in one graph: the fastest way to train on short passes, because nothing
// leaves ONNX Runtime in between. It keeps every activation, about 1.6 MB a token of a 135M model, so long passes run layer
// by layer instead (layer-graphs.ts). Weights are fed, as there: one copy serves both.
import { backward } from "../graph/backward.ts";
import { product } from "../graph/dimensions.ts";
import { Graph } from "../graph/graph.ts";
import { dependentsLast } from "../graph/order.ts";
import { subgraph } from "../graph/subgraph.ts";
import type { Value } from "../graph/value.ts";
import { declareLayouts, layoutOf } from "../model/attention.ts";
import type { AttentionForm } from "../model/attention.ts";
import { declareLayerWeights, decoderLayer, layerFeed } from "../model/decoder.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { lossHead } from "./head-graphs.ts";
import { declareLora, loraMatrices } from "./layer-graphs.ts";
import type { LoraPlan } from "./lora-parameters.ts";
import { UNIFORM } from "./row-weights.ts";
import type { WeightForm } from "./row-weights.ts";

export interface StepGraphOptions {
  form: AttentionForm;
  weights?: WeightForm;
  /** Equal parts of the loss rows, of which one's logits are in memory at a time. */
  headParts?: number;
}

/**
 * Inputs: x [N, D], the layout, all weights and LoRA pairs under `layerFeed` names, those of `lossHead`, loss_rows int32 [M]
 * (flat places with loss), row_places int32 [N] (which loss row a flat place is; any where it is none) and row_mask [N, 1]
 * (1 where it is one, else 0).
 * Outputs: those of `lossHead` and the gradient of each LoRA matrix under "d_" and its name.
 */
export function buildStepGraph(
  config: ModelConfig,
  lora: LoraPlan,
  { form, weights = UNIFORM, headParts = 1 }: StepGraphOptions,
): Graph {
  const { hiddenSize: D } = config;
  const g = new Graph();
  const layouts = declareLayouts(g, config, { past: false, form });
  const trainable: Value[] = [];
  let x = g.input("x", "float32", ["N", D]);
  for (let layer = 0; layer < config.layerCount; layer++) {
    const prefix = layerFeed(layer, "");
    const sites = declareLora(g, config, lora, prefix);
    trainable.push(...loraMatrices(sites));
    const weights = declareLayerWeights(g, config, prefix);
    x = decoderLayer(g, config, x, weights, layoutOf(layouts, config, layer), sites).output;
  }
  const lossRows = g.input("loss_rows", "int32", [product([headParts, "M"])]);
  const rows = g.op("Gather", [x, lossRows], { inverse: null });
  const { outputs, dRows } = lossHead(g, config, rows, { weights, parts: headParts });
  const rowPlaces = g.input("row_places", "int32", ["N"]);
  const rowMask = g.input("row_mask", "float32", ["N", 1]);
  const gradient = g.mul(g.op("Gather", [dRows, rowPlaces], { inverse: null }), rowMask);
  const gradients = backward(g, [{ value: x, gradient }], trainable);
  const named = trainable.map((matrix, i): [string, Value] => [`d_${matrix.name}`, gradients[i] as Value]);
  const step = subgraph(g, { ...outputs, ...Object.fromEntries(named) });
  dependentsLast(
    step,
    step.inputs.filter(({ name }) => name === weights.root),
  );
  return step;
}

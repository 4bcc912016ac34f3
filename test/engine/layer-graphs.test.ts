// One decoder layer's graphs over ragged rows: against central differences in float64, on ONNX Runtime against the
// interpreter, and the laws between its forms (with and without saved values, with and without a past).
import { describe, expect, it } from "vitest";
import { Graph } from "../../src/graph/graph.ts";
import { subgraph } from "../../src/graph/subgraph.ts";
import { declareLayouts, layoutOf } from "../../src/model/attention.ts";
import { declareLayerWeights, decoderLayer } from "../../src/model/decoder.ts";
import { NO_LORA } from "../../src/model/lora.ts";
import { LORA_TARGETS } from "../../src/model/lora-targets.ts";
import type { ModelConfig } from "../../src/model/model-config.ts";
import { buildHeadGraphs, lossHead } from "../../src/training/head-graphs.ts";
import { UNIFORM } from "../../src/training/row-weights.ts";
import { buildLayerGraphs } from "../../src/training/layer-graphs.ts";
import type { LayerGraphs } from "../../src/training/layer-graphs.ts";
import { evaluate } from "../reference/interpreter.ts";
import type { Tensor, TensorFeeds } from "../reference/interpreter.ts";
import { difference, FAMILIES, layerFeeds, randomTensor, rowsOf, smallConfig } from "./graph-families.ts";
import { expectSameAsInterpreter } from "./on-both-engines.ts";

const ROWS = [3, 1, 2];
const LORA = { rank: 2, alpha: 3, dropout: 0.1, targetModules: LORA_TARGETS };
/** Small enough for Gemma, whose norms behind the products bend the loss more. */
const STEP = 3e-4;

function inner(a: Tensor, b: Tensor): number {
  return a.data.reduce((sum, value, i) => sum + value * (b.data[i] as number), 0);
}

/** d loss / d input along a direction, with the five-point stencil. */
function slope(
  lossAt: (feeds: TensorFeeds) => number,
  feeds: TensorFeeds,
  name: string,
  direction: Tensor,
): number {
  const { shape, data } = feeds[name] as Tensor;
  const moved = (steps: number): number => {
    const changed = data.map((value, i) => value + steps * STEP * (direction.data[i] as number));
    return lossAt({ ...feeds, [name]: { shape, data: changed } });
  };
  return (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * STEP);
}

/** Compares every gradient with slopes in three random directions. */
function expectTrueGradients(graphs: LayerGraphs, feeds: TensorFeeds): void {
  const gradients = evaluate(graphs.backward, feeds);
  const names = Object.keys(gradients).map((name) => name.slice(2));
  expect(names).toHaveLength(1 + 2 * LORA_TARGETS.length);
  const lossAt = (changed: TensorFeeds): number =>
    inner(evaluate(graphs.forward, changed)["output"] as Tensor, feeds["d_output"] as Tensor);
  for (const name of names) {
    for (const i of [0, 1, 2]) {
      const direction = randomTensor(`${name} direction ${i}`, feeds[name]?.shape ?? []);
      const found = inner(gradients[`d_${name}`] as Tensor, direction);
      const expected = slope(lossAt, feeds, name, direction);
      // The slope's own error on rows of five tokens: 1e-9.
      expect(Math.abs(found - expected), name).toBeLessThan(4e-9 * Math.max(1, Math.abs(expected)));
    }
  }
}

const FORMS = FAMILIES.flatMap((family) => [1, 3].map((queryBlocks) => ({ family, queryBlocks })));

describe.each(FORMS)("a layer of $family, queries in $queryBlocks blocks,", ({ family, queryBlocks }) => {
  const config = smallConfig(family);
  const form = { queryBlocks, sharedBlocks: 0 };
  const graphs = buildLayerGraphs(config, LORA, form);
  const feeds = layerFeeds(graphs.backward, config, ROWS, { form });

  it("has the gradients that central differences show", () => expectTrueGradients(graphs, feeds));

  it("gives the same on ONNX Runtime, forward and backward", async () => {
    await expectSameAsInterpreter(graphs.forward, feeds);
    await expectSameAsInterpreter(graphs.backward, feeds);
  });

  it("computes each product once forward, and once more each way in the backward pass", () => {
    const uses = (graph: Graph, weight: string): number =>
      graph.nodes.filter(({ kind, inputs }) => kind === "Gemm" && inputs.some(({ name }) => name === weight))
        .length;
    for (const { name, shape } of graphs.forward.inputs) {
      if (!name.endsWith("_proj.weight") || shape.length !== 2) continue;
      expect(uses(graphs.forward, name), name).toBe(1);
      // The layer's last product is needed for a gradient only where it passes a norm.
      const isLast = name === "mlp.down_proj.weight" && !config.outputNorms;
      expect(uses(graphs.backward, name), name).toBe(isLast ? 1 : 2);
    }
  });

  it("gives each row what it gets alone", () => {
    const together = evaluate(graphs.backward, feeds);
    const output = evaluate(graphs.forward, feeds)["output"] as Tensor;
    const sums = new Map<string, Float64Array>();
    let start = 0;
    for (const length of ROWS) {
      const alone = { ...layerFeeds(graphs.backward, config, [length], { form }) };
      for (const [name, tensor] of Object.entries(feeds)) {
        if (/^(x|d_output)$|dropout$/.test(name)) alone[name] = rowsOf(tensor, start, start + length);
      }
      const results = evaluate(graphs.backward, alone);
      expect(
        difference(evaluate(graphs.forward, alone)["output"], rowsOf(output, start, start + length)),
      ).toBeLessThan(1e-12);
      expect(
        difference(results["d_x"], rowsOf(together["d_x"] as Tensor, start, start + length)),
      ).toBeLessThan(1e-12);
      for (const [name, { data }] of Object.entries(results)) {
        const sum = sums.get(name);
        sums.set(name, sum === undefined ? data : sum.map((value, i) => value + (data[i] as number)));
      }
      start += length;
    }
    for (const [name, gradient] of Object.entries(together)) {
      if (name === "d_x") continue;
      expect(difference({ ...gradient, data: sums.get(name) as Float64Array }, gradient), name).toBeLessThan(
        1e-12,
      );
    }
  });

  it("gives what queries in one block give", () => {
    const whole = buildLayerGraphs(config, LORA);
    const expected = evaluate(whole.backward, layerFeeds(whole.backward, config, ROWS));
    for (const [name, gradient] of Object.entries(evaluate(graphs.backward, feeds)))
      expect(difference(gradient, expected[name]), name).toBeLessThan(1e-12);
  });
});

const SHARED_FORMS = FAMILIES.flatMap((family) => [
  { family, queryBlocks: 1, sharedBlocks: 1 },
  { family, queryBlocks: 3, sharedBlocks: 2 },
]);

describe.each(SHARED_FORMS)(
  "a layer of $family, rows with shared tokens, in $queryBlocks and $sharedBlocks blocks,",
  ({ family, ...form }) => {
    const SHARED = 2;
    const lengths = [5, 3, 4];
    const config = smallConfig(family);
    const graphs = buildLayerGraphs(config, LORA, form);
    const feeds = layerFeeds(graphs.backward, config, lengths, { form, sharedTokens: SHARED });

    it("has the gradients that central differences show", () => expectTrueGradients(graphs, feeds));

    it("gives the same on ONNX Runtime, forward and backward", async () => {
      await expectSameAsInterpreter(graphs.forward, feeds);
      await expectSameAsInterpreter(graphs.backward, feeds);
    });

    it("gives what rows give that each have the shared tokens", () => {
      const plain = buildLayerGraphs(config, LORA);
      const apart: Record<string, Tensor> = layerFeeds(plain.backward, config, lengths);
      /** Which flat token of the shared layout each token of the plain one is. */
      const places: number[] = [];
      let own = SHARED;
      for (const length of lengths) for (let t = 0; t < length; t++) places.push(t < SHARED ? t : own++);
      const spread = ({ shape, data }: Tensor, onlyOnce: boolean): Tensor => {
        const width = shape[1] as number;
        const rows = places.map((place, n) =>
          onlyOnce && places.indexOf(place) !== n
            ? new Float64Array(width)
            : data.subarray(place * width, (place + 1) * width),
        );
        return { shape: [places.length, width], data: Float64Array.from(rows.flatMap((row) => [...row])) };
      };
      for (const [name, tensor] of Object.entries(feeds)) {
        if (/^x$|dropout$/.test(name)) apart[name] = spread(tensor, false);
        if (name === "d_output") apart[name] = spread(tensor, true);
      }
      const output = evaluate(graphs.forward, feeds)["output"] as Tensor;
      expect(difference(evaluate(plain.forward, apart)["output"], spread(output, false))).toBeLessThan(1e-12);

      const [together, expected] = [evaluate(graphs.backward, feeds), evaluate(plain.backward, apart)];
      for (const [name, gradient] of Object.entries(together)) {
        const one = expected[name] as Tensor;
        if (name !== "d_x") {
          expect(difference(gradient, one), name).toBeLessThan(1e-12);
          continue;
        }
        const width = config.hiddenSize;
        const sum = new Float64Array(gradient.data.length);
        for (const [i, value] of one.data.entries()) {
          const at = (places[Math.floor(i / width)] as number) * width + (i % width);
          sum[at] = (sum[at] as number) + value;
        }
        expect(difference(gradient, { ...gradient, data: sum }), name).toBeLessThan(1e-12);
      }
    });
  },
);

describe.each(FAMILIES)("a layer of %s", (family) => {
  const config = smallConfig(family);

  it("goes on from a past as if it had run whole", async () => {
    const whole = layerWithPast(config, false);
    const continued = layerWithPast(config, true);
    const [pasts, added] = [
      [2, 0, 3],
      [1, 3, 2],
    ];
    const lengths = pasts.map((past, row) => past + (added[row] as number));
    const wholeFeeds = layerFeeds(whole, config, lengths);
    const results = evaluate(whole, wholeFeeds);
    const places = 4;
    const continuedFeeds = layerFeeds(continued, config, added, { past: { lengths: pasts, places } });
    const x: number[] = [];
    const expected: number[] = [];
    let start = 0;
    for (const [row, length] of lengths.entries()) {
      const past = pasts[row] as number;
      for (const name of ["keys", "values"] as const) {
        const cached = rowsOf(results[name] as Tensor, start, start + past);
        writePast(continuedFeeds[`past_${name}`] as Tensor, row, cached);
      }
      x.push(...rowsOf(wholeFeeds["x"] as Tensor, start + past, start + length).data);
      expected.push(...rowsOf(results["output"] as Tensor, start + past, start + length).data);
      start += length;
    }
    const shape = [6, config.hiddenSize];
    continuedFeeds["x"] = { shape, data: Float64Array.from(x) };
    const found = await expectSameAsInterpreter(continued, continuedFeeds);
    expect(difference(found["output"], { shape, data: Float64Array.from(expected) })).toBeLessThan(1e-12);
  });
});

/** Keys of tokens [S', K*E] into one row of a cache [B, K, S, E]; the other places keep their random numbers. */
function writePast(cache: Tensor, row: number, { shape, data }: Tensor): void {
  const [, K, S, E] = cache.shape as [number, number, number, number];
  for (let place = 0; place < (shape[0] as number); place++) {
    for (let k = 0; k < K; k++) {
      for (let e = 0; e < E; e++) {
        cache.data[((row * K + k) * S + place) * E + e] = data[(place * K + k) * E + e] as number;
      }
    }
  }
}

function layerWithPast(config: ModelConfig, past: boolean): Graph {
  const g = new Graph();
  const x = g.input("x", "float32", ["N", config.hiddenSize]);
  const weights = declareLayerWeights(g, config);
  const layout = layoutOf(declareLayouts(g, config, { past }), config, 0);
  const cache = ["B", config.keyValueHeads, "S", config.headWidth];
  const pastKeysValues = past
    ? { keys: g.input("past_keys", "float32", cache), values: g.input("past_values", "float32", cache) }
    : null;
  const { output, keys, values } = decoderLayer(g, config, x, weights, layout, NO_LORA, pastKeysValues);
  g.output("output", output);
  g.output("keys", keys);
  g.output("values", values);
  return g;
}

describe("the loss head", () => {
  const config = smallConfig("llama");
  const graphs = buildHeadGraphs(config);
  const rows = 4;
  const feeds: Record<string, Tensor> = {
    rows: randomTensor("rows", [rows, config.hiddenSize]),
    norm: randomTensor("norm", [config.hiddenSize], 1),
    head: randomTensor("head", [config.vocabSize, config.hiddenSize]),
    targets: { shape: [rows, 1], data: Float64Array.of(3, 0, 10, 3) },
    row_weight: { shape: [rows, 1], data: Float64Array.of(0.5, 0.25, 0, 2) },
  };

  it("has the gradient that central differences show", () => {
    const lossAt = (changed: TensorFeeds): number =>
      -inner(evaluate(graphs.evaluate, changed)["log_probability"] as Tensor, feeds["row_weight"] as Tensor);
    const gradient = evaluate(graphs.train, feeds)["d_rows"] as Tensor;
    for (let i = 0; i < gradient.data.length; i++) {
      const direction = { shape: gradient.shape, data: gradient.data.map((_, j) => (i === j ? 1 : 0)) };
      expect(Math.abs((gradient.data[i] as number) - slope(lossAt, feeds, "rows", direction))).toBeLessThan(
        1e-9,
      );
    }
  });

  it("gives the same in parts", () => {
    const g = new Graph();
    const { outputs, dRows } = lossHead(g, config, g.input("rows", "float32", ["2*M", config.hiddenSize]), {
      weights: UNIFORM,
      parts: 2,
    });
    const inParts = subgraph(g, { ...outputs, d_rows: dRows });
    const whole = evaluate(graphs.train, feeds);
    for (const [name, value] of Object.entries(evaluate(inParts, feeds)))
      expect(difference(value, whole[name]), name).toBeLessThan(1e-12);
  });

  it("gives the same on ONNX Runtime, with and without the gradient", async () => {
    const evaluated = await expectSameAsInterpreter(graphs.evaluate, feeds);
    const trained = await expectSameAsInterpreter(graphs.train, feeds);
    for (const [name, value] of Object.entries(evaluated)) expect(difference(trained[name], value)).toBe(0);
    const best = evaluated["best_log_probability"] as Tensor;
    expect(best.data.every((value, i) => value >= (evaluated["log_probability"]?.data[i] as number))).toBe(
      true,
    );
  });
});

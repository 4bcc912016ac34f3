// Every graph of the project, written as ONNX and read back, is the same graph: kysely's whole-suite switch for graphs.
import { describe, expect, it } from "vitest";
import { backward } from "../../src/graph/backward.ts";
import type { Graph } from "../../src/graph/graph.ts";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import { OPS } from "../../src/graph/ops.ts";
import { print } from "../../src/graph/print.ts";
import type { OpKind, Value } from "../../src/graph/value.ts";
import { WHOLE_ROWS } from "../../src/model/attention.ts";
import { LORA_TARGETS } from "../../src/model/lora-targets.ts";
import { buildHeadGraphs } from "../../src/training/head-graphs.ts";
import { buildLayerGraphs } from "../../src/training/layer-graphs.ts";
import { evaluate } from "../reference/interpreter.ts";
import { readOnnx } from "../reference/onnx-reader.ts";
import { buildCase, OP_CASES } from "../reference/op-cases.ts";
import { difference, FAMILIES, layerFeeds, smallConfig } from "./graph-families.ts";

/** The text without what ONNX does not hold: digits beyond float32, and Gather's inverse. */
function printed(graph: Graph): string {
  return print(graph)
    .replace(/(?<![\w.])-?\d+(\.\d+)?(e[-+]?\d+)?(?![\w.])/g, (number) => String(Math.fround(Number(number))))
    .replace(/inverse=\w+/g, "inverse=null");
}

function expectRoundTrip(graph: Graph): Graph {
  const bytes = encodeOnnx(graph);
  const back = readOnnx(bytes);
  expect(printed(back)).toBe(printed(graph));
  expect(Buffer.from(encodeOnnx(back)).equals(Buffer.from(bytes))).toBe(true);
  return back;
}

describe("a graph read back from its ONNX bytes", () => {
  it.each(Object.keys(OPS) as OpKind[])("is the same for every case of %s and its gradients", (kind) => {
    for (const one of OP_CASES[kind]) {
      const { g, targets, outputs } = buildCase(one);
      for (const [i, value] of outputs.entries()) g.output(`y${i}`, value);
      const seeds = outputs.map((value) => ({ value, gradient: value }));
      const gradients = backward(g, targets.length === 0 ? [] : seeds, targets);
      for (const [i, gradient] of gradients.entries()) g.output(`d_${(targets[i] as Value).name}`, gradient);
      expectRoundTrip(g);
    }
  });

  it.each(FAMILIES)("is the same for the graphs of a %s layer, and computes the same", (family) => {
    const config = smallConfig(family);
    for (const [dropout, form, sharedTokens] of [
      [0, WHOLE_ROWS, 0],
      [0.1, { queryBlocks: 2, sharedBlocks: 1 }, 1],
    ] as const) {
      const lora = { rank: 2, alpha: 3, dropout, targetModules: LORA_TARGETS };
      const graphs = buildLayerGraphs(config, lora, form);
      for (const graph of Object.values(graphs) as Graph[]) expectRoundTrip(graph);
      const feeds = layerFeeds(graphs.backward, config, [2, 3], { form, sharedTokens });
      const expected = evaluate(graphs.backward, feeds);
      const found = evaluate(expectRoundTrip(graphs.backward), feeds);
      // Constants are rounded to float32 on the way.
      for (const [name, value] of Object.entries(expected))
        expect(difference(found[name], value)).toBeLessThan(1e-6);
    }
  });

  it("is the same for the loss head", () => {
    const { evaluate: evaluation, train } = buildHeadGraphs(smallConfig("llama"));
    expectRoundTrip(evaluation);
    expectRoundTrip(train);
  });
});

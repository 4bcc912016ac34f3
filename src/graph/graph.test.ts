// Graphs as data: names, verification, stable text, cutting and the names ONNX sees.
import { describe, expect, it } from "vitest";
import { readFields, readOnnx } from "../../test/reference/onnx-reader.ts";
import { Graph } from "./graph.ts";
import { encodeOnnx } from "./onnx.ts";
import { print } from "./print.ts";
import { subgraph } from "./subgraph.ts";
import { GraphError } from "./value.ts";
import type { Node, Value } from "./value.ts";
import { verify } from "./verify.ts";

/** y = norm(x) w, cut in many ways below. */
function example() {
  const g = new Graph();
  const x = g.input("x", "float32", ["N", 4]);
  const scale = g.input("scale", "float32", [4]);
  const weight = g.input("weight", "float32", [3, 4]);
  const [normed, inverse] = g.apply("SimplifiedLayerNormalization", [x, scale], { epsilon: 0.5 }) as [
    Value,
    Value,
  ];
  const halved = g.mul(normed, g.constant(0.5));
  const y = g.gemm(halved, weight, { transB: true });
  return { g, x, scale, weight, normed, inverse, halved, y };
}

describe("Graph", () => {
  it("refuses a second input or output of one name", () => {
    const { g, y } = example();
    expect(() => g.input("x", "int64", [1])).toThrow("internal: the graph already has an input named x");
    g.output("y", y);
    expect(() => g.output("y", y)).toThrow("internal: the graph already has an output named y");
  });

  it("leaves out reshapes that change nothing or undo each other", () => {
    const { g, x } = example();
    const count = g.nodes.length;
    expect(g.reshape(x, ["N", 4])).toBe(x);
    const flat = g.reshape(x, ["4*N"]);
    expect(g.reshape(flat, ["N", 4])).toBe(x);
    expect(g.nodes).toHaveLength(count + 1);
  });
});

describe("print", () => {
  it("is stable", () => {
    const { g, y, inverse } = example();
    g.output("y", g.op("Gather", [y, g.constant([0, 1], "int32")], { inverse: null }));
    g.output("inverse", inverse);
    expect(print(g)).toMatchInlineSnapshot(`
      "input x: float32[N, 4]
      input scale: float32[4]
      input weight: float32[3, 4]
      SimplifiedLayerNormalization_0: [N, 4], SimplifiedLayerNormalization_0_1: [N, 1] = SimplifiedLayerNormalization(x, scale) {epsilon=0.5}
      Mul_1: [N, 4] = Mul(SimplifiedLayerNormalization_0, 0.5)
      Gemm_2: [N, 3] = Gemm(Mul_1, weight) {transA=false transB=true alpha=1}
      Gather_3: [2, 3] = Gather(Gemm_2, [0 1]) {inverse=null}
      output y = Gather_3
      output inverse = SimplifiedLayerNormalization_0_1"
    `);
  });
});

describe("verify", () => {
  const broken = (change: (parts: ReturnType<typeof example>) => void): (() => void) => {
    const parts = example();
    parts.g.output("y", parts.y);
    verify(parts.g);
    change(parts);
    return () => verify(parts.g);
  };

  it("finds nodes in the wrong order", () => {
    expect(broken(({ g }) => g.nodes.reverse())).toThrow(
      "internal: Gemm_2 reads Mul_1 before it is computed",
    );
  });

  it("finds a tensor of another graph", () => {
    expect(broken(({ g }) => g.output("other", example().y))).toThrow(
      "internal: output other is not computed by the graph",
    );
  });

  it("finds types that are not those of the shape rule", () => {
    const claim = (type: Partial<Value>) =>
      broken(({ g }) => {
        const node = g.nodes[1] as Node;
        g.nodes[1] = { ...node, outputs: [{ ...(node.outputs[0] as Value), ...type }] };
      });
    expect(claim({ shape: [7] })).toThrow("internal: Mul_1 claims [7], against its shape rule");
    expect(claim({ dtype: "int64" })).toThrow("internal: Mul_1 claims [N, 4], against its shape rule");
  });

  it("finds names that stand twice", () => {
    expect(broken(({ g }) => g.input("Mul_1", "float32", [1]))).toThrow(
      "internal: two tensors are named Mul_1",
    );
    expect(broken(({ g, y }) => g.output("x", y))).toThrow(
      "internal: output x has the name of another tensor",
    );
    expect(broken(({ g, y }) => g.output("Mul_1", y))).toThrow(
      "internal: output Mul_1 has the name of another tensor",
    );
    expect(broken(({ g, x }) => g.output("x", x))).toThrow(
      "internal: output x has the name of another tensor",
    );
    expect(broken(({ g, halved }) => g.output("Mul_1", halved))).not.toThrow();
  });
});

describe("subgraph", () => {
  const names = (graph: Graph): string[] => graph.inputs.map(({ name }) => name);
  const kinds = (graph: Graph): string[] => graph.nodes.map(({ kind }) => kind);

  it("keeps only what the outputs need, inputs and constants included", () => {
    const { g, inverse } = example();
    const cut = subgraph(g, { inverse });
    expect(names(cut)).toEqual(["x", "scale"]);
    expect(kinds(cut)).toEqual(["SimplifiedLayerNormalization"]);
    expect(cut.constants).toHaveLength(0);
  });

  it("does not change the graph it cuts, and cutting a cut changes nothing", () => {
    const { g, y } = example();
    const before = print(g);
    const cut = subgraph(g, { y });
    expect(print(g)).toBe(before);
    const again = subgraph(cut, { y: cut.outputs[0]?.value as Value });
    expect(print(again)).toBe(print(cut));
    verify(cut);
  });

  it("names a tensor that belongs to another graph", () => {
    expect(() => subgraph(example().g, { y: example().y })).toThrow(GraphError);
    expect(() => subgraph(example().g, { y: example().y })).toThrow(
      "internal: Gemm_2 is used before it is computed",
    );
  });
});

describe("encodeOnnx", () => {
  /** Node kinds with the names of their outputs, as they stand in the bytes. */
  function nodesOf(graph: Graph): string[] {
    const body = readFields(encodeOnnx(graph)).find(({ number }) => number === 7)?.bytes as Uint8Array;
    const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
    return readFields(body)
      .filter(({ number }) => number === 1)
      .map(({ bytes }) => {
        const fields = readFields(bytes);
        const outputs = fields.filter(({ number }) => number === 2).map((field) => text(field.bytes));
        return `${fields
          .filter(({ number }) => number === 4)
          .map((field) => text(field.bytes))
          .join()} ${outputs.join()}`;
      });
  }

  it("names a node's tensor by its output, without a copy", () => {
    const { g, y, normed } = example();
    g.output("result", y);
    g.output("normed", normed);
    expect(nodesOf(g)).toEqual([
      "SimplifiedLayerNormalization normed,SimplifiedLayerNormalization_0_1",
      "Mul Mul_1",
      "Gemm result",
    ]);
  });

  it("copies inputs, constants and tensors that are given back twice", () => {
    const { g, x, y } = example();
    g.output("first", y);
    g.output("second", y);
    g.output("same_x", x);
    g.output("one", g.constant([1, 2]));
    expect(nodesOf(g).slice(2)).toEqual(["Gemm first", "Identity second", "Identity same_x", "Identity one"]);
    expect(readOnnx(encodeOnnx(g)).outputs.map(({ name }) => name)).toEqual([
      "first",
      "second",
      "same_x",
      "one",
    ]);
  });

  it("verifies first", () => {
    const { g, y } = example();
    g.output("y", y);
    g.nodes.reverse();
    expect(() => encodeOnnx(g)).toThrow("before it is computed");
  });
});

// The interpreter against numbers worked out by hand, and its own refusals. ONNX Runtime is held against it in test/engine.
import { describe, expect, it } from "vitest";
import type { Shape } from "../../src/graph/dimensions.ts";
import { Graph } from "../../src/graph/graph.ts";
import { OPS } from "../../src/graph/ops.ts";
import type { OpAttributes, OpKind, Value } from "../../src/graph/value.ts";
import { evaluate, KERNELS } from "./interpreter.ts";
import type { Tensor } from "./interpreter.ts";

const tensor = (shape: number[], ...data: number[]): Tensor => ({ shape, data: Float64Array.from(data) });

function run<K extends OpKind>(kind: K, inputs: Tensor[], attributes: OpAttributes[K]): number[][] {
  const outputs = KERNELS[kind](inputs, attributes, Number);
  return outputs.map(({ data }) => [...data].map((value) => Number(value.toFixed(6))));
}

const M = tensor([2, 2], 1, 2, 3, 4);
const PLAIN = { transA: false, transB: false, alpha: 1 };

it("knows every operator", () => {
  expect(Object.keys(KERNELS).sort()).toEqual(Object.keys(OPS).sort());
});

describe("a kernel", () => {
  it("broadcasts", () => {
    expect(run("Sub", [tensor([2, 1], 10, 20), tensor([3], 1, 2, 3)], {})).toEqual([[9, 8, 7, 19, 18, 17]]);
    expect(run("Div", [tensor([], 6), M], {})).toEqual([[6, 3, 2, 1.5]]);
  });

  it("multiplies matrices, transposed or not, batched", () => {
    const N = tensor([2, 2], 5, 6, 7, 8);
    expect(run("FusedMatMul", [M, N], PLAIN)).toEqual([[19, 22, 43, 50]]);
    expect(run("FusedMatMul", [M, N], { ...PLAIN, transA: true })).toEqual([[26, 30, 38, 44]]);
    expect(run("FusedMatMul", [M, N], { ...PLAIN, transB: true })).toEqual([[17, 23, 39, 53]]);
    expect(run("Gemm", [M, N, M], { ...PLAIN, alpha: 2 })).toEqual([[39, 46, 89, 104]]);
    const rows = tensor([2, 1, 2], 1, 0, 0, 1);
    expect(run("FusedMatMul", [rows, N], PLAIN)).toEqual([[5, 6, 7, 8]]);
  });

  it("normalizes", () => {
    expect(run("Softmax", [tensor([2, 2], 0, Math.log(3), 1000, 1000)], {})).toEqual([
      [0.25, 0.75, 0.5, 0.5],
    ]);
    expect(run("LogSoftmax", [tensor([1, 2], 0, 0)], {})).toEqual([[-0.693147, -0.693147]]);
    // Mean square of 3 and 4 is 12.5; with 3.5 added the root is 4.
    const norm = run("SimplifiedLayerNormalization", [tensor([1, 2], 3, 4), tensor([2], 1, 2)], {
      epsilon: 3.5,
    });
    expect(norm).toEqual([[0.75, 2], [0.25]]);
  });

  it("turns the halves of each head", () => {
    // Position 1 turns by a right angle: (a, b) becomes (-b, a).
    const [cos, sin] = [tensor([2, 1], 1, 0), tensor([2, 1], 0, 1)];
    const x = tensor([1, 2, 4], 1, 2, 3, 4, 5, 6, 7, 8);
    const turned = run("RotaryEmbedding", [x, tensor([1, 2], 0, 1), cos, sin], { numHeads: 2 });
    expect(turned).toEqual([[1, 2, 3, 4, -6, 5, -8, 7]]);
  });

  it("moves elements", () => {
    expect(run("Transpose", [M], { permutation: [1, 0] })).toEqual([[1, 3, 2, 4]]);
    expect(run("Concat", [M, tensor([2, 1], 8, 9)], { axis: 1 })).toEqual([[1, 2, 8, 3, 4, 9]]);
    expect(run("Split", [M], { axis: -1, sizes: [1, 1] })).toEqual([
      [1, 3],
      [2, 4],
    ]);
    expect(run("Gather", [M, tensor([3], 1, 0, 1)], { inverse: null })).toEqual([[3, 4, 1, 2, 3, 4]]);
    expect(run("GatherElements", [M, tensor([2, 1], 1, 0)], {})).toEqual([[2, 3]]);
  });

  it("reduces", () => {
    expect(run("ReduceSum", [M], { axes: [0], keepDims: true })).toEqual([[4, 6]]);
    expect(run("ReduceSum", [M], { axes: [0, 1], keepDims: false })).toEqual([[10]]);
    expect(run("ReduceMax", [M], { axes: [-1], keepDims: false })).toEqual([[2, 4]]);
  });

  it("activates", () => {
    expect(run("Sigmoid", [tensor([2], 0, Math.log(3))], {})).toEqual([[0.5, 0.75]]);
    expect(run("QuickGelu", [tensor([1], Math.log(3))], { alpha: 1 })).toEqual([[0.823959]]);
  });
});

describe("evaluate", () => {
  function shaped(from: Shape, to: Shape): { g: Graph; x: Value } {
    const g = new Graph();
    const x = g.input("x", "float32", from);
    g.output("y", g.op("Reshape", [x], { shape: to }));
    return { g, x };
  }

  it("learns named sizes from the feeds, also from inside a product", () => {
    const { g } = shaped(["B", "3*T"], ["B", "T", 3]);
    expect(evaluate(g, { x: tensor([1, 6], 1, 2, 3, 4, 5, 6) })["y"]?.shape).toEqual([1, 2, 3]);
  });

  it("refuses feeds that are missing, misshapen or too few to size a graph", () => {
    const { g } = shaped(["T", 2], ["2*T"]);
    expect(() => evaluate(g, {})).toThrow("the interpreter needs input x");
    expect(() => evaluate(g, { x: tensor([2, 3], 1, 2, 3, 4, 5, 6) })).toThrow("x claims [2,2], is [2,3]");
    expect(() => evaluate(shaped(["B*T"], ["B*T", 1]).g, { x: tensor([4], 1, 2, 3, 4) })).toThrow(
      "no input says how large B is",
    );
  });

  it("refuses a graph whose claim is not what is computed", () => {
    const { g, x } = shaped(["T", 2], ["2*T"]);
    const node = g.nodes[0];
    if (node === undefined) throw new Error("the graph has no node");
    const lie = { ...(node.outputs[0] as Value), shape: ["T"] };
    g.nodes[0] = { ...node, outputs: [lie] };
    expect(() => evaluate(g, { [x.name]: M })).toThrow("Reshape_0 claims [2], is [4]");
  });
});

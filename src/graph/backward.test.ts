// The walk itself: sums over several uses, broadcasting, fused sums, and what it refuses. Rules: gradients.test.ts.
import { describe, expect, it } from "vitest";
import { evaluate } from "../../test/reference/interpreter.ts";
import type { Tensor, TensorFeeds } from "../../test/reference/interpreter.ts";
import { backward } from "./backward.ts";
import { Graph } from "./graph.ts";
import { GraphError } from "./value.ts";
import type { Value } from "./value.ts";

const vector = (...data: number[]): { shape: number[]; data: Float64Array } => ({
  shape: [data.length],
  data: Float64Array.from(data),
});

function run(g: Graph, value: Value, feeds: TensorFeeds): Float64Array {
  g.output("result", value);
  return evaluate(g, feeds)["result"]?.data as Float64Array;
}

describe("backward", () => {
  it("adds up what arrives from every use of a tensor", () => {
    const g = new Graph();
    const x = g.input("x", "float32", [2]);
    const cube = g.mul(g.mul(x, x), x);
    const y = g.add(cube, g.add(x, x));
    const [dx] = backward(g, [{ value: y, gradient: g.constant([1, 10]) }], [x]);
    // 3x² + 2
    expect([...run(g, dx as Value, { x: vector(2, 3) })]).toEqual([14, 290]);
  });

  it("adds up the gradients of several seeds, of a seed that leads to another, and of one given twice", () => {
    const g = new Graph();
    const x = g.input("x", "float32", [1]);
    const square = g.mul(x, x);
    const doubled = g.add(square, square);
    const seeds = [
      { value: doubled, gradient: g.constant([1]) },
      { value: square, gradient: g.constant([100]) },
      { value: square, gradient: g.constant([1000]) },
    ];
    const [dSquare, dx] = backward(g, seeds, [square, x]);
    g.output("dSquare", dSquare as Value);
    expect([...run(g, dx as Value, { x: vector(3) })]).toEqual([1102 * 6]);
    expect([...(evaluate(g, { x: vector(3) })["dSquare"]?.data ?? [])]).toEqual([1102]);
  });

  it("sums over broadcast axes, back to the shape of the input", () => {
    const g = new Graph();
    const x = g.input("x", "float32", ["N", 2]);
    const b = g.input("b", "float32", [1, 2]);
    const s = g.input("s", "float32", []);
    const y = g.mul(g.add(x, b), s);
    const [db, ds] = backward(g, [{ value: y, gradient: y }], [b, s]);
    expect(db?.shape).toEqual([1, 2]);
    expect(ds?.shape).toEqual([]);
    const feeds = {
      x: { shape: [2, 2], data: Float64Array.of(1, 2, 3, 4) },
      b: { shape: [1, 2], data: Float64Array.of(10, 20) },
      s: { shape: [], data: Float64Array.of(2) },
    };
    // y = 2 [11 22; 13 24]; db = 2 sum(y), ds = sum(y (x + b))
    expect([...run(g, db as Value, feeds)]).toEqual([96, 184]);
  });

  it("puts a sum with a matrix product into one Gemm, in either order", () => {
    for (const productFirst of [true, false]) {
      const g = new Graph();
      const x = g.input("x", "float32", ["N", 3]);
      const w = g.input("w", "float32", [3, 3]);
      const [one, other] = [g.gemm(x, w), g.op("Exp", [x], {})];
      const y = productFirst ? g.add(g.mul(one, one), other) : g.add(other, g.mul(one, one));
      const before = g.nodes.length;
      backward(g, [{ value: y, gradient: g.input("dy", "float32", ["N", 3]) }], [x]);
      const added = g.nodes.slice(before);
      expect(added.some(({ kind, inputs }) => kind === "Gemm" && inputs.length === 3)).toBe(true);
      expect(added.at(-1)?.kind).toBe("Gemm");
    }
  });

  it("emits nothing for inputs whose gradient nobody wants", () => {
    const g = new Graph();
    const x = g.input("x", "float32", ["N", 3]);
    const w = g.input("w", "float32", [4, 3]);
    const y = g.gemm(x, w, { transB: true });
    backward(g, [{ value: y, gradient: g.input("dy", "float32", ["N", 4]) }], [x]);
    expect(g.nodes.map(({ kind }) => kind)).toEqual(["Gemm", "Gemm"]);
  });

  it("refuses a seed of another shape, a target off the path and an output without a rule", () => {
    const g = new Graph();
    const x = g.input("x", "float32", [2]);
    const apart = g.input("apart", "float32", [2]);
    const y = g.op("Exp", [x], {});
    const wrong = g.constant([1, 2, 3]);
    expect(() => backward(g, [{ value: y, gradient: wrong }], [x])).toThrow(
      "internal: the gradient of Exp_0 must be [2], is [3]",
    );
    expect(() => backward(g, [{ value: y, gradient: y }], [x, apart])).toThrow(
      "internal: no path leads from apart to the loss",
    );
  });

  it("refuses a gradient of the norm's second output, which has no rule", () => {
    const g = new Graph();
    const x = g.input("x", "float32", [2]);
    const [normed, inverse] = g.apply("SimplifiedLayerNormalization", [x, g.constant([1, 1])], {
      epsilon: 1,
    }) as [Value, Value];
    const message =
      "internal: SimplifiedLayerNormalization_0: only the first output has a backward rule, not inv";
    expect(() => backward(g, [{ value: inverse, gradient: inverse }], [x])).toThrow(message);
    const both = [normed, inverse].map((value) => ({ value, gradient: value }));
    expect(() => backward(g, both, [x])).toThrow(message);
  });

  it("names the operator and the input where there is no derivative", () => {
    const g = new Graph();
    const x = g.input("x", "float32", ["N", 3]);
    const best = g.op("ReduceMax", [g.op("Exp", [x], {})], { axes: [1], keepDims: true });
    const differentiate = (): unknown => backward(g, [{ value: best, gradient: best }], [x]);
    expect(differentiate).toThrow(GraphError);
    expect(differentiate).toThrow("internal: ReduceMax_1 has no derivative with respect to its input 0");
  });

  it("takes a composite's own rule in place of those of its nodes", () => {
    const g = new Graph();
    const [x, w] = [g.input("x", "float32", ["N"]), g.input("w", "float32", ["N"])];
    const y = g.composite(g.op("Exp", [g.mul(x, w)], {}), [x, w], (dy) => [g.mul(dy, w), g.mul(dy, x)]);
    const [dx] = backward(g, [{ value: g.mul(y, w), gradient: x }], [x]);
    // Nothing went through Exp: the gradient is x * w (of the product after it) * w (of the rule).
    g.output("dx", dx as Value);
    const feeds = {
      x: { shape: [2], data: Float64Array.of(2, 3) },
      w: { shape: [2], data: Float64Array.of(5, 7) },
    };
    expect([...(evaluate(g, feeds)["dx"] as Tensor).data]).toEqual([50, 147]);
  });

  it("refuses sizes that a rule cannot name", () => {
    const g = new Graph();
    const [a, b] = [g.input("a", "float32", ["B", "S"]), g.input("b", "float32", ["B", "T"])];
    const joined = g.op("Concat", [a, b], { axis: 1 });
    expect(() => backward(g, [{ value: joined, gradient: joined }], [a])).toThrow(
      "internal: Concat of different named sizes has no backward rule",
    );
    const wide = g.input("wide", "float32", [2, "T"]);
    const [normed] = g.apply("SimplifiedLayerNormalization", [wide, g.input("w", "float32", ["T"])], {
      epsilon: 1,
    });
    const seed = { value: normed as Value, gradient: normed as Value };
    expect(() => backward(g, [seed], [wide])).toThrow("internal: the normalized axis needs a known size");
  });
});

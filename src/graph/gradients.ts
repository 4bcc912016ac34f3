// The second of the two tables an operator stands in: its backward rule. A rule emits ordinary graph operators. It gives
// one recipe per input, run only where that input's gradient is wanted; broadcasting is undone by backward.ts, once for
// all rules. `dy` is the gradient of the loss with respect to the node's first output.
import { product as flatten } from "./dimensions.ts";
import type { Dimension } from "./dimensions.ts";
import type { Graph } from "./graph.ts";
import { GraphError } from "./value.ts";
import type { Node, OpKind, Value } from "./value.ts";

/** Emits the gradient of one input. */
export type InputGradient = () => Value;

/** `dys` holds a gradient per output, null where none flows. */
export type BackwardRule<K extends OpKind> = (
  g: Graph,
  node: Node<K>,
  dys: readonly (Value | null)[],
) => readonly (InputGradient | "notDifferentiable")[];

function input(node: { inputs: readonly Value[] }, i: number): Value {
  return node.inputs[i] as Value;
}

function output(node: { outputs: readonly Value[] }, i = 0): Value {
  return node.outputs[i] as Value;
}

/** The gradient of the only output that carries one. */
function first(dys: readonly (Value | null)[]): Value {
  return dys[0] as Value;
}

const last = (x: Value): readonly number[] => [x.shape.length - 1];

export const GRADIENTS: { [K in OpKind]: BackwardRule<K> } = {
  Add: (_g, _node, dys) => [() => first(dys), () => first(dys)],
  Sub: (g, _node, dys) => [() => first(dys), () => g.mul(first(dys), g.constant(-1))],
  Mul: (g, node, dys) => [() => g.mul(first(dys), input(node, 1)), () => g.mul(first(dys), input(node, 0))],
  Div: (g, node, dys) => [
    () => g.op("Div", [first(dys), input(node, 1)], {}),
    // d(a/b)/db = -(a/b)/b
    () => g.mul(g.op("Div", [g.mul(first(dys), output(node)), input(node, 1)], {}), g.constant(-1)),
  ],
  Exp: (g, node, dys) => [() => g.mul(first(dys), output(node))],
  Sigmoid: (g, node, dys) => [
    () => g.mul(first(dys), g.mul(output(node), g.sub(g.constant(1), output(node)))),
  ],
  // erf'(x) = 2/√π exp(-x²)
  Erf: (g, node, dys) => [() => g.mul(first(dys), scaledBell(g, input(node, 0), 1, 2 / Math.sqrt(Math.PI)))],
  // d(x Φ(x))/dx = Φ(x) + x φ(x), with Φ(x) = (1 + erf(x/√2))/2 and φ(x) = exp(-x²/2)/√(2π)
  Gelu: (g, node, dys) => [
    () => {
      const x = input(node, 0);
      const erf = g.op("Erf", [g.mul(x, g.constant(Math.SQRT1_2))], {});
      const distribution = g.mul(g.add(erf, g.constant(1)), g.constant(0.5));
      const density = scaledBell(g, x, 0.5, 1 / Math.sqrt(2 * Math.PI));
      return g.mul(first(dys), g.add(distribution, g.mul(x, density)));
    },
  ],
  FastGelu: (g, node, dys) => [() => g.mul(first(dys), fastGeluParts(g, input(node, 0)).slope)],
  // silu'(x) = s + silu(x) (1 - s) with s = sigmoid(x)
  QuickGelu: (g, node, dys) => [
    () => {
      const s = g.op("Sigmoid", [input(node, 0)], {});
      return g.mul(first(dys), g.add(s, g.mul(output(node), g.sub(g.constant(1), s))));
    },
  ],
  // dx = p (dy - sum(dy p))
  Softmax: (g, node, dys) => [
    () => {
      const p = output(node);
      return g.mul(p, g.sub(first(dys), g.sum(g.mul(first(dys), p), last(p))));
    },
  ],
  // dx = dy - exp(y) sum(dy)
  LogSoftmax: (g, node, dys) => [
    () => g.sub(first(dys), g.mul(g.op("Exp", [output(node)], {}), g.sum(first(dys), last(output(node))))),
  ],
  // Root mean square layer normalization, arXiv:1910.07467: with u = dy w, dx = inv (u - x inv² mean(u x))
  SimplifiedLayerNormalization: (g, node, dys) => {
    const [x, weight, inv] = [input(node, 0), input(node, 1), output(node, 1)];
    const width = x.shape.at(-1);
    if (typeof width !== "number") throw new GraphError("internal: the normalized axis needs a known size");
    if (dys[0] === null || dys[1] !== null) {
      throw new GraphError(`internal: ${node.name}: only the first output has a backward rule, not inv`);
    }
    return [
      () => {
        const u = g.mul(first(dys), weight);
        const mean = g.mul(g.sum(g.mul(u, x), last(x)), g.constant(1 / width));
        const scale = g.mul(g.mul(inv, inv), mean);
        return g.mul(inv, g.sub(u, g.mul(x, scale)));
      },
      () => g.mul(first(dys), g.mul(x, inv)),
    ];
  },
  // arXiv:1607.06450: with n = (x - mean) inv and u = dy w, dx = inv (u - mean(u) - n mean(u n))
  LayerNormalization: (g, node, dys) => {
    const [x, weight, mean, inv] = [input(node, 0), input(node, 1), output(node, 1), output(node, 2)];
    const width = x.shape.at(-1);
    if (typeof width !== "number") throw new GraphError("internal: the normalized axis needs a known size");
    if (dys[0] === null || dys[1] !== null || dys[2] !== null) {
      throw new GraphError(`internal: ${node.name}: only the first output has a backward rule`);
    }
    const normalized = (): Value => g.mul(g.sub(x, mean), inv);
    const meanOf = (value: Value): Value => g.mul(g.sum(value, last(x)), g.constant(1 / width));
    return [
      () => {
        const [n, u] = [normalized(), g.mul(first(dys), weight)];
        return g.mul(inv, g.sub(g.sub(u, meanOf(u)), g.mul(n, meanOf(g.mul(u, n)))));
      },
      () => g.mul(first(dys), normalized()),
      () => first(dys),
    ];
  },
  // A rotation: its transpose turns the other way.
  RotaryEmbedding: (g, node, dys) => [
    () => {
      const [positions, cos, sin] = [input(node, 1), input(node, 2), input(node, 3)];
      return g.op(
        "RotaryEmbedding",
        [first(dys), positions, cos, g.mul(sin, g.constant(-1))],
        node.attributes,
      );
    },
    "notDifferentiable",
    "notDifferentiable",
    "notDifferentiable",
  ],
  FusedMatMul: (g, node, dys) => {
    const [a, b, dy] = [input(node, 0), input(node, 1), first(dys)];
    const { transA, transB, alpha } = node.attributes;
    return [
      () =>
        transA
          ? g.matmul(b, dy, { transA: transB, transB: true, alpha })
          : g.matmul(dy, b, { transB: !transB, alpha }),
      () =>
        transB
          ? g.matmul(dy, a, { transA: true, transB: transA, alpha })
          : g.matmul(a, dy, { transA: !transA, alpha }),
    ];
  },
  Gemm: (g, node, dys) => {
    const [a, b, dy] = [input(node, 0), input(node, 1), first(dys)];
    const { transA, transB, alpha } = node.attributes;
    return [
      () =>
        transA
          ? g.gemm(b, dy, { transA: transB, transB: true, alpha })
          : g.gemm(dy, b, { transB: !transB, alpha }),
      () =>
        transB
          ? g.gemm(dy, a, { transA: true, transB: transA, alpha })
          : g.gemm(a, dy, { transA: !transA, alpha }),
      () => dy,
    ];
  },
  Reshape: (g, node, dys) => [() => g.reshape(first(dys), input(node, 0).shape)],
  Transpose: (g, node, dys) => [
    () => {
      const inverse: number[] = [];
      for (const [to, from] of node.attributes.permutation.entries()) inverse[from] = to;
      return g.transpose(first(dys), inverse);
    },
  ],
  Concat: (g, node, dys) => {
    const { axis } = node.attributes;
    const sizes = node.inputs.map((one) => one.shape.at(axis) as Dimension);
    if (!sizes.every((size) => typeof size === "number" || size === sizes[0])) {
      throw new GraphError("internal: Concat of different named sizes has no backward rule");
    }
    let parts: readonly Value[] | null = null;
    return node.inputs.map((_, i) => () => {
      parts ??= g.apply("Split", [first(dys)], { axis, sizes });
      return parts[i] as Value;
    });
  },
  Split: (g, node, dys) => [
    () => {
      const parts = node.outputs.map((part, i) => dys[i] ?? g.mul(part, g.constant(0)));
      return g.op("Concat", parts, { axis: node.attributes.axis });
    },
    "notDifferentiable",
  ],
  Gather: (g, node, dys) => {
    const { inverse } = node.attributes;
    if (inverse === null) return ["notDifferentiable", "notDifferentiable"];
    return [
      () => {
        const dy = first(dys);
        const rank = input(node, 1).shape.length;
        const rows = g.reshape(dy, [flatten(dy.shape.slice(0, rank)), ...dy.shape.slice(rank)]);
        return g.reshape(g.op("Gather", [rows, inverse], { inverse: null }), input(node, 0).shape);
      },
      "notDifferentiable",
    ];
  },
  GatherElements: () => ["notDifferentiable", "notDifferentiable"],
  ReduceSum: (g, node, dys) => [() => spread(g, first(dys), node)],
  ReduceMax: () => ["notDifferentiable"],
};

/** sigmoid(u) of FastGelu's x sigmoid(u), and its slope: s + x s (1 - s) u', with u' = √(8/π) (1 + 3 · 0.044715 x²). */
export function fastGeluParts(g: Graph, x: Value): { sigmoid: Value; slope: Value } {
  const rate = Math.sqrt(8 / Math.PI);
  const cubic = rate * 0.044715;
  const square = g.mul(x, x);
  const u = g.mul(x, g.add(g.mul(square, g.constant(cubic)), g.constant(rate)));
  const sigmoid = g.op("Sigmoid", [u], {});
  const du = g.add(g.mul(square, g.constant(3 * cubic)), g.constant(rate));
  const rest = g.sub(g.constant(1), sigmoid);
  const slope = g.mul(sigmoid, g.add(g.constant(1), g.mul(g.mul(x, rest), du)));
  return { sigmoid, slope };
}

/** scale * exp(-rate x²). */
function scaledBell(g: Graph, x: Value, rate: number, scale: number): Value {
  const exponent = g.mul(g.mul(x, x), g.constant(-rate));
  return g.mul(g.op("Exp", [exponent], {}), g.constant(scale));
}

/** Repeats a sum's gradient over the axes that were summed. */
function spread(g: Graph, dy: Value, node: Node<"ReduceSum">): Value {
  const x = input(node, 0);
  const axes = new Set(node.attributes.axes.map((axis) => (axis < 0 ? x.shape.length + axis : axis)));
  const kept = x.shape.map((size, i) => (axes.has(i) ? 1 : size));
  // x * 0 + dy broadcasts without naming the sizes; sums of long axes are rare enough for it not to matter.
  return g.add(g.mul(x, g.constant(0)), g.reshape(dy, kept));
}

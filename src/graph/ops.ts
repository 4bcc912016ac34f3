// The first of the two tables an operator stands in: its shape rule, and how its attributes are written in ONNX.
// The second is gradients.ts. Types and attributes: value.ts.
import { broadcast, formatShape, product, quotient, sameShape, total } from "./dimensions.ts";
import type { Dimension, Shape } from "./dimensions.ts";
import { GraphError } from "./value.ts";
import type { OpAttributes, OpKind, TensorType, Value } from "./value.ts";

/** What an operator looks like in ONNX beyond its inputs. */
export interface OnnxForm {
  ints?: Record<string, number>;
  floats?: Record<string, number>;
  intLists?: Record<string, readonly number[]>;
  /** An int64 vector appended to the inputs: the shape of Reshape, the axes of ReduceSum. */
  vector?: readonly number[];
}

export interface OpDefinition<K extends OpKind> {
  domain: "" | "com.microsoft";
  /** Types of the outputs; throws GraphError with what was expected and found. */
  infer(inputs: readonly Value[], attributes: OpAttributes[K]): readonly TensorType[];
  encode?(inputs: readonly Value[], attributes: OpAttributes[K]): OnnxForm;
}

function arity(inputs: readonly Value[], ...allowed: number[]): void {
  if (!allowed.includes(inputs.length)) {
    throw new GraphError(`takes ${allowed.join(" or ")} inputs, got ${inputs.length}`);
  }
}

function at(inputs: readonly Value[], i: number): Value {
  const value = inputs[i];
  if (value === undefined) throw new GraphError(`input ${i} is missing`);
  return value;
}

/** The size of an axis; negative axes count from the end. */
function size(shape: Shape, axis: number): Dimension {
  const dimension = shape[axis < 0 ? shape.length + axis : axis];
  if (dimension === undefined) throw new GraphError(`axis ${axis} is outside of shape ${formatShape(shape)}`);
  return dimension;
}

/** Named sizes that differ are only known when the graph runs; equal parts need no sizes. */
function needsSizes(sizes: Shape): boolean {
  return sizes.some((one) => typeof one !== "number" && one !== sizes[0]);
}

function expectIndices(indices: Value): void {
  if (indices.dtype === "float32") throw new GraphError("indices must be int32 or int64, are float32");
}

function expectShape(what: string, found: Shape, expected: Shape): void {
  if (!sameShape(found, expected)) {
    throw new GraphError(`${what} must have shape ${formatShape(expected)}, has ${formatShape(found)}`);
  }
}

const elementwise: OpDefinition<"Add" | "Sub" | "Mul" | "Div"> = {
  domain: "",
  infer(inputs) {
    arity(inputs, 2);
    const [a, b] = [at(inputs, 0), at(inputs, 1)];
    const shape = broadcast(a.shape, b.shape);
    if (shape === null) throw new GraphError("the shapes do not broadcast");
    if (a.dtype !== b.dtype) throw new GraphError("the types differ");
    return [{ dtype: a.dtype, shape }];
  },
};

const unary: OpDefinition<"Exp" | "Sigmoid" | "Erf" | "Gelu" | "Softmax" | "LogSoftmax"> = {
  domain: "",
  infer(inputs) {
    arity(inputs, 1);
    const { dtype, shape } = at(inputs, 0);
    return [{ dtype, shape }];
  },
};

const lastAxis: OpDefinition<"Softmax" | "LogSoftmax"> = {
  ...unary,
  encode: () => ({ ints: { axis: -1 } }),
};

/** [M, K] and [K, N] of op(A), op(B); checks that the inner sizes agree. */
function matrixSizes(a: Shape, b: Shape, transA: boolean, transB: boolean): [Dimension, Dimension] {
  const inner = size(a, transA ? -2 : -1);
  const other = size(b, transB ? -1 : -2);
  if (inner !== other) throw new GraphError(`the inner sizes differ: ${inner} and ${other}`);
  return [size(a, transA ? -1 : -2), size(b, transB ? -2 : -1)];
}

function reduction(
  inputs: readonly Value[],
  axes: readonly number[],
  keepDims: boolean,
): readonly TensorType[] {
  arity(inputs, 1);
  const { dtype, shape } = at(inputs, 0);
  // ONNX takes an empty list for all axes.
  if (axes.length === 0) throw new GraphError("axes must name at least one axis, are []");
  const reduced = new Set(axes.map((axis) => (size(shape, axis), axis < 0 ? shape.length + axis : axis)));
  const result = shape.flatMap((dimension, i) => (reduced.has(i) ? (keepDims ? [1] : []) : [dimension]));
  return [{ dtype, shape: result }];
}

/**
 * The int64 vector ONNX's Reshape takes: a number where the size is known, 0 where a named size stays at its axis, and
 * -1 for at most one other.
 */
function reshapeVector(from: Shape, to: readonly Dimension[]): readonly number[] {
  let open = 0;
  return to.map((dimension, i) => {
    if (typeof dimension === "number") return dimension;
    if (dimension === from[i]) return 0;
    open += 1;
    if (open > 1)
      throw new GraphError(`only one named size may move, in ${formatShape(from)} to ${formatShape(to)}`);
    return -1;
  });
}

export const OPS: { [K in OpKind]: OpDefinition<K> } = {
  Add: elementwise,
  Sub: elementwise,
  Mul: elementwise,
  Div: elementwise,
  Exp: unary,
  Sigmoid: unary,
  Erf: unary,
  // ONNX Runtime joins its own Gelu with the addition of a bias before it, and ONNX's not.
  Gelu: { ...unary, domain: "com.microsoft" },
  FastGelu: {
    domain: "com.microsoft",
    infer(inputs) {
      if (at(inputs, 0).shape.length === 0) throw new GraphError("ONNX Runtime takes no single number");
      return unary.infer(inputs, {});
    },
  },
  Softmax: lastAxis,
  LogSoftmax: lastAxis,
  QuickGelu: {
    domain: "com.microsoft",
    infer: (inputs) => unary.infer(inputs, {}),
    encode: (_inputs, { alpha }) => ({ floats: { alpha } }),
  },
  SimplifiedLayerNormalization: {
    // Registered in the default domain of ONNX Runtime although ONNX has no such operator.
    domain: "",
    infer(inputs) {
      arity(inputs, 2);
      const [x, weight] = [at(inputs, 0), at(inputs, 1)];
      expectShape("the weight", weight.shape, [size(x.shape, -1)]);
      return [
        { dtype: x.dtype, shape: x.shape },
        { dtype: x.dtype, shape: [...x.shape.slice(0, -1), 1] },
      ];
    },
    encode: (_inputs, { epsilon }) => ({ ints: { axis: -1, stash_type: 1 }, floats: { epsilon } }),
  },
  LayerNormalization: {
    domain: "",
    infer(inputs) {
      arity(inputs, 3);
      const [x, weight, bias] = [at(inputs, 0), at(inputs, 1), at(inputs, 2)];
      expectShape("the weight", weight.shape, [size(x.shape, -1)]);
      expectShape("the bias", bias.shape, weight.shape);
      const perRow = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), 1] };
      return [{ dtype: x.dtype, shape: x.shape }, perRow, perRow];
    },
    encode: (_inputs, { epsilon }) => ({ ints: { axis: -1, stash_type: 1 }, floats: { epsilon } }),
  },
  RotaryEmbedding: {
    domain: "com.microsoft",
    infer(inputs, { numHeads }) {
      arity(inputs, 4);
      const [x, positions, cos, sin] = [at(inputs, 0), at(inputs, 1), at(inputs, 2), at(inputs, 3)];
      if (x.shape.length !== 3) throw new GraphError(`x must be [B, T, heads*E], is ${formatShape(x.shape)}`);
      expectShape("positions", positions.shape, x.shape.slice(0, 2));
      if (positions.dtype !== "int64")
        throw new GraphError(`positions must be int64, are ${positions.dtype}`);
      const headWidth = quotient(size(x.shape, -1), numHeads);
      const half = headWidth === null ? null : quotient(headWidth, 2);
      if (half === null)
        throw new GraphError(`${numHeads} heads of even width do not make up ${size(x.shape, -1)}`);
      expectShape("cos", cos.shape, [size(cos.shape, 0), half]);
      expectShape("sin", sin.shape, cos.shape);
      return [{ dtype: x.dtype, shape: x.shape }];
    },
    encode: (_inputs, { numHeads }) => ({ ints: { num_heads: numHeads, interleaved: 0 } }),
  },
  FusedMatMul: {
    domain: "com.microsoft",
    infer(inputs, { transA, transB }) {
      arity(inputs, 2);
      const [a, b] = [at(inputs, 0), at(inputs, 1)];
      const [rows, columns] = matrixSizes(a.shape, b.shape, transA, transB);
      const batch = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2));
      if (batch === null) throw new GraphError("the leading axes do not broadcast");
      return [{ dtype: a.dtype, shape: [...batch, rows, columns] }];
    },
    encode: (_inputs, { transA, transB, alpha }) => ({
      ints: { transA: Number(transA), transB: Number(transB) },
      floats: { alpha },
    }),
  },
  Gemm: {
    domain: "",
    infer(inputs, { transA, transB }) {
      arity(inputs, 2, 3);
      const [a, b, c] = [at(inputs, 0), at(inputs, 1), inputs[2]];
      if (a.shape.length !== 2 || b.shape.length !== 2) throw new GraphError("A and B must be matrices");
      const shape = matrixSizes(a.shape, b.shape, transA, transB);
      if (c !== undefined) expectShape("C", c.shape, shape);
      return [{ dtype: a.dtype, shape }];
    },
    encode: (_inputs, { transA, transB, alpha }) => ({
      ints: { transA: Number(transA), transB: Number(transB) },
      floats: { alpha, beta: 1 },
    }),
  },
  Reshape: {
    domain: "",
    infer(inputs, { shape }) {
      arity(inputs, 1);
      const x = at(inputs, 0);
      if (product(x.shape) !== product(shape)) {
        throw new GraphError(`${product(x.shape)} elements do not fit into ${formatShape(shape)}`);
      }
      reshapeVector(x.shape, shape);
      return [{ dtype: x.dtype, shape }];
    },
    encode: (inputs, { shape }) => ({ vector: reshapeVector(at(inputs, 0).shape, shape) }),
  },
  Transpose: {
    domain: "",
    infer(inputs, { permutation }) {
      arity(inputs, 1);
      const { dtype, shape } = at(inputs, 0);
      const sorted = [...permutation].sort((a, b) => a - b);
      if (sorted.length !== shape.length || sorted.some((axis, i) => axis !== i)) {
        throw new GraphError(`[${permutation.join(", ")}] does not permute ${formatShape(shape)}`);
      }
      return [{ dtype, shape: permutation.map((axis) => size(shape, axis)) }];
    },
    encode: (_inputs, { permutation }) => ({ intLists: { perm: permutation } }),
  },
  Concat: {
    domain: "",
    infer(inputs, { axis }) {
      const first = at(inputs, 0);
      const sizes = inputs.map((input) => size(input.shape, axis));
      const place = axis < 0 ? first.shape.length + axis : axis;
      for (const input of inputs) {
        expectShape("each input", input.shape.toSpliced(place, 1), first.shape.toSpliced(place, 1));
      }
      return [{ dtype: first.dtype, shape: first.shape.with(place, total(sizes)) }];
    },
    encode: (_inputs, { axis }) => ({ ints: { axis } }),
  },
  Split: {
    domain: "",
    infer(inputs, { axis, sizes }) {
      arity(inputs, needsSizes(sizes) ? 2 : 1);
      const { dtype, shape } = at(inputs, 0);
      if (inputs.length === 2) expectShape("the sizes input", at(inputs, 1).shape, [sizes.length]);
      if (size(shape, axis) !== total(sizes))
        throw new GraphError(`sizes ${sizes.join(" + ")} are not ${size(shape, axis)}`);
      return sizes.map((one) => ({ dtype, shape: shape.with(axis < 0 ? shape.length + axis : axis, one) }));
    },
    encode: (inputs, { axis, sizes }) => {
      if (inputs.length === 2) return { ints: { axis } };
      if (sizes.every((one) => typeof one === "number")) return { ints: { axis }, vector: sizes };
      return { ints: { axis, num_outputs: sizes.length } };
    },
  },
  Gather: {
    domain: "",
    infer(inputs, { inverse }) {
      arity(inputs, 2);
      const [x, indices] = [at(inputs, 0), at(inputs, 1)];
      expectIndices(indices);
      if (inverse !== null) expectShape("inverse, flattened,", [product(inverse.shape)], [size(x.shape, 0)]);
      return [{ dtype: x.dtype, shape: [...indices.shape, ...x.shape.slice(1)] }];
    },
    encode: () => ({ ints: { axis: 0 } }),
  },
  GatherElements: {
    domain: "",
    infer(inputs) {
      arity(inputs, 2);
      const [x, indices] = [at(inputs, 0), at(inputs, 1)];
      expectIndices(indices);
      expectShape("indices", indices.shape, [...x.shape.slice(0, -1), 1]);
      return [{ dtype: x.dtype, shape: indices.shape }];
    },
    encode: () => ({ ints: { axis: -1 } }),
  },
  ReduceSum: {
    domain: "",
    infer: (inputs, { axes, keepDims }) => reduction(inputs, axes, keepDims),
    encode: (_inputs, { axes, keepDims }) => ({ ints: { keepdims: Number(keepDims) }, vector: axes }),
  },
  ReduceMax: {
    domain: "",
    infer: (inputs, { axes, keepDims }) => reduction(inputs, axes, keepDims),
    encode: (_inputs, { axes, keepDims }) => ({ ints: { keepdims: Number(keepDims) }, vector: axes }),
  },
};

// Symbolic tensors: a graph is a list of operator nodes in running order. It holds no data but small constants, and knows
// neither ONNX Runtime nor what a language model is.
import { formatShape, sameShape } from "./dimensions.ts";
import type { Dimension, Shape } from "./dimensions.ts";
import { OPS } from "./ops.ts";
import { GraphError } from "./value.ts";
import type { Constant, DataType, Node, OpAttributes, OpKind, TensorType, Value } from "./value.ts";

/** Emits the gradients of a composite's inputs, one each, given that of its output. */
export type CompositeGradient = (dy: Value) => readonly Value[];

export class Graph {
  readonly inputs: Value[] = [];
  readonly constants: Constant[] = [];
  readonly nodes: Node[] = [];
  readonly outputs: { name: string; value: Value }[] = [];
  /** By output: what `backward` does instead of walking through the nodes that compute it. */
  readonly composites = new Map<Value, { inputs: readonly Value[]; gradient: CompositeGradient }>();
  readonly #names = new Set<string>();

  /** Declares a tensor that is fed when the graph runs. */
  input(name: string, dtype: DataType, shape: Shape): Value {
    if (this.#names.has(name)) throw new GraphError(`internal: the graph already has an input named ${name}`);
    this.#names.add(name);
    const value: Value = { name, dtype, shape, node: null };
    this.inputs.push(value);
    return value;
  }

  /** A small constant; a single number is a scalar. */
  constant(data: number | readonly number[], dtype: DataType = "float32", shape?: Shape): Value {
    const list = typeof data === "number" ? [data] : data;
    const value: Value = {
      name: `constant_${this.constants.length}`,
      dtype,
      shape: shape ?? (typeof data === "number" ? [] : [list.length]),
      node: null,
    };
    this.constants.push({ value, data: list });
    return value;
  }

  /** Names a tensor that a run gives back. */
  output(name: string, value: Value): void {
    if (this.outputs.some((output) => output.name === name)) {
      throw new GraphError(`internal: the graph already has an output named ${name}`);
    }
    this.outputs.push({ name, value });
  }

  /** Appends an operator; its outputs' types come from its shape rule, which throws GraphError on a mismatch. */
  apply<K extends OpKind>(kind: K, inputs: readonly Value[], attributes: OpAttributes[K]): readonly Value[] {
    let types: readonly TensorType[];
    try {
      types = OPS[kind].infer(inputs, attributes);
    } catch (error) {
      if (!(error instanceof GraphError)) throw error;
      const given = inputs
        .map((input) => `${input.name} ${input.dtype}${formatShape(input.shape)}`)
        .join(", ");
      throw new GraphError(`internal: ${kind}(${given}): ${error.message}`, { cause: error });
    }
    const outputs: Value[] = [];
    const name = `${kind}_${this.nodes.length}`;
    const node: Node<K> = { kind, name, inputs, attributes, outputs };
    for (const [i, type] of types.entries()) {
      outputs.push({ ...type, name: i === 0 ? name : `${name}_${i}`, node: node });
    }
    this.nodes.push(node);
    return outputs;
  }

  /** `apply` for an operator with one output. */
  op<K extends OpKind>(kind: K, inputs: readonly Value[], attributes: OpAttributes[K]): Value {
    return this.apply(kind, inputs, attributes)[0] as Value;
  }

  /**
   * Says that `output` depends on `inputs` alone, through nodes no one else looks into, and has this backward rule: one in
   * closed form takes fewer passes over memory, and can compute again what it would cost more to keep.
   */
  composite(output: Value, inputs: readonly Value[], gradient: CompositeGradient): Value {
    this.composites.set(output, { inputs, gradient });
    return output;
  }

  add = (a: Value, b: Value): Value => this.op("Add", [a, b], {});
  sub = (a: Value, b: Value): Value => this.op("Sub", [a, b], {});
  mul = (a: Value, b: Value): Value => this.op("Mul", [a, b], {});

  /** alpha * op(a) op(b) over the last two axes. */
  matmul(a: Value, b: Value, options: { transA?: boolean; transB?: boolean; alpha?: number } = {}): Value {
    const { transA = false, transB = false, alpha = 1 } = options;
    return this.op("FusedMatMul", [a, b], { transA, transB, alpha });
  }

  /** alpha * op(a) op(b) + c for matrices. */
  gemm(
    a: Value,
    b: Value,
    options: { transA?: boolean; transB?: boolean; alpha?: number; c?: Value } = {},
  ): Value {
    const { transA = false, transB = false, alpha = 1, c } = options;
    return this.op("Gemm", c === undefined ? [a, b] : [a, b, c], { transA, transB, alpha });
  }

  /** Leaves out a reshape that changes nothing or undoes the one before it. */
  reshape(x: Value, shape: readonly Dimension[]): Value {
    if (sameShape(x.shape, shape)) return x;
    const original = x.node?.kind === "Reshape" ? (x.node.inputs[0] as Value) : null;
    if (original !== null && sameShape(original.shape, shape)) return original;
    return this.op("Reshape", [x], { shape });
  }

  transpose(x: Value, permutation: readonly number[]): Value {
    return this.op("Transpose", [x], { permutation });
  }

  sum(x: Value, axes: readonly number[], keepDims = true): Value {
    return this.op("ReduceSum", [x], { axes, keepDims });
  }
}

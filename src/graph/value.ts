// The vocabulary of the graph room: tensors, nodes, and the operators a graph may hold (by their ONNX names) with the typed
// attributes of each. Adding an operator here makes ops.ts and gradients.ts fail to compile until they say its shape rule
// and its backward rule.
import { TunesmithError } from "../errors.ts";
import type { Dimension, Shape } from "./dimensions.ts";

export type DataType = "float32" | "int64" | "int32";

export interface TensorType {
  readonly dtype: DataType;
  readonly shape: Shape;
}

/** One tensor of a graph. Two values are the same tensor only if they are the same object. */
export interface Value extends TensorType {
  readonly name: string;
  /** Null for inputs and constants. */
  readonly node: Node | null;
}

export interface Node<K extends OpKind = OpKind> {
  readonly kind: K;
  readonly name: string;
  readonly inputs: readonly Value[];
  readonly attributes: OpAttributes[K];
  readonly outputs: readonly Value[];
}

export interface Constant {
  readonly value: Value;
  /** Row-major. */
  readonly data: readonly number[];
}

/** A graph that was put together wrongly: a bug in the code that builds it, never in a user's data. */
export class GraphError extends TunesmithError {
  override readonly name = "GraphError";
}

type None = Record<never, never>;

export interface OpAttributes {
  Add: None;
  Sub: None;
  Mul: None;
  Div: None;
  Exp: None;
  Sigmoid: None;
  Erf: None;
  /** x Φ(x) with the exact normal distribution Φ, as BERT has it. */
  Gelu: None;
  /** The same with Φ approximated by a hyperbolic tangent: x sigmoid(u) with u = √(8/π) (x + 0.044715 x³). */
  FastGelu: None;
  /** x * sigmoid(x) when alpha is 1, which is the only use here: SiLU. */
  QuickGelu: { alpha: 1 };
  /** Over the last axis. */
  Softmax: None;
  LogSoftmax: None;
  /** Inputs x [..., D], weight [D]; outputs x * inv * weight and inv [..., 1] = 1 / sqrt(mean(x²) + epsilon). */
  SimplifiedLayerNormalization: { epsilon: number };
  /**
   * Inputs x [..., D], weight [D], bias [D]; outputs (x - mean) * inv * weight + bias, and mean and inv [..., 1] with
   * inv = 1 / sqrt(variance + epsilon).
   */
  LayerNormalization: { epsilon: number };
  /**
   * Inputs x [B, T, heads*E], positions [B, T] int64, cos and sin caches [P, E/2] with P >= T and above every position;
   * rotate-half pairs (i, i + E/2).
   */
  RotaryEmbedding: { numHeads: number };
  /** alpha * op(A) op(B), batched with broadcasting of the leading axes; op transposes the last two axes. */
  FusedMatMul: { transA: boolean; transB: boolean; alpha: number };
  /** alpha * op(A) op(B) + C for matrices; C may be left out and must have the full shape. */
  Gemm: { transA: boolean; transB: boolean; alpha: number };
  Reshape: { shape: readonly Dimension[] };
  Transpose: { permutation: readonly number[] };
  Concat: { axis: number };
  /** Cuts `axis` into `sizes`; where these are different names, the second input carries them as int64 at run time. */
  Split: { axis: number; sizes: readonly Dimension[] };
  /**
   * Rows of the first axis by index. `inverse` (as many int32 as x has rows), where given, says at which flat place of the
   * result row n of x stands, and makes the backward pass a Gather too. It asks two things of the caller: places of the
   * result that are no row's place (padding) carry no gradient, and a row that stands nowhere (its entry is then any
   * place) is multiplied by zero before, because what arrives there as its gradient means nothing.
   */
  Gather: { inverse: Value | null };
  /** x [N, V], indices [N, 1] int64: one element of each row. */
  GatherElements: None;
  ReduceSum: { axes: readonly number[]; keepDims: boolean };
  ReduceMax: { axes: readonly number[]; keepDims: boolean };
}

export type OpKind = keyof OpAttributes;

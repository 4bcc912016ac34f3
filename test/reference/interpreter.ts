// Evaluates a graph in plain float64 loops, so that gradients can be checked far below float32's noise and without native
// code. It shares nothing with src/ but the graph's types, and it checks every shape that the graph claims.
import type { Graph } from "../../src/graph/graph.ts";
import type { Node, OpAttributes, OpKind, Value } from "../../src/graph/value.ts";

/** Row-major; integers are held as float64 too. */
export interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

export type TensorFeeds = Readonly<Record<string, Tensor>>;

/** What a dimension's text ("3*B*T", "S+T") comes to with this run's sizes. */
type SizeOf = (dimension: number | string) => number;

type Kernel<K extends OpKind> = (
  inputs: readonly Tensor[],
  attributes: OpAttributes[K],
  sizeOf: SizeOf,
) => readonly Tensor[];

/** The graph's outputs by name. Throws where a fed or computed shape is not the one the graph claims. */
export function evaluate(graph: Graph, feeds: TensorFeeds): Record<string, Tensor> {
  const sizes = new Map<string, number>();
  const sizeOf: SizeOf = (dimension) =>
    String(dimension)
      .split("+")
      .map((term) => term.split("*").reduce((total, factor) => total * sizeOfFactor(sizes, factor), 1))
      .reduce((sum, term) => sum + term, 0);
  const fed = graph.inputs.map((input): [Value, Tensor] => {
    const tensor = feeds[input.name];
    if (tensor === undefined) throw new Error(`the interpreter needs input ${input.name}`);
    return [input, tensor];
  });
  // Twice, because "2*T" of an early input may need a name that a later one brings.
  for (const [input, { shape }] of [...fed, ...fed]) {
    for (const [i, dimension] of input.shape.entries()) bind(sizes, dimension, at(shape, i));
  }
  const known = new Map<Value, Tensor>();
  const define = (value: Value, tensor: Tensor): void => {
    const claimed = value.shape.map(sizeOf);
    if (claimed.join() !== tensor.shape.join() || elements(claimed) !== tensor.data.length) {
      throw new Error(`${value.name} claims [${claimed.join()}], is [${tensor.shape.join()}]`);
    }
    known.set(value, tensor);
  };
  for (const [value, tensor] of fed) define(value, tensor);
  for (const { value, data } of graph.constants) {
    define(value, { shape: value.shape.map(sizeOf), data: Float64Array.from(data) });
  }
  const read = (value: Value): Tensor => {
    const tensor = known.get(value);
    if (tensor === undefined) throw new Error(`${value.name} is read before it is computed`);
    return tensor;
  };
  for (const node of graph.nodes) {
    const results = run(node, node.inputs.map(read), sizeOf);
    if (results.length !== node.outputs.length)
      throw new Error(`${node.name} gave ${results.length} outputs`);
    for (const [i, output] of node.outputs.entries()) define(output, results[i] as Tensor);
  }
  return Object.fromEntries(graph.outputs.map(({ name, value }) => [name, read(value)]));
}

function run<K extends OpKind>(node: Node<K>, inputs: readonly Tensor[], sizeOf: SizeOf): readonly Tensor[] {
  return KERNELS[node.kind](inputs, node.attributes, sizeOf);
}

function sizeOfFactor(sizes: ReadonlyMap<string, number>, factor: string): number {
  const size = /^\d+$/.test(factor) ? Number(factor) : sizes.get(factor);
  if (size === undefined) throw new Error(`no input says how large ${factor} is`);
  return size;
}

/** Learns the one name of a product that is not known yet. */
function bind(sizes: Map<string, number>, dimension: number | string, size: number): void {
  const factors = String(dimension).split("*");
  const unknown = factors.filter((factor) => /^[A-Za-z]\w*$/.test(factor) && !sizes.has(factor));
  if (unknown.length !== 1 || factors.some((factor) => factor.includes("+"))) return;
  const known = factors.filter((factor) => factor !== unknown[0]);
  sizes.set(
    unknown[0] as string,
    known.reduce((rest, factor) => rest / sizeOfFactor(sizes, factor), size),
  );
}

/** Reads an array that cannot be undefined there; a bug in the interpreter otherwise. */
function at(values: ArrayLike<number>, i: number): number {
  const value = values[i];
  if (value === undefined) throw new Error(`index ${i} is outside of ${values.length}`);
  return value;
}

function elements(shape: readonly number[]): number {
  return shape.reduce((total, size) => total * size, 1);
}

function tensor(shape: readonly number[], valueAt: (coordinates: number[], flat: number) => number): Tensor {
  const data = new Float64Array(elements(shape));
  const coordinates = shape.map(() => 0);
  for (let flat = 0; flat < data.length; flat++) {
    data[flat] = valueAt(coordinates, flat);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      coordinates[axis] = at(coordinates, axis) + 1;
      if (at(coordinates, axis) < at(shape, axis)) break;
      coordinates[axis] = 0;
    }
  }
  return { shape, data };
}

/** The element at some coordinates, aligned at the last axis; an axis of size 1 repeats. */
function pick({ shape, data }: Tensor, coordinates: readonly number[]): number {
  const skipped = coordinates.length - shape.length;
  let flat = 0;
  for (const [i, size] of shape.entries())
    flat = flat * size + (size === 1 ? 0 : at(coordinates, skipped + i));
  return at(data, flat);
}

function broadcastShape(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const [left = 1, right = 1] = [a[i - rank + a.length], b[i - rank + b.length]];
    if (left !== right && left !== 1 && right !== 1)
      throw new Error(`${left} does not broadcast with ${right}`);
    return left === 1 ? right : left;
  });
}

function elementwise(f: (a: number, b: number) => number): Kernel<"Add" | "Sub" | "Mul" | "Div"> {
  return ([a, b]) => {
    const [left, right] = [a as Tensor, b as Tensor];
    return [
      tensor(broadcastShape(left.shape, right.shape), (place) => f(pick(left, place), pick(right, place))),
    ];
  };
}

function unary(f: (x: number) => number): Kernel<"Exp" | "Sigmoid" | "Erf" | "Gelu" | "FastGelu"> {
  return ([x]) => [{ shape: (x as Tensor).shape, data: (x as Tensor).data.map(f) }];
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** By its series of positive terms (Abramowitz and Stegun 7.1.6), exact to float64 where it is summed. */
function erf(x: number): number {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  let [term, sum] = [size, size];
  for (let n = 1; term > sum * 1e-17; n++) sum += term *= (2 * size * size) / (2 * n + 1);
  return (Math.sign(x) * 2 * Math.exp(-size * size) * sum) / Math.sqrt(Math.PI);
}

/** Applies `f` to every row of the last axis. */
function alongRows({ shape, data }: Tensor, f: (row: Float64Array) => ArrayLike<number>): Tensor {
  const width = at(shape, shape.length - 1);
  const result = new Float64Array(data.length);
  for (let start = 0; start < data.length; start += width)
    result.set(f(data.subarray(start, start + width)), start);
  return { shape, data: result };
}

function logSoftmax(row: Float64Array): Float64Array {
  const largest = Math.max(...row);
  const total = row.reduce((sum, x) => sum + Math.exp(x - largest), 0);
  return row.map((x) => x - largest - Math.log(total));
}

/** alpha * op(a) op(b), batched with broadcasting. */
function matmul(a: Tensor, b: Tensor, { transA, transB, alpha }: OpAttributes["FusedMatMul"]): Tensor {
  const batch = broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const [rowsA, columnsA] = [at(a.shape, a.shape.length - 2), at(a.shape, a.shape.length - 1)];
  const [rowsB, columnsB] = [at(b.shape, b.shape.length - 2), at(b.shape, b.shape.length - 1)];
  const inner = transA ? rowsA : columnsA;
  if (inner !== (transB ? columnsB : rowsB)) throw new Error("the inner sizes of a matrix product differ");
  return tensor([...batch, transA ? columnsA : rowsA, transB ? rowsB : columnsB], (place) => {
    const [lead, row, column] = [place.slice(0, -2), at(place, batch.length), at(place, batch.length + 1)];
    let sum = 0;
    for (let k = 0; k < inner; k++) {
      const left = pickMatrix(a, lead, transA ? k : row, transA ? row : k);
      sum += left * pickMatrix(b, lead, transB ? column : k, transB ? k : column);
    }
    return alpha * sum;
  });
}

/** As `pick`, but the last two axes never repeat. */
function pickMatrix({ shape, data }: Tensor, lead: readonly number[], row: number, column: number): number {
  const rank = shape.length - 2;
  let flat = 0;
  for (let i = 0; i < rank; i++) {
    const size = at(shape, i);
    flat = flat * size + (size === 1 ? 0 : at(lead, lead.length - rank + i));
  }
  return at(data, (flat * at(shape, rank) + row) * at(shape, rank + 1) + column);
}

function reduce(
  x: Tensor,
  { axes, keepDims }: OpAttributes["ReduceSum"],
  start: number,
  f: (sum: number, value: number) => number,
): Tensor {
  const reduced = new Set(axes.map((axis) => (axis + x.shape.length) % x.shape.length));
  const kept: Tensor = tensor(
    x.shape.map((size, axis) => (reduced.has(axis) ? 1 : size)),
    () => start,
  );
  tensor(x.shape, (place, flat) => {
    let target = 0;
    for (const [axis, size] of kept.shape.entries())
      target = target * size + (size === 1 ? 0 : at(place, axis));
    kept.data[target] = f(at(kept.data, target), at(x.data, flat));
    return 0;
  });
  return keepDims ? kept : { shape: x.shape.filter((_, axis) => !reduced.has(axis)), data: kept.data };
}

/** Cuts an axis into pieces of the given sizes. */
function split(x: Tensor, axis: number, sizes: readonly number[]): Tensor[] {
  const place = (axis + x.shape.length) % x.shape.length;
  if (sizes.reduce((sum, size) => sum + size, 0) !== x.shape[place])
    throw new Error("the pieces do not fill the axis");
  let start = 0;
  return sizes.map((size) => {
    const from = start;
    start += size;
    return tensor(x.shape.with(place, size), (coordinates) =>
      pick(x, coordinates.with(place, at(coordinates, place) + from)),
    );
  });
}

function concat(parts: readonly Tensor[], axis: number): Tensor {
  const first = parts[0] as Tensor;
  const place = (axis + first.shape.length) % first.shape.length;
  const total = parts.reduce((sum, part) => sum + at(part.shape, place), 0);
  return tensor(first.shape.with(place, total), (coordinates) => {
    let offset = at(coordinates, place);
    for (const part of parts) {
      const size = at(part.shape, place);
      if (offset < size) return pick(part, coordinates.with(place, offset));
      offset -= size;
    }
    throw new Error("no part holds this place");
  });
}

export const KERNELS: { readonly [K in OpKind]: Kernel<K> } = {
  Add: elementwise((a, b) => a + b),
  Sub: elementwise((a, b) => a - b),
  Mul: elementwise((a, b) => a * b),
  Div: elementwise((a, b) => a / b),
  Exp: unary(Math.exp),
  Sigmoid: unary(sigmoid),
  Erf: unary(erf),
  Gelu: unary((x) => (x * (1 + erf(x * Math.SQRT1_2))) / 2),
  FastGelu: unary((x) => (x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))) / 2),
  QuickGelu: ([x], { alpha }) => unary((value) => value * sigmoid(alpha * value))([x as Tensor], {}, Number),
  Softmax: ([x]) => [alongRows(x as Tensor, (row) => logSoftmax(row).map(Math.exp))],
  LogSoftmax: ([x]) => [alongRows(x as Tensor, logSoftmax)],
  SimplifiedLayerNormalization([x, weight], { epsilon }) {
    const input = x as Tensor;
    const inverses: number[] = [];
    const y = alongRows(input, (row) => {
      const meanSquare = row.reduce((sum, value) => sum + value * value, 0) / row.length;
      const inverse = 1 / Math.sqrt(meanSquare + epsilon);
      inverses.push(inverse);
      return row.map((value, i) => value * inverse * at((weight as Tensor).data, i));
    });
    return [y, { shape: [...input.shape.slice(0, -1), 1], data: Float64Array.from(inverses) }];
  },
  LayerNormalization([x, weight, bias], { epsilon }) {
    const input = x as Tensor;
    const [means, inverses]: [number[], number[]] = [[], []];
    const y = alongRows(input, (row) => {
      const mean = row.reduce((sum, value) => sum + value, 0) / row.length;
      const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length;
      const inverse = 1 / Math.sqrt(variance + epsilon);
      means.push(mean);
      inverses.push(inverse);
      return row.map(
        (value, i) =>
          (value - mean) * inverse * at((weight as Tensor).data, i) + at((bias as Tensor).data, i),
      );
    });
    const perRow = (values: number[]): Tensor => ({
      shape: [...input.shape.slice(0, -1), 1],
      data: Float64Array.from(values),
    });
    return [y, perRow(means), perRow(inverses)];
  },
  RotaryEmbedding([x, positions, cos, sin], { numHeads }) {
    const { shape, data } = x as Tensor;
    const [tokens, width] = [at(shape, 0) * at(shape, 1), at(shape, 2)];
    const headWidth = width / numHeads;
    const half = headWidth / 2;
    const result = new Float64Array(data.length);
    for (let n = 0; n < tokens; n++) {
      const position = at((positions as Tensor).data, n);
      for (let head = 0; head < numHeads; head++) {
        for (let i = 0; i < half; i++) {
          const c = at((cos as Tensor).data, position * half + i);
          const s = at((sin as Tensor).data, position * half + i);
          const low = n * width + head * headWidth + i;
          const [a, b] = [at(data, low), at(data, low + half)];
          result[low] = a * c - b * s;
          result[low + half] = b * c + a * s;
        }
      }
    }
    return [{ shape, data: result }];
  },
  FusedMatMul: ([a, b], attributes) => [matmul(a as Tensor, b as Tensor, attributes)],
  Gemm([a, b, c], attributes) {
    const product = matmul(a as Tensor, b as Tensor, attributes);
    if (c !== undefined && c.shape.join() !== product.shape.join()) throw new Error("C has another shape");
    return [
      {
        shape: product.shape,
        data: product.data.map((value, i) => value + (c === undefined ? 0 : at(c.data, i))),
      },
    ];
  },
  Reshape: ([x], { shape }, sizeOf) => [{ shape: shape.map(sizeOf), data: (x as Tensor).data }],
  Transpose([x], { permutation }) {
    const input = x as Tensor;
    return [
      tensor(
        permutation.map((axis) => at(input.shape, axis)),
        (place) => {
          const source: number[] = [];
          for (const [to, from] of permutation.entries()) source[from] = at(place, to);
          return pick(input, source);
        },
      ),
    ];
  },
  Concat: (inputs, { axis }) => [concat(inputs, axis)],
  Split([x, sizes], { axis, sizes: named }, sizeOf) {
    const pieces = named.map(sizeOf);
    if (sizes !== undefined && sizes.data.join() !== pieces.join())
      throw new Error("the fed sizes are others");
    return split(x as Tensor, axis, pieces);
  },
  Gather([x, indices]) {
    const [rows, places] = [x as Tensor, indices as Tensor];
    const width = elements(rows.shape.slice(1));
    const data = new Float64Array(places.data.length * width);
    for (const [i, row] of places.data.entries()) {
      if (row < 0 || row >= at(rows.shape, 0)) throw new Error(`there is no row ${row}`);
      data.set(rows.data.subarray(row * width, (row + 1) * width), i * width);
    }
    return [{ shape: [...places.shape, ...rows.shape.slice(1)], data }];
  },
  GatherElements([x, indices]) {
    const [rows, places] = [x as Tensor, indices as Tensor];
    return [tensor(places.shape, (place, flat) => pick(rows, place.with(-1, at(places.data, flat))))];
  },
  ReduceSum: ([x], attributes) => [reduce(x as Tensor, attributes, 0, (sum, value) => sum + value)],
  ReduceMax: ([x], attributes) => [reduce(x as Tensor, attributes, -Infinity, Math.max)],
};

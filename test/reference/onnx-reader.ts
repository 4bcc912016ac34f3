// Reads the bytes of onnx.ts back into a graph, so that tests can prove that nothing is lost on the way. Knows only what that
// writer writes; field numbers are those of onnx.proto3. Gather's inverse is not in the bytes: it comes back as null.
import { product, quotient } from "../../src/graph/dimensions.ts";
import type { Dimension } from "../../src/graph/dimensions.ts";
import { Graph } from "../../src/graph/graph.ts";
import type { DataType, OpAttributes, OpKind, Value } from "../../src/graph/value.ts";

type Field = { number: number; bytes: Uint8Array; varint: number; float: number };

/** Fields of a message in order; which of the three values counts follows from the field. */
export function readFields(message: Uint8Array): Field[] {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  let at = 0;
  const varint = (): number => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = view.getUint8(at++);
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(BigInt.asIntN(64, value));
    }
  };
  const fields: Field[] = [];
  while (at < message.length) {
    const tag = varint();
    const field: Field = { number: Math.floor(tag / 8), bytes: new Uint8Array(), varint: NaN, float: NaN };
    switch (tag % 8) {
      case 0:
        field.varint = varint();
        break;
      case 2: {
        const length = varint();
        if (at + length > message.length) throw new Error("a field is longer than its message");
        field.bytes = message.subarray(at, at + length);
        at += length;
        break;
      }
      case 5:
        field.float = view.getFloat32(at, true);
        at += 4;
        break;
      default:
        throw new Error(`wire type ${tag % 8} is not written by onnx.ts`);
    }
    fields.push(field);
  }
  return fields;
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const all = (fields: Field[], number: number): Field[] => fields.filter((field) => field.number === number);
const texts = (fields: Field[], number: number): string[] =>
  all(fields, number).map(({ bytes }) => text(bytes));
const first = (fields: Field[], number: number): Field => {
  const field = fields.find((one) => one.number === number);
  if (field === undefined) throw new Error(`field ${number} is missing`);
  return field;
};

const DATA_TYPES: Record<number, DataType> = { 1: "float32", 6: "int32", 7: "int64" };

/** What stands in a node beside its inputs. */
interface NodeForm {
  int: (name: string) => number;
  float: (name: string) => number;
  ints: (name: string) => number[];
  has: (name: string) => boolean;
  /** The int64 vector behind the inputs. */
  vector: number[];
  /** Shapes of the outputs, as the model states them. */
  outputs: (readonly Dimension[])[];
}

const ATTRIBUTES: { [K in OpKind]: (form: NodeForm, inputs: readonly Value[]) => OpAttributes[K] } = {
  Add: () => ({}),
  Sub: () => ({}),
  Mul: () => ({}),
  Div: () => ({}),
  Exp: () => ({}),
  Sigmoid: () => ({}),
  Erf: () => ({}),
  Gelu: () => ({}),
  FastGelu: () => ({}),
  QuickGelu: ({ float }) => ({ alpha: expectOne(float("alpha"), 1) }),
  Softmax: ({ int }) => (expectOne(int("axis"), -1), {}),
  LogSoftmax: ({ int }) => (expectOne(int("axis"), -1), {}),
  SimplifiedLayerNormalization: ({ int, float }) => (
    expectOne(int("axis"), -1),
    { epsilon: float("epsilon") }
  ),
  LayerNormalization: ({ int, float }) => (expectOne(int("axis"), -1), { epsilon: float("epsilon") }),
  RotaryEmbedding: ({ int }) => (expectOne(int("interleaved"), 0), { numHeads: int("num_heads") }),
  FusedMatMul: ({ int, float }) => ({ ...transposes(int), alpha: float("alpha") }),
  Gemm: ({ int, float }) => (expectOne(float("beta"), 1), { ...transposes(int), alpha: float("alpha") }),
  Reshape: ({ vector }, [x]) => ({ shape: shapeOf((x as Value).shape, vector) }),
  Transpose: ({ ints }) => ({ permutation: ints("perm") }),
  Concat: ({ int }) => ({ axis: int("axis") }),
  Split({ int, has, vector, outputs }, [x, sizes]) {
    const axis = int("axis");
    const whole = (x as Value).shape.at(axis) as Dimension;
    if (has("num_outputs")) {
      const count = int("num_outputs");
      return { axis, sizes: Array.from({ length: count }, () => quotient(whole, count) as Dimension) };
    }
    return {
      axis,
      sizes: sizes === undefined ? vector : outputs.map((shape) => shape.at(axis) as Dimension),
    };
  },
  Gather: ({ int }) => (expectOne(int("axis"), 0), { inverse: null }),
  GatherElements: ({ int }) => (expectOne(int("axis"), -1), {}),
  ReduceSum: ({ int, vector }) => ({ axes: vector, keepDims: int("keepdims") === 1 }),
  ReduceMax: ({ int, vector }) => ({ axes: vector, keepDims: int("keepdims") === 1 }),
};

function expectOne<T extends number>(found: number, expected: T): T {
  if (found !== expected) throw new Error(`expected ${expected}, found ${found}`);
  return expected;
}

function transposes(int: (name: string) => number): { transA: boolean; transB: boolean } {
  return { transA: int("transA") === 1, transB: int("transB") === 1 };
}

/** 0 repeats the dimension at the same axis, -1 takes what is left. */
function shapeOf(from: readonly Dimension[], vector: readonly number[]): Dimension[] {
  const known = vector.map((one, i) => (one === 0 ? (from[i] as Dimension) : one));
  const rest = quotient(product(from), product(known.filter((one) => one !== -1))) as Dimension;
  return known.map((one) => (one === -1 ? rest : one));
}

/** The graph that was written. Throws where the bytes contradict themselves. */
export function readOnnx(model: Uint8Array): Graph {
  const body = readFields(first(readFields(model), 7).bytes);
  const g = new Graph();
  const values = new Map<string, Value>();
  const vectors = new Map<string, number[]>();
  for (const field of all(body, 11)) {
    const { name, dtype, shape } = readValueInfo(field.bytes);
    values.set(name, g.input(name, dtype, shape));
  }
  for (const field of all(body, 5)) {
    const { name, dtype, shape, data } = readTensor(field.bytes);
    if (name.endsWith("_vector")) vectors.set(name, data);
    else values.set(name, g.constant(data, dtype, shape));
  }
  const shapes = new Map(
    [...all(body, 12), ...all(body, 13)].map(({ bytes }) => {
      const { name, shape } = readValueInfo(bytes);
      return [name, shape];
    }),
  );
  for (const field of all(body, 1)) {
    const node = readFields(field.bytes);
    const kind = text(first(node, 4).bytes);
    const [inputNames, outputNames] = [texts(node, 1), texts(node, 2)];
    const inputs = inputNames.filter((name) => !vectors.has(name)).map((name) => known(values, name));
    if (kind === "Identity") {
      values.set(outputNames[0] as string, inputs[0] as Value);
      continue;
    }
    const vector = inputNames.flatMap((name) => vectors.get(name) ?? []);
    const outputs = applyNode(
      g,
      kind as OpKind,
      inputs,
      readForm(
        node,
        vector,
        outputNames.map((name) => shapes.get(name) ?? []),
      ),
    );
    if (outputs[0]?.node?.name !== text(first(node, 3).bytes))
      throw new Error(`a node of kind ${kind} has another name`);
    for (const [i, name] of outputNames.entries()) values.set(name, outputs[i] as Value);
  }
  for (const field of all(body, 12)) {
    const { name, dtype, shape } = readValueInfo(field.bytes);
    const value = known(values, name);
    if (value.dtype !== dtype || value.shape.join() !== shape.join())
      throw new Error(`output ${name} has another type`);
    g.output(name, value);
  }
  return g;
}

function applyNode<K extends OpKind>(
  g: Graph,
  kind: K,
  inputs: readonly Value[],
  form: NodeForm,
): readonly Value[] {
  return g.apply(kind, inputs, ATTRIBUTES[kind](form, inputs));
}

function known(values: ReadonlyMap<string, Value>, name: string): Value {
  const value = values.get(name);
  if (value === undefined) throw new Error(`${name} is read before it is written`);
  return value;
}

function readForm(node: Field[], vector: number[], outputs: (readonly Dimension[])[]): NodeForm {
  const attributes = new Map(
    all(node, 5).map(({ bytes }) => {
      const attribute = readFields(bytes);
      return [text(first(attribute, 1).bytes), attribute];
    }),
  );
  const find = (name: string): Field[] => {
    const attribute = attributes.get(name);
    if (attribute === undefined) throw new Error(`attribute ${name} is missing`);
    return attribute;
  };
  return {
    int: (name) => first(find(name), 3).varint,
    has: (name) => attributes.has(name),
    float: (name) => first(find(name), 2).float,
    ints: (name) => all(find(name), 8).map(({ varint }) => varint),
    vector,
    outputs,
  };
}

function readTensor(bytes: Uint8Array): { name: string; dtype: DataType; shape: number[]; data: number[] } {
  const fields = readFields(bytes);
  const dtype = DATA_TYPES[first(fields, 2).varint] as DataType;
  const raw = first(fields, 9).bytes;
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const width = dtype === "int64" ? 8 : 4;
  const data = Array.from({ length: raw.length / width }, (_, i) => {
    if (dtype === "int64") return Number(view.getBigInt64(i * width, true));
    return dtype === "int32" ? view.getInt32(i * width, true) : view.getFloat32(i * width, true);
  });
  return {
    name: text(first(fields, 8).bytes),
    dtype,
    shape: all(fields, 1).map(({ varint }) => varint),
    data,
  };
}

function readValueInfo(bytes: Uint8Array): { name: string; dtype: DataType; shape: Dimension[] } {
  const fields = readFields(bytes);
  const type = readFields(first(readFields(first(fields, 2).bytes), 1).bytes);
  const shape = all(readFields(first(type, 2).bytes), 1).map(({ bytes: one }): Dimension => {
    const dimension = first(readFields(one), readFields(one)[0]?.number ?? 0);
    return dimension.number === 1 ? dimension.varint : text(dimension.bytes);
  });
  return { name: text(first(fields, 1).bytes), dtype: DATA_TYPES[first(type, 1).varint] as DataType, shape };
}

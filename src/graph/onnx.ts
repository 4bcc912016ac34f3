// A graph as the bytes of an ONNX model. Field numbers: onnx/onnx.proto3 of ONNX 1.20. ONNX Runtime is not needed to write.
import { OPS } from "./ops.ts";
import type { OnnxForm, OpDefinition } from "./ops.ts";
import type { Graph } from "./graph.ts";
import { ProtobufWriter } from "./protobuf.ts";
import type { DataType, Node, OpKind, Value } from "./value.ts";
import { verify } from "./verify.ts";

/** Versions every ONNX Runtime from 1.20 on accepts; nothing newer is used. */
const IR_VERSION = 10;
const OPSET_VERSION = 21;
const MICROSOFT_OPSET_VERSION = 1;

const DATA_TYPE: Record<DataType, number> = { float32: 1, int32: 6, int64: 7 };
const ATTRIBUTE_FLOAT = 1;
const ATTRIBUTE_INT = 2;
const ATTRIBUTE_INTS = 7;

/** The bytes of a model with the graph's inputs and outputs under their names; verifies the graph first. */
export function encodeOnnx(graph: Graph): Uint8Array {
  verify(graph);
  const body = new ProtobufWriter();
  const vectors: { name: string; data: readonly number[] }[] = [];
  const { names, copies } = nameOutputs(graph);
  const nameOf = (value: Value): string => names.get(value) ?? value.name;
  for (const node of graph.nodes) {
    const form = (OPS[node.kind] as OpDefinition<OpKind>).encode?.(node.inputs, node.attributes) ?? {};
    const inputs = node.inputs.map(nameOf);
    if (form.vector !== undefined) {
      const name = `${node.name}_vector`;
      vectors.push({ name, data: form.vector });
      inputs.push(name);
    }
    body.message(1, encodeNode(node, inputs, node.outputs.map(nameOf), form));
  }
  for (const { name, value } of copies) {
    const identity = new ProtobufWriter().string(1, nameOf(value)).string(2, name).string(3, `copy_${name}`);
    body.message(1, identity.string(4, "Identity"));
  }
  body.string(2, "tunesmith");
  for (const { value, data } of graph.constants) body.message(5, encodeTensor(value.name, value, data));
  for (const { name, data } of vectors) {
    body.message(5, encodeTensor(name, { dtype: "int64", shape: [data.length] }, data));
  }
  for (const input of graph.inputs) body.message(11, encodeValueInfo(input.name, input));
  for (const { name, value } of graph.outputs) body.message(12, encodeValueInfo(name, value));
  // ONNX Runtime reuses the memory of tensors whose shapes it knows to be equal, and searches long where it does not know: its
  // own inference gives up at products of named sizes.
  const named = new Set(graph.outputs.map(({ name }) => name));
  for (const node of graph.nodes) {
    for (const output of node.outputs) {
      const name = nameOf(output);
      if (!named.has(name)) body.message(13, encodeValueInfo(name, output));
    }
  }

  return new ProtobufWriter()
    .varint(1, IR_VERSION)
    .string(2, "tunesmith")
    .message(7, body)
    .message(8, new ProtobufWriter().string(1, "").varint(2, OPSET_VERSION))
    .message(8, new ProtobufWriter().string(1, "com.microsoft").varint(2, MICROSOFT_OPSET_VERSION))
    .finish();
}

/**
 * A tensor that is given back is called by its output's name from the start: a copying node would cost a pass over it.
 * Inputs, constants and tensors that are given back twice need the copy.
 */
function nameOutputs(graph: Graph): { names: Map<Value, string>; copies: Graph["outputs"] } {
  const names = new Map<Value, string>();
  const copies: Graph["outputs"] = [];
  for (const output of graph.outputs) {
    if (output.value.node === null || names.has(output.value)) copies.push(output);
    else names.set(output.value, output.name);
  }
  return { names, copies };
}

function encodeNode(
  node: Node,
  inputs: readonly string[],
  outputs: readonly string[],
  form: OnnxForm,
): ProtobufWriter {
  const writer = new ProtobufWriter();
  for (const input of inputs) writer.string(1, input);
  for (const output of outputs) writer.string(2, output);
  writer.string(3, node.name).string(4, node.kind);
  for (const [name, value] of Object.entries(form.ints ?? {})) {
    writer.message(5, new ProtobufWriter().string(1, name).varint(3, value).varint(20, ATTRIBUTE_INT));
  }
  for (const [name, value] of Object.entries(form.floats ?? {})) {
    writer.message(5, new ProtobufWriter().string(1, name).float(2, value).varint(20, ATTRIBUTE_FLOAT));
  }
  for (const [name, values] of Object.entries(form.intLists ?? {})) {
    const attribute = new ProtobufWriter().string(1, name);
    for (const value of values) attribute.varint(8, value);
    writer.message(5, attribute.varint(20, ATTRIBUTE_INTS));
  }
  return writer.string(7, OPS[node.kind].domain);
}

function encodeTensor(
  name: string,
  type: Pick<Value, "dtype" | "shape">,
  data: readonly number[],
): ProtobufWriter {
  const writer = new ProtobufWriter();
  for (const dimension of type.shape) writer.varint(1, Number(dimension));
  const array =
    type.dtype === "int64"
      ? BigInt64Array.from(data, BigInt)
      : type.dtype === "int32"
        ? Int32Array.from(data)
        : Float32Array.from(data);
  return writer.varint(2, DATA_TYPE[type.dtype]).string(8, name).bytes(9, new Uint8Array(array.buffer));
}

function encodeValueInfo(name: string, { dtype, shape }: Pick<Value, "dtype" | "shape">): ProtobufWriter {
  const dimensions = new ProtobufWriter();
  for (const dimension of shape) {
    const one = new ProtobufWriter();
    dimensions.message(
      1,
      typeof dimension === "number" ? one.varint(1, dimension) : one.string(2, dimension),
    );
  }
  const tensor = new ProtobufWriter().varint(1, DATA_TYPE[dtype]).message(2, dimensions);
  return new ProtobufWriter().string(1, name).message(2, new ProtobufWriter().message(1, tensor));
}

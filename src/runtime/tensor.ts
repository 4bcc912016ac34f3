// Host tensors: a typed array and its shape. What flows between rooms; ONNX Runtime's own tensor class stays in session.ts.

export interface TensorData {
  float32: Float32Array;
  int32: Int32Array;
  int64: BigInt64Array;
}

export type TensorDataType = keyof TensorData;

/** Row-major. The creator owns `data`; a session reads it in place, so it must not change while a run is under way. */
export interface HostTensor<T extends TensorDataType = TensorDataType> {
  readonly dtype: T;
  readonly shape: readonly number[];
  readonly data: TensorData[T];
}

export function float32(data: Float32Array, shape: readonly number[]): HostTensor<"float32"> {
  return checked({ dtype: "float32", shape, data });
}

export function int32(data: Int32Array, shape: readonly number[]): HostTensor<"int32"> {
  return checked({ dtype: "int32", shape, data });
}

export function int64(data: BigInt64Array, shape: readonly number[]): HostTensor<"int64"> {
  return checked({ dtype: "int64", shape, data });
}

function checked<T extends TensorDataType>(tensor: HostTensor<T>): HostTensor<T> {
  const size = tensor.shape.reduce((product, dimension) => product * dimension, 1);
  if (size !== tensor.data.length) {
    throw new Error(
      `internal: shape [${tensor.shape.join(", ")}] holds ${size} elements, data has ${tensor.data.length}`,
    );
  }
  return tensor;
}

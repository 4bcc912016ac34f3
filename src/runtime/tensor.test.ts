import { expect, it } from "vitest";
import { float32, int32, int64 } from "./tensor.ts";

it("holds an array in place under its shape", () => {
  const data = Float32Array.of(1, 2, 3, 4, 5, 6);
  const tensor = float32(data, [2, 3]);
  expect(tensor).toEqual({ dtype: "float32", shape: [2, 3], data });
  expect(tensor.data).toBe(data);
  expect(int32(new Int32Array(1), []).dtype).toBe("int32");
  expect(int64(new BigInt64Array(0), [0, 5]).dtype).toBe("int64");
});

it("refuses a shape that does not hold the data", () => {
  expect(() => float32(new Float32Array(5), [2, 3])).toThrow(
    "internal: shape [2, 3] holds 6 elements, data has 5",
  );
  expect(() => int64(new BigInt64Array(2), [])).toThrow("internal: shape [] holds 1 elements, data has 2");
});

// The wire format against the examples of its specification (https://protobuf.dev/programming-guides/encoding/).
import fc from "fast-check";
import { expect, it } from "vitest";
import { readFields } from "../../test/reference/onnx-reader.ts";
import { ProtobufWriter } from "./protobuf.ts";

const hex = (writer: ProtobufWriter): string => Buffer.from(writer.finish()).toString("hex");

it("writes the specification's examples", () => {
  expect(hex(new ProtobufWriter().varint(1, 150))).toBe("089601");
  expect(hex(new ProtobufWriter().string(2, "testing"))).toBe("120774657374696e67");
  expect(hex(new ProtobufWriter().message(3, new ProtobufWriter().varint(1, 150)))).toBe("1a03089601");
  expect(hex(new ProtobufWriter().varint(1, -2))).toBe("08feffffffffffffffff01");
});

it("writes floats little-endian and field numbers above 15 in two bytes", () => {
  expect(hex(new ProtobufWriter().float(2, 1.5))).toBe("150000c03f");
  expect(hex(new ProtobufWriter().varint(20, 0))).toBe("a00100");
});

it("writes any safe integer so that it reads back", () => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), fc.integer({ min: 1, max: 5000 }), (value, field) => {
      const [read, ...rest] = readFields(new ProtobufWriter().varint(field, value).finish());
      expect(rest).toHaveLength(0);
      expect(read).toMatchObject({ number: field, varint: value });
    }),
  );
});

it("writes strings of any length in UTF-8", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 400 }), (value) => {
      const [read] = readFields(new ProtobufWriter().string(1, value).finish());
      expect(read?.bytes).toEqual(new TextEncoder().encode(value));
    }),
  );
});

it("refuses numbers that are no integers", () => {
  expect(() => new ProtobufWriter().varint(1, 0.5)).toThrow(RangeError);
});

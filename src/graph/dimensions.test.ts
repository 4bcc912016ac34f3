// Laws of symbolic sizes: what they say about names holds for every number that a name may stand for.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { broadcast, formatShape, product, quotient, sameShape } from "./dimensions.ts";
import type { Dimension } from "./dimensions.ts";

const NAMES = ["B", "T", "N", "K"];
const plain = fc.oneof(fc.integer({ min: 1, max: 12 }), fc.constantFrom(...NAMES));
/** Canonical or not: "T*3*B". */
const written = fc
  .array(plain, { minLength: 1, maxLength: 4 })
  .map((factors): Dimension => (factors.length === 1 ? (factors[0] as Dimension) : factors.join("*")));
const sizes = fc.record(Object.fromEntries(NAMES.map((name) => [name, fc.integer({ min: 1, max: 9 })])));

function valueOf(dimension: Dimension, named: Record<string, number>): number {
  return String(dimension)
    .split("*")
    .reduce((total, factor) => total * (named[factor] ?? Number(factor)), 1);
}

describe("product", () => {
  it("is the product of the numbers, whatever the names stand for", () => {
    fc.assert(
      fc.property(fc.array(written, { maxLength: 4 }), sizes, (dimensions, named) => {
        const expected = dimensions.reduce<number>((total, one) => total * valueOf(one, named), 1);
        expect(valueOf(product(dimensions), named)).toBe(expected);
      }),
    );
  });

  it("spells equal sizes equally: order and grouping do not matter", () => {
    fc.assert(
      fc.property(fc.array(written, { maxLength: 4 }), fc.nat(), (dimensions, cut) => {
        const whole = product(dimensions);
        expect(product([...dimensions].reverse())).toBe(whole);
        const at = cut % (dimensions.length + 1);
        expect(product([product(dimensions.slice(0, at)), product(dimensions.slice(at))])).toBe(whole);
      }),
    );
  });

  it.each([
    [[], 1],
    [[2, 3], 6],
    [["T", 3, "B"], "3*B*T"],
    [["T", 1], "T"],
    [["2*T", "B*3"], "6*B*T"],
    [["T", "T"], "T*T"],
    [[0, "T"], 0],
  ] as const)("of %j is %j", (dimensions, expected) => expect(product(dimensions)).toBe(expected));
});

describe("quotient", () => {
  it("undoes product", () => {
    fc.assert(
      fc.property(written, written, (a, b) => {
        expect(quotient(product([a, b]), b)).toBe(product([a]));
      }),
    );
  });

  it("is canonical, however the sizes are written", () => {
    fc.assert(
      fc.property(written, (whole) => {
        expect(quotient(whole, 1)).toBe(product([whole]));
        expect(quotient(whole, whole)).toBe(1);
      }),
    );
  });

  it("is null or exact", () => {
    fc.assert(
      fc.property(written, written, sizes, (whole, part, named) => {
        const result = quotient(whole, part);
        if (result !== null)
          expect(valueOf(result, named) * valueOf(part, named)).toBe(valueOf(whole, named));
      }),
    );
  });

  it.each([
    ["3*B*T", "T", "3*B"],
    ["3*B*T", "3*B*T", 1],
    [12, 4, 3],
    [12, 5, null],
    ["T", "B", null],
    ["T", 2, null],
    ["T", "T*T", null],
    [6, 0, null],
  ] as const)("of %j by %j is %j", (whole, part, expected) => expect(quotient(whole, part)).toBe(expected));
});

describe("broadcast", () => {
  const shape = fc.array(fc.constantFrom<Dimension>(1, 2, 3, "B", "T"), { maxLength: 4 });

  it("does not depend on the order, repeats nothing new and gives back an equal shape", () => {
    fc.assert(
      fc.property(shape, shape, (a, b) => {
        const result = broadcast(a, b);
        expect(broadcast(b, a)).toEqual(result);
        expect(broadcast(a, a)).toEqual(a);
        expect(broadcast(a, [])).toEqual(a);
        if (result !== null) expect(broadcast(result, a)).toEqual(result);
      }),
    );
  });

  it.each([
    [["B", "T", 4], [4], ["B", "T", 4]],
    [
      ["B", 1, 4],
      ["T", 1],
      ["B", "T", 4],
    ],
    [[2], [3], null],
    [["B"], ["T"], null],
    [["T"], [2], null],
    [["T"], [1], ["T"]],
  ] as const)("of %j and %j is %j", (a, b, expected) => expect(broadcast(a, b)).toEqual(expected));
});

it("compares shapes by rank and by size", () => {
  expect(sameShape(["B", 2], ["B", 2])).toBe(true);
  expect(sameShape(["B", 2], ["B"])).toBe(false);
  expect(sameShape(["B", 2], ["B", "2"])).toBe(false);
});

it("formats shapes for messages", () => {
  expect(formatShape(["B", "2*T", 64])).toBe("[B, 2*T, 64]");
  expect(formatShape([])).toBe("[]");
});

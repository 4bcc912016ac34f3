// The numbers that answers may hold, against arithmetic.
import fc from "fast-check";
import { expect, it } from "vitest";
import { integerPattern, NUMBER_PATTERN } from "./numbers.ts";

const integer = fc.oneof(
  fc.integer({ min: -400, max: 400 }),
  fc.integer({ min: -70_000, max: 70_000 }),
  fc.maxSafeInteger(),
);
const bound = fc.option(integer, { nil: null });

it("integers keep to any bounds, both signs, one-sided too", () => {
  fc.assert(
    fc.property(bound, bound, fc.array(integer, { minLength: 1 }), (a, b, others) => {
      const [least, most] = a !== null && b !== null && a > b ? [b, a] : [a, b];
      const pattern = new RegExp(integerPattern(least, most), "u");
      const edges = [least, most].flatMap((each) =>
        each === null ? [] : [each - 10, each - 1, each, each + 1, each + 10, each * 10],
      );
      for (const value of [...edges, ...others, 0, -1, 1]) {
        if (!Number.isSafeInteger(value)) continue;
        const isWithin = value >= (least ?? -Infinity) && value <= (most ?? Infinity);
        // Without a bound, 15 digits.
        const isUsual = Math.abs(value) < 1e15 || (least !== null && most !== null);
        if (!isWithin || isUsual) expect([value, pattern.test(String(value))]).toEqual([value, isWithin]);
        expect(pattern.test(`0${value}`)).toBe(false);
      }
    }),
    { numRuns: 3000, seed: 1 },
  );
});

it("integers are whole, in decimal digits, and exact in double precision", () => {
  const pattern = new RegExp(integerPattern(null, null), "u");
  for (const text of ["-", "-0", "", "1.0", "1e3", "00", "+1", "9007199254740993"])
    expect(pattern.test(text)).toBe(false);
  expect(pattern.test("-999999999999999")).toBe(true);
  const beyond = new RegExp(integerPattern(2e15, null), "u");
  expect([2e15, Number.MAX_SAFE_INTEGER, 1e15].map((each) => beyond.test(String(each)))).toEqual([
    true,
    true,
    false,
  ]);
});

it("numbers are those of JSON, and finite", () => {
  const pattern = new RegExp(NUMBER_PATTERN, "u");
  for (const text of ["0", "-0.5", "1e-7", "123456789012345.25", "1.7976E+99"]) {
    expect([text, pattern.test(text), Number.isFinite(JSON.parse(text))]).toEqual([text, true, true]);
  }
  for (const text of ["", "-", ".5", "5.", "1e999", "01", "1e", "NaN", "--1"])
    expect([text, pattern.test(text)]).toEqual([text, false]);
});

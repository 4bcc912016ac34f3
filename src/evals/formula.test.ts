// The expression language of multi graders: values, precedence, faults.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_FORMULA_DEPTH, parseFormula } from "./formula.ts";
import { GradingFault } from "./grading-fault.ts";

const values = { a: 2, b: 3, max: 7, some_name1: 0.5 };
const compute = (text: string) => parseFormula(text, Object.keys(values))(values);

it.each([
  ["1", 1],
  [" .5 + 1. + 1e2 + 2.5E-1 ", 101.75],
  ["a + b * 2", 8],
  ["(a + b) * 2", 10],
  ["a - b - 1", -2],
  ["12 / a / 3", 2],
  ["2 ^ 3 ^ 2", 512],
  ["-2 ^ 2", -4],
  ["2 ^ -1", 0.5],
  ["--a + +b", 5],
  ["-a * -b", 6],
  ["min(a, b, 1)", 1],
  ["max(a)", 2],
  ["max + 1", 8],
  ["max(max, some_name1)", 7],
  ["abs(-a) + floor(1.7) + ceil(1.2) + sqrt(9) + exp(0) + log(1)", 9],
  ["0.5 * a + 0.5 * b", 2.5],
  ["(a + b) / 2", 2.5],
])("%s is %d", (text, wanted) => {
  expect(compute(text)).toBe(wanted);
});

it.each([
  ["1 / 0", Infinity],
  ["log(0)", -Infinity],
  ["sqrt(-1)", NaN],
])("%s is %d, for the caller to refuse", (text, wanted) => {
  expect(compute(text)).toBe(wanted);
});

describe("faults", () => {
  const faultOf = (text: string): GradingFault => {
    try {
      compute(text);
    } catch (error) {
      if (error instanceof GradingFault) return error;
      throw error;
    }
    throw new Error(`${text} was computed`);
  };
  const OPERAND = "a number, a grader's name, a function or '('";
  const FUNCTIONS = "one of the functions min, max, abs, floor, ceil, exp, sqrt, log";

  it.each([
    ["", `expected ${OPERAND} at character 1, but it ends.`],
    ["a +", `expected ${OPERAND} at character 4, but it ends.`],
    ["a b", "expected an operator or the end at character 3, but got 'b'."],
    ["1 2", "expected an operator or the end at character 3, but got '2'."],
    ["(a", "expected ')' at character 3, but it ends."],
    ["a)", "expected an operator or the end at character 2, but got ')'."],
    ["a % b", "expected an operator or the end at character 3, but got '%'."],
    ["a ** b", `expected ${OPERAND} at character 4, but got '*'.`],
    ["min()", `expected ${OPERAND} at character 5, but got ')'.`],
    ["round(a)", `expected ${FUNCTIONS} at character 1, but got 'round'.`],
    ["a + a(1)", `expected ${FUNCTIONS} at character 5, but got 'a'.`],
    ["toString(1)", `expected ${FUNCTIONS} at character 1, but got 'toString'.`],
    ["a.b", "expected an operator or the end at character 2, but got '.'."],
    ["1..2", "expected an operator or the end at character 3, but got '.2'."],
    ["'a'", `expected ${OPERAND} at character 1, but got '''.`],
  ])("%s", (text, words) => {
    const fault = faultOf(text);
    expect(fault.message).toBe(`'calculate_output' is no formula: ${words}`);
    expect(fault.flag).toBe("formula_parse_error");
  });

  it.each([
    ["sqrt(1, 2)", "'calculate_output' gives sqrt 2 values; expected one."],
    ["log(8, 2)", "'calculate_output' gives log 2 values; expected one."],
  ])("%s", (text, message) => {
    expect(faultOf(text)).toMatchObject({ flag: "formula_parse_error", message });
  });

  it.each(["c", "A", "constructor"])("the unknown name %s", (name) => {
    const fault = faultOf(`a + ${name}`);
    expect(fault.flag).toBe("invalid_variable_error");
    expect(fault.message).toBe(
      `'calculate_output' names '${name}', which is none of the graders: a, b, max, some_name1.`,
    );
  });

  it("nesting past the limit", () => {
    const nested = (depth: number) => "(".repeat(depth) + "1" + ")".repeat(depth);
    expect(compute(nested(MAX_FORMULA_DEPTH - 1))).toBe(1);
    for (const deep of [nested(MAX_FORMULA_DEPTH), "-".repeat(2000) + "1", "2^".repeat(1500) + "1"]) {
      expect(faultOf(deep).message).toBe(
        `'calculate_output' nests deeper than ${MAX_FORMULA_DEPTH} levels. Write it flatter.`,
      );
    }
  });
});

it("computes what JavaScript computes, for expressions of every shape", () => {
  const leaf = fc.constantFrom("a", "b", "max", "1", "2.5");
  const { formula } = fc.letrec<{ formula: string }>((tie) => ({
    formula: fc.oneof(
      { maxDepth: 5, withCrossShrink: true },
      leaf,
      fc
        .tuple(tie("formula"), fc.constantFrom("+", "-", "*", "/"), tie("formula"))
        .map((parts) => parts.join(" ")),
      tie("formula").map((inner) => `(${inner})`),
      fc
        .tuple(fc.constantFrom("min", "max"), tie("formula"), tie("formula"))
        .map(([name, x, y]) => `${name}(${x}, ${y})`),
      fc.tuple(leaf, leaf).map(([x, y]) => `${x}^${y}`),
    ),
  }));
  fc.assert(
    fc.property(formula, (text) => {
      const script = text.replaceAll("^", "**").replaceAll(/(min|max)\(/g, "Math.$1(");
      // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the language's own arithmetic is the reference
      const wanted = new Function("a", "b", "max", `return ${script}`) as (...of: number[]) => number;
      expect(compute(text)).toBe(wanted(values.a, values.b, values.max));
    }),
    { numRuns: 1000 },
  );
});

it("any text is a formula or a fault", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(..."ab12.+-*/^(), e%_") }), (text) => {
      try {
        expect(typeof compute(text)).toBe("number");
      } catch (error) {
        expect(error).toBeInstanceOf(GradingFault);
      }
    }),
    { numRuns: 2000 },
  );
});

// What parseJson finds that JSON.parse hides, and that it finds nothing else.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_JSON_DEPTH, parseJson, parseJsonInSteps } from "./json-text.ts";

describe("parseJson", () => {
  it("gives what JSON.parse gives for every text JSON.stringify can write", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), fc.constantFrom(undefined, 2), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        expect(parseJson(text)).toEqual({ ok: true, value: JSON.parse(text) as unknown });
      }),
      { numRuns: 500, seed: 5 },
    );
  });

  it("finds a duplicate of any key in any object, however either is written", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", minLength: 1 }), fc.jsonValue(), (key, value) => {
        const member = `${JSON.stringify(key)}: ${JSON.stringify(value)}`;
        const escaped = [...Array(key.length).keys()]
          .map((i) => `\\u${key.charCodeAt(i).toString(16).padStart(4, "0")}`)
          .join("");
        const text = `[{}, {"x": [1, {${member}, "other${key.length}": "a,b", "${escaped}": 1}]}]`;
        expect(parseJson(text).ok).toBe(false);
      }),
      { numRuns: 300, seed: 6 },
    );
  });

  it.each([
    ['{"a": 1, "a": 2}', 'has the key "a" twice'],
    ['{"m": [{"r": 1}, {"r": 1, "c": {"r": "}"}, "r": 2}]}', 'has the key "m[1].r" twice'],
    ['{"a": 1e999}', 'holds a number that cannot be kept exactly: 1e999 at "a"'],
    ["[1, 9007199254740993]", 'holds a number that cannot be kept exactly: 9007199254740993 at "[1]"'],
    ["[-1e400]", 'holds a number that cannot be kept exactly: -1e400 at "[0]"'],
  ])("%s", (text, fault) => {
    expect(parseJson(text)).toMatchObject({ ok: false, fault });
  });

  it.each([
    "[9007199254740991, 0.1, 1e3, -0, 1e21, 100000000000000000000]",
    '{"a": {"b": 1}, "b": [{"a": 1}, {"a": 1}]}',
  ])("takes %s", (text) => {
    expect(parseJson(text)).toEqual({ ok: true, value: JSON.parse(text) as unknown });
  });

  it("says that a text is not JSON, and how", () => {
    expect(parseJson('{"a": }')).toMatchObject({
      ok: false,
      fault: expect.stringMatching(/^is not valid JSON: .*token/i) as string,
    });
    expect(parseJson("")).toMatchObject({ ok: false });
  });

  it("refuses nesting that recursive code could not walk", () => {
    const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
    expect(parseJson(nested(MAX_JSON_DEPTH)).ok).toBe(true);
    expect(parseJson(nested(MAX_JSON_DEPTH + 1))).toEqual({
      ok: false,
      fault: `nests deeper than ${MAX_JSON_DEPTH} levels`,
      expected: "at most 128 levels of arrays and objects",
      fix: "write it flatter",
    });
    expect(parseJson(nested(200_000)).ok).toBe(false);
  });

  it("walks strings of megabytes", () => {
    const text = JSON.stringify({ a: '\n"\\'.repeat(1_000_000) });
    expect(parseJson(text).ok).toBe(true);
  });
});

it("gives way many times within a long text", () => {
  const steps = parseJsonInSteps(`[${"1,".repeat(100_000)}1]`);
  let count = 0;
  while (steps.next().done !== true) count += 1;
  expect(count).toBeGreaterThan(40);
});

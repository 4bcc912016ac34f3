// What two answers have in common, and how far apart they are.
import { expect, test } from "vitest";
import { answerText, cosine, distance, measure, wordOverlap } from "./differences.ts";

test("white space at the ends is no difference, inside it is", () => {
  expect(measure(" yes\n", "yes").exact).toBe(true);
  expect(measure("a b", "a  b").exact).toBe(false);
});

test.each([
  ['{"a":1}', "[]", true],
  ['{"a":1}', '{"a":1', false],
  ["[1]", "1", false],
  ["1", "x", null],
  ['"word"', "x", null],
  ["plain", "{}", null],
])("old %s, new %s: format %s", (old, now, wanted) => {
  expect(measure(old, now).formatValid).toBe(wanted);
});

test("calls are the same whatever the order of their arguments' members", () => {
  const call = (given: string) =>
    answerText({ content: null, tool_calls: [{ function: { name: "f", arguments: given } }] });
  expect(call('{"b":1,"a":{"d":1,"c":2}}')).toBe(call('{ "a": {"c": 2, "d": 1}, "b": 1 }'));
  expect(call('{"a":[2,1]}')).not.toBe(call('{"a":[1,2]}'));
  expect(call("not json")).toBe("f(not json)");
});

test("an answer is all it says", () => {
  expect(answerText({ content: "Well", refusal: null, tool_calls: null })).toBe("Well");
  expect(answerText({ content: null, refusal: "No." })).toBe("No.");
  expect(answerText({})).toBe("");
});

test("words in common", () => {
  expect(wordOverlap("", "")).toBe(1);
  expect(wordOverlap("a b", "")).toBe(0);
  expect(wordOverlap("The cat sat", "the CAT slept")).toBeCloseTo(2 / 3, 12);
  expect(wordOverlap("a a a", "a")).toBeCloseTo(0.5, 12);
});

test("cosine", () => {
  expect(cosine([1, 0], [0, 1])).toBe(0);
  expect(cosine([2, 2], [1, 1])).toBeCloseTo(1, 12);
  expect(cosine([0, 0], [1, 1])).toBe(0);
});

test("the order of the worst", () => {
  const pair = { answered: true, exact: false, formatValid: null, likeness: 0.9, graderDrops: [] };
  const missing = distance({ ...pair, answered: false });
  const lost = distance({ ...pair, formatValid: false });
  const worse = distance({ ...pair, graderDrops: [0.4, -1] });
  const alike = distance(pair);
  expect([missing, lost, worse, alike].map((each) => Number(each.toFixed(6)))).toEqual([2, 1, 0.4, 0.1]);
  expect(distance({ ...pair, exact: true, likeness: 0.9 })).toBe(0);
  expect(distance({ ...pair, exact: true, graderDrops: [0.3] })).toBe(0.3);
});

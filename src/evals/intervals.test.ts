// Intervals of means: what is known of them, and how often they hold the mean that they are about.
import { expect, test } from "vitest";
import { createRandom } from "../random.ts";
import { meanInterval } from "./intervals.ts";

test("nothing has none, equal values have one without width", () => {
  expect(meanInterval([], 0)).toBeNull();
  expect(meanInterval([2, 2, 2], 0)).toEqual({ count: 3, mean: 2, low: 2, high: 2 });
});

test("the same seed gives the same interval, another one nearly", () => {
  const values = Array.from({ length: 100 }, (_, i) => i % 7);
  const first = meanInterval(values, 1);
  expect(meanInterval(values, 1)).toEqual(first);
  const other = meanInterval(values, 2);
  expect(other).not.toEqual(first);
  expect(other?.low).toBeCloseTo(first?.low ?? NaN, 1);
});

test("it is as wide as theory says for many values", () => {
  const random = createRandom(3);
  const values = Array.from({ length: 1000 }, () => (random.next() < 0.3 ? 1 : 0));
  const { mean, low, high } = meanInterval(values, 0) ?? { mean: 0, low: 0, high: 0 };
  const half = 1.96 * Math.sqrt((mean * (1 - mean)) / values.length);
  expect((high - low) / 2).toBeCloseTo(half, 2);
  expect(low).toBeLessThan(mean);
  expect(high).toBeGreaterThan(mean);
});

test("19 of 20 hold the true mean", () => {
  const random = createRandom(4);
  let held = 0;
  for (let trial = 0; trial < 200; trial++) {
    const values = Array.from({ length: 60 }, () => random.next());
    const { low, high } = meanInterval(values, trial) ?? { low: 1, high: 0 };
    if (low <= 0.5 && high >= 0.5) held += 1;
  }
  expect(held).toBeGreaterThan(200 * 0.9);
  expect(held).toBeLessThan(200 * 0.99);
});

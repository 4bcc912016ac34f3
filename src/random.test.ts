// The generator: the same numbers for the same stream on every machine, and none alike for streams that differ.
import fc from "fast-check";
import { expect, it } from "vitest";
import { createRandom, shuffle } from "./random.ts";

const take = (count: number, ...stream: number[]): number[] => {
  const random = createRandom(...stream);
  return Array.from({ length: count }, () => random.next());
};

it("gives these numbers for ever: jobs must be repeatable across versions", () => {
  const random = createRandom(42, 7);
  expect(Array.from({ length: 4 }, () => random.below(1_000_000))).toMatchInlineSnapshot(`
    [
      277793,
      700968,
      139061,
      311787,
    ]
  `);
});

it("gives the same stream for the same numbers and another one otherwise", () => {
  const streams = [
    [],
    [0],
    [0, 0],
    [1],
    [1, 0],
    [0, 1],
    [1, 2],
    [2, 1],
    [2 ** 32],
    [2 ** 32 + 1],
    [-1],
    [2 ** 40],
  ];
  for (const stream of streams) expect(take(5, ...stream)).toEqual(take(5, ...stream));
  expect(new Set(streams.map((stream) => take(3, ...stream).join())).size).toBe(streams.length);
});

it("spreads evenly over [0, 1), and neighbouring seeds are not alike", () => {
  const numbers = take(20_000, 3);
  expect(numbers.every((x) => x >= 0 && x < 1)).toBe(true);
  const buckets = new Array<number>(10).fill(0);
  for (const x of numbers) buckets[Math.floor(x * 10)] = (buckets[Math.floor(x * 10)] ?? 0) + 1;
  for (const count of buckets) expect(Math.abs(count - 2000)).toBeLessThan(200);
  const firsts = Array.from({ length: 2000 }, (_, seed) => take(1, seed)[0] as number);
  const correlation = firsts
    .slice(1)
    .reduce((sum, x, i) => sum + (x - 0.5) * ((firsts[i] as number) - 0.5), 0);
  expect(Math.abs(correlation / 2000 / (1 / 12))).toBeLessThan(0.1);
});

it("draws every integer below a bound", () => {
  const random = createRandom(5);
  const seen = new Set(Array.from({ length: 200 }, () => random.below(6)));
  expect([...seen].sort()).toEqual([0, 1, 2, 3, 4, 5]);
});

it("shuffles in place into a permutation", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(), { maxLength: 30 }), fc.nat(), (items, seed) => {
      const copy = [...items];
      expect(shuffle(copy, createRandom(seed))).toBe(copy);
      expect(copy.sort((a, b) => a - b)).toEqual([...items].sort((a, b) => a - b));
    }),
  );
});

it("shuffles without favour: each item comes to each place about equally often", () => {
  const random = createRandom(11);
  const counts = Array.from({ length: 4 }, () => [0, 0, 0, 0]);
  for (let i = 0; i < 4000; i++) {
    for (const [place, item] of shuffle([0, 1, 2, 3], random).entries()) {
      const row = counts[item] as number[];
      row[place] = (row[place] as number) + 1;
    }
  }
  for (const count of counts.flat()) expect(Math.abs(count - 1000)).toBeLessThan(120);
});

import { describe, expect, test } from "vitest";
import { causalMask, FORBIDDEN, slidingPastMask } from "./attention-mask.ts";

/** Which columns each row leaves open. */
function open({ data, shape }: { data: Float32Array; shape: readonly number[] }): number[][] {
  const columns = shape.at(-1) as number;
  return Array.from({ length: data.length / columns }, (_, row) =>
    Array.from({ length: columns }, (_, column) => column).filter((column) => {
      const value = data[row * columns + column];
      if (value !== 0 && value !== FORBIDDEN) throw new Error(`${value} in a mask`);
      return value === 0;
    }),
  );
}

test("a token sees itself and what stands before it, with a window the last of that", () => {
  expect(open(causalMask(3, 1))).toEqual([[0], [0, 1], [0, 1, 2]]);
  expect(open(causalMask(4, 1, 4, 2))).toEqual([[0], [0, 1], [1, 2], [2, 3]]);
  // The last two of four tokens, for two heads each.
  expect(open(causalMask(4, 2, 2, 3))).toEqual([
    [0, 1, 2],
    [0, 1, 2],
    [1, 2, 3],
    [1, 2, 3],
  ]);
});

describe("places of a cache that the tokens behind it see with a window of 3", () => {
  const of = (lengths: number[], T: number, R = 1) =>
    open(slidingPastMask(lengths, { T, R, S: 6, windowTokens: 3 }));

  test("one new token for each row", () => {
    expect(of([0, 1, 4, 6], 1)).toEqual([[], [0], [2, 3], [4, 5]]);
  });

  test("several new tokens see less and less of it", () => {
    expect(of([4], 3)).toEqual([[2, 3], [3], []]);
    expect(of([4], 2, 2)).toEqual([[2, 3], [2, 3], [3], [3]]);
  });

  test("together with the mask of the new tokens a token sees as many as the window has", () => {
    const T = 4;
    const past = of([5], T);
    const own = open(causalMask(T, 1, T, 3));
    expect(past.map((places, t) => places.length + (own[t]?.length ?? 0))).toEqual([3, 3, 3, 3]);
  });
});

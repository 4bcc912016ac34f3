import fc from "fast-check";
import { expect, it } from "vitest";
import { MAX_PADDING_SCORES } from "../data/batches.ts";
import { isLong, PROMPT_CHUNK_TOKENS, PROMPT_PASS_TOKENS, sharePass } from "./prompt-passes.ts";

it("fills a pass up to its tokens", () => {
  expect(sharePass([120, 120, 120, 120, 120])).toBe(4);
  expect(sharePass([20, 20])).toBe(2);
  expect(sharePass([])).toBe(0);
});

it("never refuses the first, and stops before padding costs more than a pass", () => {
  expect(sharePass([PROMPT_PASS_TOKENS * 2, 1])).toBe(1);
  expect(sharePass([10, 200])).toBe(1);
});

it("keeps to both limits, and could not have taken one more", () => {
  const lengths = fc.array(fc.integer({ min: 1, max: PROMPT_CHUNK_TOKENS }), { minLength: 1, maxLength: 40 });
  const isWithin = (some: readonly number[]): boolean => {
    const padding = some.length * Math.max(...some) ** 2 - some.reduce((sum, t) => sum + t ** 2, 0);
    return some.reduce((sum, t) => sum + t, 0) <= PROMPT_PASS_TOKENS && padding <= MAX_PADDING_SCORES;
  };
  fc.assert(
    fc.property(lengths, (all) => {
      const count = sharePass(all);
      expect(isWithin(all.slice(0, count))).toBe(true);
      if (count < all.length) expect(isWithin(all.slice(0, count + 1))).toBe(false);
    }),
    { seed: 1 },
  );
});

it("calls a prompt long that takes more than one piece", () => {
  expect([PROMPT_CHUNK_TOKENS, PROMPT_CHUNK_TOKENS + 1].map(isLong)).toEqual([false, true]);
});

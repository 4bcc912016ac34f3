// How pairs are cut into passes: whole, together where that costs less, and with every loss row where it belongs.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PASS_TOKENS, supervisedPass } from "./batches.ts";
import { PASS_COST_TOKENS } from "./beginnings.ts";
import {
  computedTokens,
  countPairTokens,
  pairsOfLossRows,
  rowsOfPairs,
  splitPairsIntoPasses,
} from "./preference-batches.ts";
import type { BatchPair } from "./preference-batches.ts";

/** `prompt` tokens of a kind, then two answers that differ from their first token on. */
function makePair(prompt: number, answers: [number, number], kind = 0): BatchPair {
  const row = (length: number, first: number) => ({
    tokens: Int32Array.from({ length: prompt + length }, (_, i) => (i < prompt ? kind : first)),
    supervised: Uint8Array.from({ length: prompt + length }, (_, i) => Number(i >= prompt)),
  });
  return { preferred: row(answers[0], 98), rejected: row(answers[1], 99) };
}

const size = fc.integer({ min: 1, max: 60 });
const pairs = fc.array(
  fc.tuple(size, size, size, fc.nat(2)).map(([prompt, a, b, kind]) => makePair(prompt, [a, b], kind)),
  { minLength: 1, maxLength: 12 },
);

describe("splitPairsIntoPasses", () => {
  it("keeps every pair, whole, in one pass", () => {
    fc.assert(
      fc.property(pairs, (all) => {
        const passes = splitPairsIntoPasses(all);
        expect(new Set(passes.flat())).toEqual(new Set(all));
        expect(passes.flat()).toHaveLength(all.length);
        for (const pass of passes)
          expect(pass.length === 1 || computedTokens(pass) <= PASS_TOKENS).toBe(true);
      }),
    );
  });

  it("computes a prompt once, but for its last token, whose next one has loss", () => {
    const one = makePair(30, [5, 7]);
    expect(countPairTokens(one)).toBe(72);
    expect(computedTokens([one])).toBe(72 - 29);
    expect(supervisedPass(rowsOfPairs([one])).layout.sharedTokens).toBe(29);
  });

  it("puts short pairs together, also with different prompts", () => {
    const short = [makePair(8, [5, 5], 0), makePair(8, [5, 5], 1), makePair(8, [5, 5], 2)];
    expect(splitPairsIntoPasses(short)).toHaveLength(1);
  });

  it("keeps long prompts apart that together would be computed twice each, and equal ones together", () => {
    const prompt = PASS_COST_TOKENS + 30;
    const different = [makePair(prompt, [5, 5], 0), makePair(prompt, [5, 5], 1)];
    expect(splitPairsIntoPasses(different)).toHaveLength(2);
    const equal = [makePair(prompt, [5, 5]), makePair(prompt, [5, 5])];
    expect(splitPairsIntoPasses(equal)).toHaveLength(1);
  });
});

it("every loss row belongs to its pair and side, in the order of the pass", () => {
  fc.assert(
    fc.property(pairs, (all) => {
      const { pair, sign } = pairsOfLossRows(all);
      const { targets } = supervisedPass(rowsOfPairs(all));
      expect(pair).toHaveLength(targets.length);
      // The answers' tokens say which side they are of.
      expect([...targets]).toEqual([...sign].map((one) => (one === 1 ? 98 : 99)));
      for (const [q, { preferred, rejected }] of all.entries()) {
        const count = [...preferred.supervised, ...rejected.supervised].filter((one) => one === 1).length;
        expect(pair.filter((one) => one === q)).toHaveLength(count);
      }
    }),
  );
});

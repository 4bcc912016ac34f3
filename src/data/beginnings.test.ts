// Grouping rows by what they begin with: nothing lost, and never dearer than without groups.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { commonBeginning, groupByBeginning, PASS_COST_TOKENS, sharedBeginning } from "./beginnings.ts";
import type { BatchExample } from "./beginnings.ts";

const BUDGET = 100;

/** Few different tokens, so that rows often begin alike; the last token carries loss. */
const row = fc.array(fc.nat(1), { minLength: 2, maxLength: 12 }).map((ends): BatchExample => ({
  // Each of the letters stands for a beginning worth sharing.
  tokens: Int32Array.from(ends.flatMap((letter) => new Array<number>(30).fill(letter))),
  supervised: Uint8Array.from({ length: ends.length * 30 }, (_, i) => Number(i === ends.length * 30 - 1)),
}));

function costOf(group: { examples: readonly BatchExample[]; sharedTokens: number }): number {
  const all = group.examples.reduce((sum, { tokens }) => sum + tokens.length, 0);
  if (group.sharedTokens === 0) return all;
  const own = all - group.examples.length * group.sharedTokens;
  return own + Math.ceil(own / BUDGET) * (group.sharedTokens + PASS_COST_TOKENS);
}

describe("groupByBeginning", () => {
  it("keeps every row once, and a group's rows share what it says", () => {
    fc.assert(
      fc.property(fc.array(row, { maxLength: 12 }), (rows) => {
        const groups = groupByBeginning(rows, () => BUDGET);
        expect(groups.flatMap(({ examples }) => examples)).toHaveLength(rows.length);
        expect(new Set(groups.flatMap(({ examples }) => examples))).toEqual(new Set(rows));
        for (const { examples, sharedTokens } of groups) {
          if (sharedTokens > 0) expect(sharedBeginning(examples)).toBe(sharedTokens);
        }
      }),
    );
  });

  it("costs no more than all rows apart, or than all of them in one group", () => {
    fc.assert(
      fc.property(fc.array(row, { minLength: 2, maxLength: 12 }), (rows) => {
        const cost = groupByBeginning(rows, () => BUDGET).reduce((sum, group) => sum + costOf(group), 0);
        expect(cost).toBeLessThanOrEqual(costOf({ examples: rows, sharedTokens: 0 }));
        const shared = sharedBeginning(rows);
        if (shared > 0) expect(cost).toBeLessThanOrEqual(costOf({ examples: rows, sharedTokens: shared }));
      }),
    );
  });

  it("leaves hardly a row apart where all begin with the same 400 tokens, within seconds for 5,000 rows", () => {
    const rows = Array.from({ length: 5000 }, (_, id): BatchExample => {
      const tokens = Int32Array.from({ length: 460 }, (_, t) => (t < 400 ? t : (id * 31 + t) % 997));
      return { tokens, supervised: Uint8Array.from(tokens, (_, t) => Number(t > 440)) };
    });
    const start = performance.now();
    const groups = groupByBeginning(rows, () => 400);
    const apart = groups.filter(({ sharedTokens }) => sharedTokens < 400).flatMap(({ examples }) => examples);
    expect(apart.length).toBeLessThan(50);
    expect(performance.now() - start).toBeLessThan(5000);
  });
});

describe("commonBeginning", () => {
  it.each([
    [[[1, 2, 3]], 3, 0],
    [
      [
        [1, 2, 3],
        [1, 2, 4],
      ],
      3,
      2,
    ],
    [
      [
        [1, 2, 3],
        [1, 2, 4],
        [1, 9, 4],
      ],
      3,
      1,
    ],
    [
      [
        [1, 2],
        [1, 2],
      ],
      1,
      1,
    ],
    [
      [
        [1, 2],
        [1, 2],
      ],
      -1,
      0,
    ],
  ])("of %j up to %i is %i", (rows, limit, expected) => {
    expect(
      commonBeginning(
        rows.map((one) => Int32Array.from(one)),
        limit,
      ),
    ).toBe(expected);
  });
});

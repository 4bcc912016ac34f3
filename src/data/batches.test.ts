// Laws of batching: nothing lost, nothing twice, seeded, and layouts that lead back to where they came from.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  countSupervised,
  epochBatches,
  layOut,
  PASS_TOKENS,
  MAX_PADDING_SCORES,
  splitByLength,
  splitIntoPasses,
  supervisedPass,
} from "./batches.ts";
import type { BatchExample } from "./batches.ts";
import { PASS_COST_TOKENS, sharedBeginning } from "./beginnings.ts";

/** An example of a length, every token and its mask a function of `id`. */
function example(length: number, id = 0): BatchExample {
  return {
    tokens: Int32Array.from({ length }, (_, i) => id * 1000 + i),
    supervised: Uint8Array.from({ length }, (_, i) => ((id + i) % 3 === 0 ? 1 : 0)),
  };
}

const lengths = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 25 });
const examples = lengths.map((all) => all.map(example));
const rows = lengths.map((all) =>
  all.map((length, row) => Int32Array.from({ length }, (_, t) => row * 100 + t)),
);

describe("epochBatches", () => {
  const settings = fc.tuple(
    fc.integer({ min: 1, max: 200 }),
    fc.integer({ min: 1, max: 32 }),
    fc.nat(),
    fc.nat(50),
  );

  it("visits every example once and keeps the last partial batch", () => {
    fc.assert(
      fc.property(settings, ([count, batchSize, seed, epoch]) => {
        const batches = epochBatches(count, batchSize, seed, epoch);
        expect(batches).toHaveLength(Math.ceil(count / batchSize));
        expect(batches.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
        for (const batch of batches.slice(0, -1)) expect(batch).toHaveLength(batchSize);
        expect(batches.at(-1)).toHaveLength(count % batchSize === 0 ? batchSize : count % batchSize);
      }),
    );
  });

  it("is the same for the same seed and epoch, and the batch size only cuts the order", () => {
    fc.assert(
      fc.property(settings, ([count, batchSize, seed, epoch]) => {
        const batches = epochBatches(count, batchSize, seed, epoch);
        expect(epochBatches(count, batchSize, seed, epoch)).toEqual(batches);
        expect(epochBatches(count, 1, seed, epoch).flat()).toEqual(batches.flat());
      }),
    );
  });

  it("differs from epoch to epoch and from seed to seed", () => {
    const orders = [
      [1, 0],
      [1, 1],
      [1, 2],
      [2, 0],
      [2, 1],
    ].map(([seed, epoch]) => epochBatches(100, 100, seed as number, epoch as number).join());
    expect(new Set(orders).size).toBe(orders.length);
  });
});

describe("splitIntoPasses", () => {
  it("keeps every example once", () => {
    fc.assert(
      fc.property(examples, fc.integer({ min: 1, max: 200 }), (all, passTokens) => {
        const passes = splitIntoPasses(all, passTokens);
        expect(passes.flat()).toHaveLength(all.length);
        expect(new Set(passes.flat())).toEqual(new Set(all));
      }),
    );
  });

  it("stays within the token budget, single longer rows excepted, and within the padding budget", () => {
    const rowLengths = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 25 });
    fc.assert(
      fc.property(rowLengths, fc.integer({ min: 1, max: 2000 }), fc.nat(2), (all, budget, shared) => {
        for (const pass of splitByLength(
          all.map((length) => example(length + shared)),
          budget,
          shared,
        )) {
          const sizes = pass.map(({ tokens }) => tokens.length);
          const own = sizes.map((size) => size - shared);
          const total = own.reduce((sum, size) => sum + size, 0);
          if (pass.length > 1) expect(total).toBeLessThanOrEqual(budget);
          const padded = sizes.length * Math.max(...own) * Math.max(...sizes);
          const padding = padded - sizes.reduce((sum, size) => sum + (size - shared) * size, 0);
          expect(padding).toBeLessThanOrEqual(MAX_PADDING_SCORES * (1 + shared / PASS_COST_TOKENS));
        }
      }),
    );
  });

  it("fills passes: two neighbours of like length never fit into one", () => {
    const passes = splitIntoPasses(Array.from({ length: 30 }, (_, id) => example(50, id)));
    expect(passes.map((pass) => pass.length)).toEqual([8, 8, 8, 6]);
    expect(PASS_TOKENS).toBe(400);
  });

  it("puts rows with a long beginning of their own together, more of them the longer it is", () => {
    const withBeginning = (kind: number, length: number, id: number): BatchExample => {
      const tokens = Int32Array.from({ length: length + 40 }, (_, t) =>
        t < length ? kind * 10_000 + t : id * 100_000 + t,
      );
      return { tokens, supervised: Uint8Array.from(tokens, (_, t) => Number(t > length + 20)) };
    };
    const all = Array.from({ length: 40 }, (_, id) => withBeginning(id % 2, id % 2 === 0 ? 300 : 500, id));
    const passes = splitIntoPasses(all);
    for (const pass of passes) expect(new Set(pass.map(({ tokens }) => tokens[0])).size).toBe(1);
    const sizes = passes.map((pass) => [sharedBeginning(pass), pass.length]);
    expect(sizes).toEqual([
      [300, 17],
      [300, 3],
      [500, 15],
      [500, 5],
    ]);
  });

  it("has nothing to split without examples, and leaves the given array as it is", () => {
    expect(splitIntoPasses([])).toEqual([]);
    const all = [example(9), example(3), example(5)];
    const before = [...all];
    splitIntoPasses(all);
    expect(all).toEqual(before);
  });
});

describe("layOut", () => {
  it("leads from flat tokens to places in the block and back", () => {
    fc.assert(
      fc.property(rows, fc.nat(20), (all, firstPosition) => {
        const layout = layOut(all, { firstPosition });
        const { rowCount: B, rowLength: T, tokens } = layout;
        expect([B, T]).toEqual([all.length, Math.max(...all.map((row) => row.length))]);
        expect([...tokens]).toEqual(all.flatMap((row) => [...row]));
        for (const [n, place] of layout.flatIndex.entries()) {
          expect(layout.blockIndex[place]).toBe(n);
          expect(layout.blockMask[place]).toBe(1);
          expect(tokens[n]).toBe(all[Math.floor(place / T)]?.[place % T]);
          expect(layout.positions[n]).toBe(BigInt(firstPosition + (place % T)));
        }
        expect(layout.blockMask.reduce((sum, one) => sum + one, 0)).toBe(tokens.length);
        for (const [place, n] of layout.blockIndex.entries()) {
          // Padding stands behind its row and names token 0, which exists.
          const inside = place % T < (all[Math.floor(place / T)]?.length ?? 0);
          expect(layout.blockMask[place]).toBe(inside ? 1 : 0);
          if (!inside) expect(n).toBe(0);
        }
      }),
    );
  });
});

describe("layOut in blocks of queries", () => {
  it("pads rows to a multiple of the blocks and changes nothing else", () => {
    fc.assert(
      fc.property(rows, fc.integer({ min: 1, max: 4 }), (all, queryBlocks) => {
        const [plain, inBlocks] = [layOut(all), layOut(all, { queryBlocks })];
        expect(inBlocks.rowLength % queryBlocks).toBe(0);
        expect(inBlocks.rowLength - plain.rowLength).toBeLessThan(queryBlocks);
        expect([...inBlocks.tokens]).toEqual([...plain.tokens]);
        expect([...inBlocks.flatIndex].map((place) => inBlocks.blockIndex[place])).toEqual([
          ...plain.tokens.keys(),
        ]);
      }),
    );
  });
});

describe("layOut with shared tokens", () => {
  it("keeps them once, first, and finds every row's tokens through the block", () => {
    fc.assert(
      fc.property(rows, fc.array(fc.nat(99), { minLength: 1, maxLength: 9 }), (ends, beginning) => {
        const all = ends.map((row) => Int32Array.of(...beginning, ...row));
        const layout = layOut(all, { sharedTokens: beginning.length });
        const { rowLength: T, tokens } = layout;
        expect([...tokens]).toEqual([...beginning, ...ends.flatMap((row) => [...row])]);
        for (const [b, row] of all.entries()) {
          const found = [...row.keys()].map((t) => tokens[layout.blockIndex[b * T + t] as number]);
          expect(found).toEqual([...row]);
        }
        for (const [n, place] of layout.flatIndex.entries()) {
          expect(layout.blockIndex[place]).toBe(n);
          expect(layout.blockMask[place]).toBe(1);
          expect(layout.positions[n]).toBe(BigInt(place % T));
        }
        // Every flat token counts in one place.
        expect(layout.blockMask.reduce((sum, one) => sum + one, 0)).toBe(tokens.length);
      }),
    );
  });
});

describe("supervisedPass", () => {
  const row = (tokens: number[], firstTarget: number) => ({
    tokens: Int32Array.from(tokens),
    supervised: Uint8Array.from(tokens, (_, i) => Number(i >= firstTarget)),
  });
  it.each([
    ["the beginning that all rows have", [row([1, 2, 3, 4, 9], 4), row([1, 2, 3, 5, 9], 4)], 3],
    ["not what one row lacks", [row([1, 2, 3, 9], 3), row([1, 2, 3, 9], 3), row([1, 5, 6, 9], 3)], 1],
    ["not what predicts a token with loss", [row([1, 2, 3, 4], 2), row([1, 2, 3, 5], 3)], 1],
    ["not a whole row", [row([1, 2, 3], 9), row([1, 2, 3, 4], 9)], 1],
    ["nothing of a single row", [row([1, 2, 3, 4], 3)], 0],
  ])("shares %s", (_, all, shared) => {
    const { layout } = supervisedPass(all);
    expect(layout.sharedTokens).toBe(shared);
    const inputs = all.reduce((sum, { tokens }) => sum + tokens.length - 1, 0);
    expect(layout.tokens).toHaveLength(inputs - (all.length - 1) * shared);
  });

  it("cuts only long rows into blocks", () => {
    const blocks = (length: number): number =>
      supervisedPass([{ tokens: new Int32Array(length + 1), supervised: new Uint8Array(length + 1) }]).layout
        .queryBlocks;
    expect([blocks(256), blocks(257)]).toEqual([1, 4]);
  });

  it("asks for the next token at every place whose next token is supervised", () => {
    fc.assert(
      fc.property(examples, (all) => {
        const { layout, lossRows, targets } = supervisedPass(all);
        const T = layout.rowLength;
        const inputs = all.map((_, b) => [...layout.blockIndex.subarray(b * T, (b + 1) * T)]);
        expect(
          inputs.map((row, b) =>
            row.slice(0, -1 + (all[b]?.tokens.length ?? 0)).map((n) => layout.tokens[n]),
          ),
        ).toEqual(all.map(({ tokens }) => [...tokens.slice(0, -1)]));
        const asked = all.flatMap(({ tokens, supervised }) =>
          [...tokens.entries()]
            .filter(([i]) => i > 0 && supervised[i] === 1)
            .map(([i, token]) => [tokens[i - 1], token]),
        );
        expect([...lossRows].map((n, i) => [layout.tokens[n], targets[i]])).toEqual(asked);
        expect(countSupervised(all)).toBe(targets.length);
      }),
    );
  });

  it("never asks for a first token", () => {
    const one = { tokens: Int32Array.of(5, 6), supervised: Uint8Array.of(1, 0) };
    expect(supervisedPass([one]).targets).toHaveLength(0);
    expect(countSupervised([one])).toBe(0);
  });
});

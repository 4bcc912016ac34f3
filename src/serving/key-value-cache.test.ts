// The cache's arrays: rows keep their content while others join, grow and leave, and the arrays hold no more than is counted.
import { describe, expect, it } from "vitest";
import { smallConfig } from "../../test/engine/graph-families.ts";
import { KeyValueCache } from "./key-value-cache.ts";

const CONFIG = { ...smallConfig("llama"), layerCount: 2 };
const { keyValueHeads: K, headWidth: E } = CONFIG;
/** Values of one token: keys and values of every layer. */
const WIDTH = CONFIG.layerCount * 2 * K * E;

/** Appends tokens whose values tell the row's name and the token's place. */
function grow(cache: KeyValueCache, row: number, name: number, count: number): void {
  const from = cache.length(row);
  const values = new Float32Array(count * WIDTH);
  for (let t = 0; t < count; t++)
    for (let i = 0; i < WIDTH; i++) values[t * WIDTH + i] = name + (from + t) / 1000 + i / 1e6;
  cache.append(row, values, 0, count);
}

/** Values of a row's tokens as the graph would read them, by array and head. */
function expectRow(cache: KeyValueCache, row: number, name: number): void {
  const { feeds, places } = cache.feeds();
  let i = 0;
  for (let layer = 0; layer < CONFIG.layerCount; layer++) {
    for (const kind of ["past_keys", "past_values"]) {
      const data = feeds[`layers.${layer}.${kind}`]?.data as Float32Array;
      for (let head = 0; head < K; head++) {
        for (let e = 0; e < E; e++, i++) {
          for (let t = 0; t < cache.length(row); t++) {
            const found = data[((row * K + head) * places + t) * E + e];
            expect(found).toBe(Math.fround(name + t / 1000 + i / 1e6));
          }
        }
      }
    }
  }
}

/** What the arrays take in memory, in row-places; nothing but `feeds` shows them. */
function placesHeld(cache: KeyValueCache): number {
  const data = cache.feeds().feeds["layers.0.past_keys"]?.data as Float32Array;
  return data.buffer.byteLength / (4 * K * E);
}

function withRows(...lengths: readonly number[]): KeyValueCache {
  const cache = new KeyValueCache(CONFIG);
  for (const [row, length] of lengths.entries()) {
    cache.addRow();
    grow(cache, row, row + 1, length);
  }
  return cache;
}

describe("KeyValueCache", () => {
  it("keeps what rows hold while others join and outgrow the arrays", () => {
    const cache = withRows(5, 60, 3);
    grow(cache, 1, 2, 70);
    for (const row of [0, 1, 2]) expectRow(cache, row, row + 1);
    const prompt = withRows(7);
    expect(cache.addRow(prompt)).toBe(3);
    expectRow(cache, 3, 1);
    expectRow(cache, 1, 2);
  });

  it("fills the place of a row that leaves with the last one", () => {
    const cache = withRows(5, 9, 3);
    cache.removeRow(0);
    expectRow(cache, 0, 3);
    expectRow(cache, 1, 2);
  });

  it("counts what its arrays take, before and after they grow", () => {
    const cache = withRows(5, 9);
    expect([cache.sizeWith(0, 0), placesHeld(cache)]).toEqual([128, 128]);
    expect(cache.sizeWith(1, 65)).toBe(3 * 128);
    cache.reserve(1, 65);
    expect([cache.sizeWith(0, 0), placesHeld(cache)]).toEqual([384, 384]);
    cache.addRow();
    expect(placesHeld(cache)).toBe(384);
  });

  it("does not carry rows that have left into larger arrays, and gives their memory back when asked", () => {
    const cache = withRows(...Array.from({ length: 8 }, () => 60));
    for (let left = 0; left < 6; left++) cache.removeRow(1);
    expect([cache.sizeWith(0, 60), placesHeld(cache)]).toEqual([8 * 64, 8 * 64]);
    expect(cache.sizeWith(0, 65)).toBe(2 * 128);
    cache.trim();
    expect([cache.sizeWith(0, 60), placesHeld(cache)]).toEqual([2 * 64, 2 * 64]);
    grow(cache, 0, 1, 10);
    expect(placesHeld(cache)).toBe(2 * 128);
    expectRow(cache, 0, 1);
  });

  it("stays as it was when there is no memory to grow", () => {
    const cache = new KeyValueCache(CONFIG);
    grow(cache, cache.addRow(), 1, 3);
    expect(() => cache.reserve(1, 2 ** 50)).toThrow(RangeError);
    expectRow(cache, 0, 1);
    grow(cache, 0, 1, 2);
    expectRow(cache, 0, 1);
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isNear, nearPairs, signatureOf, similarity } from "./min-hash.ts";

const words = fc.array(fc.stringMatching(/^[a-z]{3,8}$/), { minLength: 40, maxLength: 120 });
const always = () => true;

/** Share of word triples in common, counted. */
function jaccard(a: readonly string[], b: readonly string[]): number {
  const triples = (list: readonly string[]) =>
    new Set(list.slice(2).map((word, i) => `${list[i]} ${list[i + 1]} ${word}`));
  const [left, right] = [triples(a), triples(b)];
  const common = [...left].filter((each) => right.has(each)).length;
  return common / (left.size + right.size - common);
}

describe("MinHash", () => {
  it("estimates the share of common shingles within five standard errors", () => {
    fc.assert(
      fc.property(words, words, fc.nat(40), (first, second, cut) => {
        const mixed = [...first.slice(0, first.length - cut), ...second.slice(0, cut)];
        const [a, b] = [signatureOf(first.join(" ")), signatureOf(mixed.join(" "))];
        fc.pre(a !== null && b !== null);
        const truth = jaccard(first, mixed);
        const error = Math.max(0.03, Math.sqrt((truth * (1 - truth)) / 128));
        expect(Math.abs(similarity(a, b) - truth)).toBeLessThan(5 * error);
      }),
      { seed: 7, numRuns: 200 },
    );
  });

  it("is the least value of each hash function over all shingles, as unsigned numbers", () => {
    const mix = (value: number) => {
      const half = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
      const hash = Math.imul(half ^ (half >>> 13), 0xc2b2ae35);
      return (hash ^ (hash >>> 16)) >>> 0;
    };
    const hashOf = (word: string) =>
      [...word].reduce(
        (hash, letter) => Math.imul(hash ^ letter.charCodeAt(0), 0x01000193) >>> 0,
        0x811c9dc5,
      );
    fc.assert(
      fc.property(words, (text) => {
        const signature = signatureOf(text.join(" "));
        fc.pre(signature !== null);
        const hashes = text.map(hashOf);
        const shingles = hashes
          .slice(2)
          .map((last, i) => [hashes[i] as number, hashes[i + 1] as number, last])
          .map((three) => three.reduce((hash, next) => mix(Math.imul(hash, 31) + next), 0));
        for (const i of [0, 1, 2, 77, 127]) {
          const values = shingles.map((h) => (h + Math.imul(i, mix(h ^ 0x9e3779b9) | 1)) >>> 0);
          expect(signature[i]).toBe(Math.min(...values));
        }
      }),
      { seed: 7, numRuns: 50 },
    );
  });

  it("calls near what shares 0.85 of the hashes", () => {
    const signature = (different: number) =>
      Uint32Array.from({ length: 128 }, (_, i) => Number(i < different));
    for (const different of [0, 18, 19, 20, 128]) {
      const [a, b] = [signature(0), signature(different)];
      expect(similarity(a, b)).toBe(1 - different / 128);
      expect(isNear(a, b)).toBe(similarity(a, b) >= 0.85);
    }
  });

  it("pairs a text with its earliest near copy, and nothing else", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(words, { minLength: 3, maxLength: 8 }), async (texts) => {
        const originals = texts.map((text, i) => [`text${i}`, ...text.map((word) => `${word}${i}`)]);
        const copy = [...(originals[1] as string[]), "again"];
        const signatures = [...originals, copy].map((text) => signatureOf(text.join(" ")));
        fc.pre(signatures.every((each) => each !== null));
        expect(await nearPairs(signatures, always)).toEqual([[1, originals.length]]);
        expect(await nearPairs(signatures, () => false)).toEqual([]);
      }),
      { seed: 7, numRuns: 50 },
    );
  });

  it("judges no short text", () => {
    expect(signatureOf("one two three four five six seven eight nine ten")).toBeNull();
  });
});

// Texts that are nearly the same, found without comparing each with each: MinHash signatures over word shingles, banded so
// that like signatures meet (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3).
import { setImmediate as nextTurn } from "node:timers/promises";

/** Hash functions of a signature. The estimate of a similarity s is off by sqrt(s (1 - s) / HASHES): 0.03 at 0.85. */
const HASHES = 128;
/** Signatures meet where one band of ROWS hashes is equal: 99 % of pairs at 0.85, 6 % at 0.5. */
const BANDS = 16;
const ROWS = HASHES / BANDS;
/** Words of a shingle. */
const SHINGLE_WORDS = 3;
/** Shorter texts are not judged: in one of a dozen words a single other word is another text. */
export const MIN_SHINGLES = 20;
/** Share of common shingles from which two texts are called nearly the same: one other word in about 35. */
const NEAR_SIMILARITY = 0.85;
const MAX_DIFFERENT = Math.floor(HASHES * (1 - NEAR_SIMILARITY));
/** Of a longer text the beginning is compared: time for what comes in a thousand words is better spent on more rows. */
const MAX_CHARACTERS = 4_000;
/** Signatures under one band key that a signature is compared with; a template that every row begins with meets in all. */
const MAX_COMPARED = 16;

const HIGHEST_BIT = 0x8000_0000;
/** Of an index beside a key in one exact number: 53 bits less the key's 32, far more than rows are compared. */
const INDEX_BITS = 21;

/** Null for a text too short to be judged. */
export function signatureOf(text: string): Uint32Array | null {
  const words =
    text
      .slice(0, MAX_CHARACTERS)
      .toLowerCase()
      .match(/[\p{L}\p{N}]+/gu) ?? [];
  const hashes = words.map(hashWord);
  const shingles = new Set<number>();
  for (let i = 0; i + SHINGLE_WORDS <= hashes.length; i++) {
    let hash = 0;
    for (let k = 0; k < SHINGLE_WORDS; k++) hash = mix(Math.imul(hash, 31) + (hashes[i + k] as number));
    shingles.add(hash);
  }
  if (shingles.size < MIN_SHINGLES) return null;
  const least = new Int32Array(HASHES).fill(0x7fff_ffff);
  for (const shingle of shingles) lower(least, shingle);
  const signature = new Uint32Array(HASHES);
  for (let i = 0; i < HASHES; i++) signature[i] = (least[i] as number) ^ HIGHEST_BIT;
  return signature;
}

/**
 * Takes a shingle into the least values so far. The hash functions are h1 + i h2 of two independent hashes, which does as well as
 * as many independent ones (Kirsch and Mitzenmacher 2006) and takes one addition each. Signed numbers stay in registers; with the
 * highest bit flipped they have the order of unsigned ones.
 */
function lower(least: Int32Array, shingle: number): void {
  const step = mix(shingle ^ 0x9e37_79b9) | 1;
  let hash = shingle ^ HIGHEST_BIT;
  for (let i = 0; i < HASHES; i++) {
    if (hash < (least[i] as number)) least[i] = hash;
    hash = (hash + step) | 0;
  }
}

/** Estimated share of shingles that two texts have in common. */
export function similarity(a: Uint32Array, b: Uint32Array): number {
  return 1 - differing(a, b, HASHES) / HASHES;
}

/** Whether two texts are called nearly the same. */
export function isNear(a: Uint32Array, b: Uint32Array): boolean {
  return differing(a, b, MAX_DIFFERENT) <= MAX_DIFFERENT;
}

/** How many hash functions differ in their least value; not counted beyond the first above `limit`. */
function differing(a: Uint32Array, b: Uint32Array, limit: number): number {
  let count = 0;
  for (let i = 0; i < HASHES && count <= limit; i++) if (a[i] !== b[i]) count += 1;
  return count;
}

/**
 * Pairs of indices, the earlier first, of signatures that are nearly the same and that `accept` agrees to; each later one
 * with its earliest match.
 */
export async function nearPairs(
  signatures: readonly Uint32Array[],
  accept: (earlier: number, later: number) => boolean,
): Promise<[number, number][]> {
  /** By later index; itself: none. */
  const matches = Uint32Array.from(signatures.keys());
  const keys = new Uint32Array(signatures.length);
  for (let band = 0; band < BANDS; band++) {
    // A band of the most rows takes tens of milliseconds; others shall have their turn.
    await nextTurn();
    for (let i = 0; i < signatures.length; i++) {
      const signature = signatures[i] as Uint32Array;
      let key = 0;
      for (let k = 0; k < ROWS; k++) key = mix(Math.imul(key, 31) + (signature[band * ROWS + k] as number));
      keys[i] = key;
    }
    const order = orderOf(keys);
    for (let start = 0, at = 1; at < order.length; at++) {
      const later = order[at] as number;
      if (keys[later] !== keys[order[start] as number]) {
        start = at;
        continue;
      }
      const end = Math.min(at, start + MAX_COMPARED);
      for (let other = start; other < end; other++) {
        const earlier = order[other] as number;
        if ((matches[later] as number) <= earlier) break;
        const [a, b] = [signatures[earlier], signatures[later]] as [Uint32Array, Uint32Array];
        if (isNear(a, b) && accept(earlier, later)) {
          matches[later] = earlier;
          break;
        }
      }
    }
  }
  return [...matches.entries()]
    .filter(([later, earlier]) => earlier !== later)
    .map(([later, earlier]) => [earlier, later]);
}

/**
 * Indices by their key, those of one key in order. Key and index are sorted as one number, since a comparison in JavaScript for each
 * two would take most of the time of a search.
 */
function orderOf(keys: Uint32Array): Uint32Array {
  const numbers = new Float64Array(keys.length);
  for (let i = 0; i < keys.length; i++) numbers[i] = (keys[i] as number) * 2 ** INDEX_BITS + i;
  numbers.sort();
  const order = new Uint32Array(keys.length);
  for (let at = 0; at < order.length; at++) {
    const number = numbers[at] as number;
    order[at] = number - Math.floor(number / 2 ** INDEX_BITS) * 2 ** INDEX_BITS;
  }
  return order;
}

/** FNV-1a over UTF-16 units; signed, as all hashes here: numbers above 2^31 would be objects of their own in lists and sets. */
function hashWord(word: string): number {
  let hash = 0x811c_9dc5 | 0;
  for (let i = 0; i < word.length; i++) hash = Math.imul(hash ^ word.charCodeAt(i), 0x0100_0193);
  return hash;
}

/** The finalizer of MurmurHash3: every bit of the result depends on every bit of the input. */
function mix(value: number): number {
  let hash = value | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return hash ^ (hash >>> 16);
}

// The length of the longest common subsequence, bit-parallel (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"):
// what ROUGE-L counts in words and fuzzy matching in characters. It knows neither.
import type { Pace } from "./pace.ts";

/** Bits of a machine word that JavaScript's operators work on. */
const WORD_BITS = 32;

/** A sequence prepared to be compared with many others. */
export class Pattern<T> {
  readonly length: number;
  /** 32-bit words that hold one bit for each place of the sequence. */
  readonly words: number;
  readonly #places = new Map<T, Uint32Array>();
  readonly #column: Uint32Array;

  constructor(sequence: readonly T[]) {
    this.length = sequence.length;
    this.words = Math.ceil(sequence.length / WORD_BITS);
    this.#column = new Uint32Array(this.words);
    sequence.forEach((symbol, place) => {
      const mask = this.#places.get(symbol) ?? new Uint32Array(this.words);
      mask[place >>> 5] = (mask[place >>> 5] ?? 0) | (1 << (place & 31));
      this.#places.set(symbol, mask);
    });
  }

  /** Forgets the symbols read so far. */
  start(): void {
    this.#column.fill(0xffffffff);
  }

  /** Reads the other sequence's next symbol. */
  read(symbol: T): void {
    const mask = this.#places.get(symbol);
    if (mask === undefined) return;
    const column = this.#column;
    let carry = 0;
    for (let i = 0; i < column.length; i++) {
      const bits = column[i] ?? 0;
      const common = (bits & (mask[i] ?? 0)) >>> 0;
      const sum = bits + common + carry;
      carry = sum > 0xffffffff ? 1 : 0;
      column[i] = sum | (bits & ~common);
    }
  }

  /** The longest common subsequence of this sequence and the symbols read since the start: the bits that are 0. */
  common(): number {
    let ones = 0;
    const tail = this.length & 31;
    for (let i = 0; i < this.words; i++) {
      let bits = this.#column[i] ?? 0;
      if (tail !== 0 && i === this.words - 1) bits &= (1 << tail) - 1;
      ones += countOnes(bits);
    }
    return this.length - ones;
  }
}

/** The longest common subsequence of the pattern and a stretch of another sequence. */
export async function commonLength<T>(
  pattern: Pattern<T>,
  other: readonly T[],
  pace: Pace,
  stretch: { start: number; end: number } = { start: 0, end: other.length },
): Promise<number> {
  pattern.start();
  for (let i = stretch.start; i < stretch.end; i++) {
    pattern.read(other[i] as T);
    const rest = pace.spend(pattern.words + 1);
    if (rest !== undefined) await rest;
  }
  return pattern.common();
}

/** The ones among 32 bits. */
function countOnes(bits: number): number {
  let pairs = bits - ((bits >>> 1) & 0x55555555);
  pairs = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return Math.imul((pairs + (pairs >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

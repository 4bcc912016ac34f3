// A small seeded generator: the same seed gives the same numbers on every machine. For data order, initial adapters,
// dropout and sampling; not for secrets (ids and keys come from node:crypto).

export interface Random {
  /** Uniform in [0, 1), 32 random bits. */
  next(): number;
  /** Uniform integer in [0, bound). */
  below(bound: number): number;
}

/** Numbers that name the same stream give the same stream; e.g. (seed, epoch). The order of the numbers counts. */
export function createRandom(...stream: readonly number[]): Random {
  let state = 0x9e3779b9;
  for (const part of stream)
    state = mix(state ^ mix(part >>> 0) ^ mix(Math.floor(part / 0x1_0000_0000) + 0x85ebca6b));
  // SplitMix32: a Weyl sequence through a finalizer (Steele et al., OOPSLA 2014, with murmur3's 32-bit finalizer).
  const next = (): number => {
    state = (state + 0x9e3779b9) >>> 0;
    return mix(state) / 0x1_0000_0000;
  };
  return { next, below: (bound) => Math.floor(next() * bound) };
}

function mix(value: number): number {
  let x = value >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** Shuffles in place (Fisher-Yates) and returns the array. */
export function shuffle<T>(items: T[], random: Random): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [items[i], items[j]] = [items[j] as T, items[i] as T];
  }
  return items;
}

// Beginnings that rows have in common, a system message as a rule: what the decoder makes of a token depends on nothing behind it,
// so rows of a pass compute their common beginning once. Here is how long it is, and which rows gain by sharing a pass.
/** What batching needs of an encoded example. */
export interface BatchExample {
  tokens: Int32Array;
  /** 1 where the loss counts the token. */
  supervised: Uint8Array;
}

/**
 * What a pass of its own costs beside its tokens: about what this many tokens more do, because short matrix products run below
 * full speed and every weight is read from memory once more.
 */
export const PASS_COST_TOKENS = 40;

/** Rows that are grouped at once: comparing them takes time that grows with the square of their number at worst. */
const MAX_GROUPED_ROWS = 1024;

/** How many leading tokens, up to `limit`, are the same in all of several rows; of a single row, none. */
export function commonBeginning(rows: readonly Int32Array[], limit: number): number {
  const [first, ...others] = rows;
  if (first === undefined || others.length === 0) return 0;
  return others.reduce((common, row) => equalTokens(first, row, common), Math.max(limit, 0));
}

/**
 * How many leading tokens stand in every example, before the first whose next token carries loss in any of them. Each row keeps an
 * input of its own.
 */
export function sharedBeginning(examples: readonly BatchExample[]): number {
  return commonBeginning(
    examples.map(({ tokens }) => tokens),
    Math.min(...examples.map(beginningLimit)),
  );
}

function beginningLimit({ tokens, supervised }: BatchExample): number {
  const firstTarget = supervised.indexOf(1, 1);
  return (firstTarget < 0 ? tokens.length - 1 : firstTarget) - 1;
}

function equalTokens(a: Int32Array, b: Int32Array, limit: number): number {
  let equal = 0;
  while (equal < limit && a[equal] === b[equal]) equal += 1;
  return equal;
}

export interface BeginningGroup<T> {
  examples: readonly T[];
  /** Leading tokens that all of them share; 0 for rows that gain nothing by it. */
  sharedTokens: number;
}

/**
 * Groups of examples that cost least when the passes of each compute what the group shares once, and in one last group those that no
 * group gains by. `ownBudget`: tokens that are not shared in a pass whose rows share this many.
 */
export function groupByBeginning<T extends BatchExample>(
  examples: readonly T[],
  ownBudget: (sharedTokens: number) => number,
): BeginningGroup<T>[] {
  // Neighbours in this order have the most in common: the beginning of a range is the least that two neighbours share.
  const sorted = [...examples].sort((a, b) => compareTokens(a.tokens, b.tokens));
  const groups: BeginningGroup<T>[] = [];
  for (let start = 0; start < sorted.length; start += MAX_GROUPED_ROWS) {
    groups.push(...new Ranges(sorted.slice(start, start + MAX_GROUPED_ROWS), ownBudget).cheapest().groups);
  }
  const shared = groups.filter(({ sharedTokens }) => sharedTokens > 0);
  const rest = groups.filter(({ sharedTokens }) => sharedTokens === 0).flatMap((group) => group.examples);
  return rest.length === 0 ? shared : [...shared, { examples: rest, sharedTokens: 0 }];
}

/** Ranges of rows in order, of which neighbours have the most in common. */
class Ranges<T extends BatchExample> {
  readonly #rows: readonly T[];
  readonly #ownBudget: (sharedTokens: number) => number;
  /** What rows i and i + 1 may share. */
  readonly #common: readonly number[];

  constructor(rows: readonly T[], ownBudget: (sharedTokens: number) => number) {
    this.#rows = rows;
    this.#ownBudget = ownBudget;
    this.#common = rows.slice(1).map((row, i) => Math.max(0, sharedBeginning([rows[i] as T, row])));
  }

  /** The range as one group, or cut where neighbours share least, whichever computes fewer tokens. */
  cheapest(start = 0, end = this.#rows.length): { groups: BeginningGroup<T>[]; cost: number } {
    const examples = this.#rows.slice(start, end);
    const all = examples.reduce((sum, { tokens }) => sum + tokens.length, 0);
    let cut = start + 1;
    for (let i = start + 1; i < end; i++) if (this.#sharedAt(i) < this.#sharedAt(cut)) cut = i;
    // A row that is alone shares a pass with others that are: its tokens are what it costs.
    if (cut >= end) return { groups: [{ examples, sharedTokens: 0 }], cost: all };
    const shared = this.#sharedAt(cut);
    const own = all - examples.length * shared;
    const cost = own + Math.ceil(own / this.#ownBudget(shared)) * (shared + PASS_COST_TOKENS);
    const [left, right] = [this.cheapest(start, cut), this.cheapest(cut, end)];
    if (shared > 0 && cost <= left.cost + right.cost)
      return { groups: [{ examples, sharedTokens: shared }], cost };
    return { groups: [...left.groups, ...right.groups], cost: left.cost + right.cost };
  }

  /** What the rows before and behind this place share. */
  #sharedAt(place: number): number {
    return this.#common[place - 1] as number;
  }
}

function compareTokens(a: Int32Array, b: Int32Array): number {
  const equal = equalTokens(a, b, Math.min(a.length, b.length));
  return (a[equal] ?? -1) - (b[equal] ?? -1);
}

// How preference pairs share passes: the two rows of a pair go together, so that their prompt is computed once, and several
// pairs where that costs less than a pass each. Knows no weights and no gradients.
import { countSupervised, MAX_PADDING_SCORES, PASS_TOKENS } from "./batches.ts";
import { PASS_COST_TOKENS, sharedBeginning } from "./beginnings.ts";
import type { BatchExample } from "./batches.ts";

/** Two answers to one prompt; each row is the prompt and an answer, of which the answer alone is supervised. */
export interface BatchPair {
  preferred: BatchExample;
  rejected: BatchExample;
}

/** The rows of pairs in the order they have in a pass: preferred, rejected, and so on. */
export function rowsOfPairs(pairs: readonly BatchPair[]): BatchExample[] {
  return pairs.flatMap(({ preferred, rejected }) => [preferred, rejected]);
}

/** Tokens of a pair as a peer would compute them: prompt and answer, twice. */
export function countPairTokens({ preferred, rejected }: BatchPair): number {
  return preferred.tokens.length + rejected.tokens.length;
}

/** Which pair and which side of it each loss row of a pass belongs to. */
export function pairsOfLossRows(pairs: readonly BatchPair[]): { pair: Int32Array; sign: Int8Array } {
  const pair: number[] = [];
  const sign: number[] = [];
  for (const [q, { preferred, rejected }] of pairs.entries()) {
    for (const [row, which] of [
      [preferred, 1],
      [rejected, -1],
    ] as const) {
      for (let i = countSupervised([row]); i > 0; i--) {
        pair.push(q);
        sign.push(which);
      }
    }
  }
  return { pair: Int32Array.from(pair), sign: Int8Array.from(sign) };
}

/**
 * Splits pairs into passes. A pass computes only what all of its rows begin with once; pairs with different prompts that share a
 * pass lose what each shares within itself, so they do so only where that costs less than a pass more. A pass of several has at most
 * as many tokens as given, and in a head as many attention scores as one row of these: what rows share is computed once, but
 * attention lays it out in every row, so that the tokens alone would let many rows of a long prompt into one pass.
 */
export function splitPairsIntoPasses<P extends BatchPair>(
  pairs: readonly P[],
  passTokens = PASS_TOKENS,
): P[][] {
  const sorted = [...pairs].sort((a, b) => longest([a]) - longest([b]));
  const passes: P[][] = [];
  for (const one of sorted) {
    const pass = passes.at(-1);
    const together = pass === undefined ? null : [...pass, one];
    if (pass !== undefined && together !== null && isCheaper(together, [pass, [one]], passTokens))
      pass.push(one);
    else passes.push([one]);
  }
  return passes;
}

function isCheaper(
  together: readonly BatchPair[],
  apart: readonly (readonly BatchPair[])[],
  passTokens: number,
): boolean {
  const sum = (of: (pairs: readonly BatchPair[]) => number): number =>
    apart.reduce((total, pairs) => total + of(pairs), 0);
  const tokens = computedTokens(together);
  return (
    tokens <= passTokens &&
    tokens <= sum(computedTokens) + PASS_COST_TOKENS &&
    paddingScores(together) - sum(paddingScores) <= MAX_PADDING_SCORES
  );
}

/** Tokens that the pass of these pairs computes. */
export function computedTokens(pairs: readonly BatchPair[]): number {
  const rows = rowsOfPairs(pairs);
  const all = rows.reduce((sum, { tokens }) => sum + tokens.length, 0);
  return all - (rows.length - 1) * sharedBeginning(rows);
}

function paddingScores(pairs: readonly BatchPair[]): number {
  const rows = rowsOfPairs(pairs);
  const shared = sharedBeginning(rows);
  const ownScores = rows.reduce((sum, { tokens }) => sum + (tokens.length - shared) * tokens.length, 0);
  return attentionScores(pairs) - shared ** 2 - ownScores;
}

/** Scores of the pass of these pairs, padding included: every row counts as the longest. */
function attentionScores(pairs: readonly BatchPair[]): number {
  const rows = rowsOfPairs(pairs);
  const shared = sharedBeginning(rows);
  return shared ** 2 + rows.length * (longest(pairs) - shared) * longest(pairs);
}

function longest(pairs: readonly BatchPair[]): number {
  return Math.max(...rowsOfPairs(pairs).map(({ tokens }) => tokens.length));
}

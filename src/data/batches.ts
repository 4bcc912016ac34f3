// Which examples make up which optimizer step, and how a step's rows are laid out for the decoder: tokens flat without
// padding, rows of like length together for attention. Knows no weights and no gradients.
import { createRandom, shuffle } from "../random.ts";
import { groupByBeginning, PASS_COST_TOKENS, sharedBeginning } from "./beginnings.ts";
import type { BatchExample } from "./beginnings.ts";

export type { BatchExample };

/**
 * Tokens of one forward and backward pass. Matrix products run near full speed from about 128 rows on; more only costs
 * memory (about 1.6 MB a token for a 135M model). A longer row makes a pass of its own.
 */
export const PASS_TOKENS = 400;

/**
 * Rows that share a beginning may fill a pass up to so many tokens, the shared ones included: the more rows, the less often the
 * beginning is computed.
 */
export const MAX_SHARED_PASS_TOKENS = 1100;

/**
 * Rows of a pass are padded to the longest in attention, which wastes scores (B * T² less the sum of t²). This many cost about as
 * much as one pass more, which reads every weight from memory twice; as much as the tokens of PASS_COST_TOKENS.
 */
export const MAX_PADDING_SCORES = 20_000;

/**
 * Rows of more tokens attend in this many blocks of queries (model/attention.ts); below, the smaller products cost as much as the
 * scores above the diagonal that they save.
 */
const WHOLE_ROW_TOKENS = 256;
const QUERY_BLOCKS = 4;

/** How many blocks of queries this many tokens of a row attend in. */
function blocksOf(tokens: number): number {
  return tokens > WHOLE_ROW_TOKENS ? QUERY_BLOCKS : 1;
}

/** The order in which an epoch visits `count` examples, and the cut into steps; the same for the same seed and epoch. */
export function epochBatches(count: number, batchSize: number, seed: number, epoch: number): number[][] {
  const order = shuffle(
    Array.from({ length: count }, (_, i) => i),
    createRandom(seed, epoch),
  );
  const batches: number[][] = [];
  for (let start = 0; start < count; start += batchSize) batches.push(order.slice(start, start + batchSize));
  return batches;
}

/**
 * Splits examples into passes: those that gain by a beginning they share go together, and all are sorted by length, so that rows
 * that share a pass pad little.
 */
export function splitIntoPasses<T extends BatchExample>(
  examples: readonly T[],
  passTokens = PASS_TOKENS,
): T[][] {
  const groups = groupByBeginning(examples, (sharedTokens) => ownBudget(sharedTokens, passTokens));
  return groups.flatMap(({ examples: rows, sharedTokens }) =>
    splitByLength(rows, ownBudget(sharedTokens, passTokens), sharedTokens),
  );
}

/** Most tokens that a pass of several rows computes whose rows share so many. */
export function passBudget(sharedTokens: number, passTokens: number): number {
  return sharedTokens + ownBudget(sharedTokens, passTokens);
}

/** Tokens of a pass that are not shared. */
function ownBudget(sharedTokens: number, passTokens: number): number {
  const scaled = (MAX_SHARED_PASS_TOKENS / PASS_TOKENS) * passTokens;
  return Math.floor(Math.max(passTokens, Math.min(passTokens + sharedTokens, scaled - sharedTokens)));
}

/** Splits rows that share their first tokens; `budget`: tokens of a pass beside these, unless one row has more. */
export function splitByLength<T extends Pick<BatchExample, "tokens">>(
  examples: readonly T[],
  budget = PASS_TOKENS,
  sharedTokens = 0,
): T[][] {
  const sorted = [...examples].sort((a, b) => a.tokens.length - b.tokens.length);
  // A pass more computes the beginning once more.
  const maxPadding = MAX_PADDING_SCORES * (1 + sharedTokens / PASS_COST_TOKENS);
  const passes: T[][] = [];
  let tokens = 0;
  let scores = 0;
  for (const example of sorted) {
    const length = example.tokens.length;
    const own = length - sharedTokens;
    const pass = passes.at(-1);
    tokens += own;
    scores += own * length;
    const padding = ((pass?.length ?? 0) + 1) * own * length - scores;
    if (pass !== undefined && tokens <= budget && padding <= maxPadding) {
      pass.push(example);
    } else {
      passes.push([example]);
      tokens = own;
      scores = own * length;
    }
  }
  return passes;
}

/**
 * One pass as arrays; names and shapes as in model/attention's TokenLayout, N flat tokens in B rows of at most T. Rows that begin
 * alike may share the tokens of their beginning: those stand once among the flat tokens, and in every row's places.
 */
export interface PassLayout {
  /** [N]. */
  tokens: Int32Array;
  rowCount: number;
  rowLength: number;
  /** Blocks of queries in attention; divides rowLength less the shared tokens. */
  queryBlocks: number;
  /** [N]: place of each token in its row. */
  positions: BigInt64Array;
  /** [B, T]: flat token at each place; padding names token 0. */
  blockIndex: Int32Array;
  /** [N]: place b*T + t of each token; of a shared one, its place in the first row. */
  flatIndex: Int32Array;
  /** [B, T]: 1 for tokens, 0 for padding and for further copies of shared tokens. */
  blockMask: Float32Array;
  /** Leading tokens that all rows share; they are the first flat tokens. */
  sharedTokens: number;
  /** Blocks of queries of the shared tokens, which divide them; 0 where there are none. */
  sharedBlocks: number;
}

export interface LayoutOptions {
  /** Place in its row of each row's first token. */
  firstPosition?: number;
  queryBlocks?: number;
  /** Leading tokens that are equal in all rows and stand once; each row must be longer. */
  sharedTokens?: number;
}

/** Lays rows out one after the other, what they share first. */
export function layOut(rows: readonly Int32Array[], options: LayoutOptions = {}): PassLayout {
  const { firstPosition = 0, queryBlocks = 1, sharedTokens = 0 } = options;
  const count = rows.reduce((sum, row) => sum + row.length - sharedTokens, sharedTokens);
  const longest = Math.max(...rows.map((row) => row.length));
  const rowLength = sharedTokens + Math.ceil((longest - sharedTokens) / queryBlocks) * queryBlocks;
  const layout: PassLayout = {
    tokens: new Int32Array(count),
    rowCount: rows.length,
    rowLength,
    queryBlocks,
    positions: new BigInt64Array(count),
    blockIndex: new Int32Array(rows.length * rowLength),
    flatIndex: new Int32Array(count),
    blockMask: new Float32Array(rows.length * rowLength),
    sharedTokens,
    sharedBlocks: sharedTokens === 0 ? 0 : blocksOf(sharedTokens),
  };
  let next = 0;
  for (const [b, row] of rows.entries()) {
    for (const [t, token] of row.entries()) {
      const place = b * rowLength + t;
      if (b > 0 && t < sharedTokens) {
        layout.blockIndex[place] = t;
        continue;
      }
      layout.tokens[next] = token;
      layout.positions[next] = BigInt(firstPosition + t);
      layout.blockIndex[place] = next;
      layout.blockMask[place] = 1;
      layout.flatIndex[next] = place;
      next += 1;
    }
  }
  return layout;
}

/** A pass for training: inputs, and for each row of the final hidden state that carries loss its place and its target. */
export interface SupervisedPass {
  layout: PassLayout;
  /** Flat places n whose next token counts. */
  lossRows: Int32Array;
  /** The next token at each of them. */
  targets: Int32Array;
}

/**
 * Builds a pass: each row's inputs are its tokens but the last, its targets its tokens but the first. A beginning that all rows
 * have in common, a system message as a rule, is computed once.
 */
export function supervisedPass(examples: readonly BatchExample[]): SupervisedPass {
  const rows = examples.map(({ tokens }) => tokens.subarray(0, tokens.length - 1));
  const common = sharedBeginning(examples);
  const sharedTokens = common - (common % blocksOf(common));
  const ownTokens = Math.max(...rows.map((row) => row.length)) - sharedTokens;
  const layout = layOut(rows, { queryBlocks: blocksOf(ownTokens), sharedTokens });
  const lossRows: number[] = [];
  const targets: number[] = [];
  for (const [b, { tokens, supervised }] of examples.entries()) {
    for (let i = 1; i < tokens.length; i++) {
      if (supervised[i] !== 1) continue;
      lossRows.push(layout.blockIndex[b * layout.rowLength + i - 1] as number);
      targets.push(tokens[i] as number);
    }
  }
  return { layout, lossRows: Int32Array.from(lossRows), targets: Int32Array.from(targets) };
}

/** Tokens of the examples that the loss counts. */
export function countSupervised(examples: readonly BatchExample[]): number {
  let count = 0;
  for (const { supervised } of examples)
    for (let i = 1; i < supervised.length; i++) count += supervised[i] as number;
  return count;
}

// Which examples make up which optimizer step, and how a step's rows are laid out for the decoder: tokens flat without
// padding, rows of like length together for attention. Knows no weights and no gradients.
import { createRandom, shuffle } from "../random.ts";

/** What batching needs of an encoded example. */
export interface BatchExample {
  tokens: Int32Array;
  /** 1 where the loss counts the token. */
  supervised: Uint8Array;
}

/**
 * Tokens of one forward and backward pass. Matrix products run near full speed from about 128 rows on; more only costs
 * memory (about 1.6 MB a token for a 135M model). A longer row makes a pass of its own.
 */
export const PASS_TOKENS = 400;

/**
 * Rows of a pass are padded to the longest in attention, which wastes scores (B * T² less the sum of t²). This many cost
 * about as much as one pass more, which reads every weight from memory twice.
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

/** Splits examples into passes: sorted by length, so that rows that share a pass pad little. */
export function splitIntoPasses<T extends Pick<BatchExample, "tokens">>(
  examples: readonly T[],
  passTokens = PASS_TOKENS,
): T[][] {
  const sorted = [...examples].sort((a, b) => a.tokens.length - b.tokens.length);
  const passes: T[][] = [];
  let tokens = 0;
  let scores = 0;
  for (const example of sorted) {
    const length = example.tokens.length;
    const pass = passes.at(-1);
    tokens += length;
    scores += length ** 2;
    const padding = ((pass?.length ?? 0) + 1) * length ** 2 - scores;
    if (pass !== undefined && tokens <= passTokens && padding <= MAX_PADDING_SCORES) {
      pass.push(example);
    } else {
      passes.push([example]);
      tokens = length;
      scores = length ** 2;
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
  const sharedTokens = sharedBeginning(examples);
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

/**
 * How many leading tokens stand in every example, before the first whose next token carries loss in any of them: what the
 * decoder makes of a token depends on nothing behind it. Each row keeps an input of its own.
 */
export function sharedBeginning(examples: readonly BatchExample[]): number {
  const limits = examples.map(({ tokens, supervised }) => {
    const firstTarget = supervised.indexOf(1, 1);
    return (firstTarget < 0 ? tokens.length - 1 : firstTarget) - 1;
  });
  const common = commonBeginning(
    examples.map(({ tokens }) => tokens),
    Math.min(...limits),
  );
  return common - (common % blocksOf(common));
}

/** How many leading tokens, up to `limit`, are the same in all of several rows; of a single row, none. */
export function commonBeginning(rows: readonly Int32Array[], limit: number): number {
  const [first, ...others] = rows;
  if (first === undefined || others.length === 0) return 0;
  let common = Math.max(limit, 0);
  for (const row of others) {
    let equal = 0;
    while (equal < common && row[equal] === first[equal]) equal += 1;
    common = equal;
  }
  return common;
}

/** Tokens of the examples that the loss counts. */
export function countSupervised(examples: readonly BatchExample[]): number {
  let count = 0;
  for (const { supervised } of examples)
    for (let i = 1; i < supervised.length; i++) count += supervised[i] as number;
  return count;
}

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

/** One pass as arrays; names and shapes as in model/decoder's TokenLayout, N flat tokens in B rows of at most T. */
export interface PassLayout {
  /** [N]. */
  tokens: Int32Array;
  rowCount: number;
  rowLength: number;
  /** Blocks of queries in attention; divides rowLength. */
  queryBlocks: number;
  /** [N]: place of each token in its row. */
  positions: BigInt64Array;
  /** [B, T]: flat token at each place; padding names token 0. */
  blockIndex: Int32Array;
  /** [N]: place b*T + t of each token. */
  flatIndex: Int32Array;
  /** [B, T]: 1 for tokens, 0 for padding. */
  blockMask: Float32Array;
}

/** Lays rows out one after the other. */
export function layOut(rows: readonly Int32Array[], firstPosition = 0, queryBlocks = 1): PassLayout {
  const count = rows.reduce((sum, row) => sum + row.length, 0);
  const longest = Math.max(...rows.map((row) => row.length));
  const rowLength = Math.ceil(longest / queryBlocks) * queryBlocks;
  const layout: PassLayout = {
    tokens: new Int32Array(count),
    rowCount: rows.length,
    rowLength,
    queryBlocks,
    positions: new BigInt64Array(count),
    blockIndex: new Int32Array(rows.length * rowLength),
    flatIndex: new Int32Array(count),
    blockMask: new Float32Array(rows.length * rowLength),
  };
  let flat = 0;
  for (const [b, row] of rows.entries()) {
    for (const [t, token] of row.entries()) {
      layout.tokens[flat] = token;
      layout.positions[flat] = BigInt(firstPosition + t);
      layout.blockIndex[b * rowLength + t] = flat;
      layout.blockMask[b * rowLength + t] = 1;
      layout.flatIndex[flat] = b * rowLength + t;
      flat += 1;
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

/** Builds a pass: each row's inputs are its tokens but the last, its targets its tokens but the first. */
export function supervisedPass(examples: readonly BatchExample[]): SupervisedPass {
  const rows = examples.map(({ tokens }) => tokens.subarray(0, tokens.length - 1));
  const isLong = rows.some((row) => row.length > WHOLE_ROW_TOKENS);
  const layout = layOut(rows, 0, isLong ? QUERY_BLOCKS : 1);
  const lossRows: number[] = [];
  const targets: number[] = [];
  let start = 0;
  for (const { tokens, supervised } of examples) {
    for (let i = 1; i < tokens.length; i++) {
      if (supervised[i] !== 1) continue;
      lossRows.push(start + i - 1);
      targets.push(tokens[i] as number);
    }
    start += tokens.length - 1;
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

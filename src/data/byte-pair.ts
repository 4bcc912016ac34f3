// Byte-pair merging by ids in n log n, in steps between which a caller may do something else: one word may be a whole request.
// Semantics of huggingface/tokenizers models/bpe; it knows neither how symbols are spelled nor what a word is.
import type { Steps } from "../steps.ts";

/** Merges, or symbols read, between two steps: a millisecond or two. */
export const STEP_LENGTH = 4_096;

/** Which two tokens become which; the lower the rank, the earlier. */
export interface Merges {
  /** By left id * width + right id: the rank. */
  ranks: ReadonlyMap<number, number>;
  width: number;
  /** By rank. */
  results: Int32Array;
}

/** Merges of a tokenizer.json, or the rank of the first one that is not two tokens which make up a third. */
export function* readMerges(
  list: readonly unknown[],
  ids: ReadonlyMap<string, number>,
): Steps<Merges | { strange: number }> {
  let width = 0;
  for (const id of ids.values()) width = Math.max(width, id + 1);
  const ranks = new Map<number, number>();
  const results = new Int32Array(list.length);
  for (const [rank, entry] of list.entries()) {
    if (rank % STEP_LENGTH === STEP_LENGTH - 1) yield;
    const pair: unknown = typeof entry === "string" ? entry.split(" ") : entry;
    const [left, right] = pair as [string, string];
    const [leftId, rightId, result] = [ids.get(left), ids.get(right), ids.get(left + right)];
    if (leftId === undefined || rightId === undefined || result === undefined) return { strange: rank };
    const key = leftId * width + rightId;
    if (!ranks.has(key)) ranks.set(key, rank);
    results[rank] = result;
  }
  return { ranks, width, results };
}

/** A place and a rank in one number, ordered by rank, then place: both are far below 2^26. */
const PLACES = 2 ** 26;

/** Merges neighbours, always those of the lowest rank and of equal ones the first, until none can be. Takes `symbols` over. */
export function* mergeAll(symbols: number[], { ranks, width, results }: Merges): Steps<number[]> {
  const count = symbols.length;
  if (count >= PLACES) throw new Error(`internal: a text of ${count} characters is too long to tokenize`);
  const next = new Int32Array(count);
  const previous = new Int32Array(count);
  for (let place = 0; place < count; place++) {
    next[place] = place + 1 < count ? place + 1 : -1;
    previous[place] = place - 1;
  }
  const isGone = new Uint8Array(count);
  const queue = new MinimumQueue();
  const rankAt = (place: number): number | undefined => {
    const right = next[place] as number;
    return right < 0 ? undefined : ranks.get((symbols[place] as number) * width + (symbols[right] as number));
  };
  const offer = (place: number) => {
    const rank = rankAt(place);
    if (rank !== undefined) queue.push(rank * PLACES + place);
  };
  for (let place = 0; place < count; place++) {
    if (place % STEP_LENGTH === STEP_LENGTH - 1) yield;
    offer(place);
  }
  let steps = 0;
  for (let entry = queue.pop(); entry !== undefined; entry = queue.pop()) {
    if (++steps % STEP_LENGTH === 0) yield;
    const place = entry % PLACES;
    const rank = (entry - place) / PLACES;
    // Entries of pairs that are no longer there stay in the queue and are passed over here.
    if (isGone[place] === 1 || rankAt(place) !== rank) continue;
    const right = next[place] as number;
    symbols[place] = results[rank] as number;
    isGone[right] = 1;
    const after = next[right] as number;
    next[place] = after;
    if (after >= 0) previous[after] = place;
    offer(place);
    if ((previous[place] as number) >= 0) offer(previous[place] as number);
  }
  return symbols.filter((_, place) => isGone[place] === 0);
}

/** A binary heap of numbers. */
class MinimumQueue {
  readonly #items: number[] = [];

  push(item: number): void {
    const items = this.#items;
    let at = items.length;
    items.push(item);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((items[parent] as number) <= item) break;
      items[at] = items[parent] as number;
      at = parent;
    }
    items[at] = item;
  }

  /** The smallest; undefined when empty. */
  pop(): number | undefined {
    const items = this.#items;
    const smallest = items[0];
    const item = items.pop();
    if (item === undefined || items.length === 0) return smallest;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && (items[child + 1] as number) < (items[child] as number)) child += 1;
      if ((items[child] as number) >= item) break;
      items[at] = items[child] as number;
      at = child;
    }
    items[at] = item;
    return smallest;
  }
}

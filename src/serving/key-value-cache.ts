// Keys and values of the tokens that some sequences have been through, laid out as the generation graph reads them:
// per layer [rows, K, places, E]. Rows are added at the end, and a removed row's place is taken by the last one, so that the
// rows in use are always one contiguous piece.
import { FORBIDDEN } from "../model/attention-mask.ts";
import { layerFeed } from "../model/decoder.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { float32 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";

/** Places grow in steps of this: few reallocations, and at most so many masked places are computed in vain. */
const PLACE_STEP = 64;

/** What the arrays have room for. */
interface Capacity {
  rows: number;
  places: number;
}

export class KeyValueCache {
  readonly #config: ModelConfig;
  #capacity: Capacity = { rows: 1, places: 1 };
  /** Per layer keys, values, keys, values…; each [rows, K, places, E] of the capacity. */
  readonly #arrays: Float32Array[];
  #lengths: number[] = [];
  #feeds: Record<string, HostTensor> | null = null;

  constructor(config: ModelConfig) {
    this.#config = config;
    this.#arrays = Array.from({ length: config.layerCount * 2 }, () => this.#newArray(this.#capacity));
  }

  get rows(): number {
    return this.#lengths.length;
  }

  /** Tokens a row holds. */
  length(row: number): number {
    return this.#lengths[row] as number;
  }

  /** Tokens of every row. */
  get lengths(): readonly number[] {
    return this.#lengths;
  }

  /** Row-places of the arrays once rows were added and the longest had grown to `length`: what memory is counted in. */
  sizeWith(extraRows: number, length: number): number {
    const { rows, places } = this.#capacityFor(this.rows + extraRows, length);
    return rows * places;
  }

  /** Makes room for so many more rows of this length at once: each time the arrays grow, all of them is copied. */
  reserve(extraRows: number, length: number): void {
    this.#resize(this.#capacityFor(this.rows + extraRows, length));
  }

  /** Gives back the memory of rows that have left and of places that no row reaches. */
  trim(): void {
    this.#resize({ rows: Math.max(this.rows, 1), places: roundUp(Math.max(0, ...this.#lengths)) });
  }

  /** Adds an empty row, or a copy of row 0 of another cache; gives its index. */
  addRow(source?: KeyValueCache): number {
    const row = this.rows;
    const length = source?.length(0) ?? 0;
    this.reserve(1, length);
    this.#lengths.push(length);
    if (source !== undefined) {
      for (const [i, array] of this.#arrays.entries())
        this.#copyRow(source.#arrays[i] as Float32Array, source.#capacity.places, 0, array, row, length);
    }
    this.#feeds = null;
    return row;
  }

  /** Removes a row; the last row moves into its place. */
  removeRow(row: number): void {
    const last = this.rows - 1;
    if (row !== last) {
      const length = this.length(last);
      for (const array of this.#arrays) this.#copyRow(array, this.#capacity.places, last, array, row, length);
      this.#lengths[row] = length;
    }
    this.#lengths.pop();
    this.#feeds = null;
  }

  /** Appends `count` tokens to a row from `keysValues` [N, L*2*K*E] (the graph's output), from flat token `start` on. */
  append(row: number, keysValues: Float32Array, start: number, count: number): void {
    const { keyValueHeads: K, headWidth: E } = this.#config;
    const from = this.length(row);
    this.reserve(0, from + count);
    const width = this.#arrays.length * K * E;
    for (let t = 0; t < count; t++) {
      let source = (start + t) * width;
      for (const array of this.#arrays) {
        for (let head = 0; head < K; head++) {
          array.set(keysValues.subarray(source, source + E), this.#offset(row, head, from + t));
          source += E;
        }
      }
    }
    this.#lengths[row] = from + count;
  }

  /** past_keys and past_values of every layer, the mask of filled places, and S. */
  feeds(): { feeds: Readonly<Record<string, HostTensor>>; places: number } {
    const { keyValueHeads: K, headWidth: E } = this.#config;
    const [rows, places] = [this.rows, this.#capacity.places];
    if (this.#feeds === null) {
      this.#feeds = {};
      for (const [i, array] of this.#arrays.entries()) {
        const name = layerFeed(Math.floor(i / 2), i % 2 === 0 ? "past_keys" : "past_values");
        this.#feeds[name] = float32(array.subarray(0, rows * K * places * E), [rows, K, places, E]);
      }
    }
    const mask = new Float32Array(rows * places);
    for (const [row, length] of this.#lengths.entries())
      mask.fill(FORBIDDEN, row * places + length, (row + 1) * places);
    return { feeds: { ...this.#feeds, past_mask: float32(mask, [rows, 1, 1, places]) }, places };
  }

  /** As it is where that is enough; arrays that must be made anew hold what is needed. */
  #capacityFor(rows: number, length: number): Capacity {
    const now = this.#capacity;
    if (rows <= now.rows && length <= now.places) return now;
    return { rows, places: roundUp(Math.max(length, ...this.#lengths)) };
  }

  /** All arrays are made before anything changes: when the memory for one is lacking, the cache stays as it was. */
  #resize(capacity: Capacity): void {
    const old = this.#capacity;
    if (capacity.rows === old.rows && capacity.places === old.places) return;
    const resizedArrays = this.#arrays.map(() => this.#newArray(capacity));
    this.#capacity = capacity;
    for (const [i, resized] of resizedArrays.entries()) {
      const array = this.#arrays[i] as Float32Array;
      for (const [row, held] of this.#lengths.entries()) {
        this.#copyRow(array, old.places, row, resized, row, held);
      }
      this.#arrays[i] = resized;
    }
    this.#feeds = null;
  }

  #newArray({ rows, places }: Capacity): Float32Array {
    const { keyValueHeads: K, headWidth: E } = this.#config;
    return new Float32Array(rows * K * places * E);
  }

  #copyRow(
    source: Float32Array,
    sourcePlaces: number,
    sourceRow: number,
    target: Float32Array,
    targetRow: number,
    length: number,
  ): void {
    const { keyValueHeads: K, headWidth: E } = this.#config;
    for (let head = 0; head < K; head++) {
      const from = (sourceRow * K + head) * sourcePlaces * E;
      target.set(source.subarray(from, from + length * E), this.#offset(targetRow, head, 0));
    }
  }

  #offset(row: number, head: number, place: number): number {
    const { keyValueHeads: K, headWidth: E } = this.#config;
    return ((row * K + head) * this.#capacity.places + place) * E;
  }
}

function roundUp(length: number): number {
  return Math.ceil(Math.max(length, 1) / PLACE_STEP) * PLACE_STEP;
}

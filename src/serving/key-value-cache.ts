// Keys and values of the tokens that some sequences have been through, laid out as the generation graph reads them:
// per layer [rows, K, places, E]. Rows are added at the end, and a removed row's place is taken by the last one, so that the
// rows in use are always one contiguous piece.
import { FORBIDDEN } from "../model/attention-mask.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { float32 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";
import { layerFeed } from "./generation-graph.ts";

/** Places grow in steps of this: few reallocations, and at most so many masked places are computed in vain. */
const PLACE_STEP = 64;

export class KeyValueCache {
  readonly #config: ModelConfig;
  /** Per layer keys, values, keys, values…; each [rowCapacity, K, placeCapacity, E]. */
  #arrays: Float32Array[];
  #rowCapacity = 1;
  #placeCapacity = 1;
  #lengths: number[] = [];
  #feeds: Record<string, HostTensor> | null = null;

  constructor(config: ModelConfig) {
    this.#config = config;
    this.#arrays = this.#allocate();
  }

  get rows(): number {
    return this.#lengths.length;
  }

  /** Tokens a row holds. */
  length(row: number): number {
    return this.#lengths[row] as number;
  }

  /** Row-places of the arrays if one more row were added and rows grew to `length`: what memory is counted in. */
  sizeWith(extraRows: number, length: number): number {
    const longest = Math.max(length, ...this.#lengths);
    return (this.rows + extraRows) * roundUp(longest);
  }

  /** Adds an empty row, or a copy of row 0 of another cache; gives its index. */
  addRow(source?: KeyValueCache): number {
    const row = this.rows;
    const length = source?.length(0) ?? 0;
    this.#reserve(row + 1, length);
    this.#lengths.push(length);
    if (source !== undefined) {
      for (const [i, array] of this.#arrays.entries())
        this.#copyRow(source.#arrays[i] as Float32Array, source.#placeCapacity, 0, array, row, length);
    }
    this.#feeds = null;
    return row;
  }

  /** Removes a row; the last row moves into its place. */
  removeRow(row: number): void {
    const last = this.rows - 1;
    if (row !== last) {
      const length = this.length(last);
      for (const array of this.#arrays) this.#copyRow(array, this.#placeCapacity, last, array, row, length);
      this.#lengths[row] = length;
    }
    this.#lengths.pop();
    this.#feeds = null;
  }

  /** Appends `count` tokens to a row from `keysValues` [N, L*2*K*E] (the graph's output), from flat token `start` on. */
  append(row: number, keysValues: Float32Array, start: number, count: number): void {
    const { keyValueHeads: K, headWidth: E } = this.#config;
    const from = this.length(row);
    this.#reserve(this.rows, from + count);
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
    const [rows, places] = [this.rows, this.#placeCapacity];
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

  #reserve(rows: number, length: number): void {
    if (rows <= this.#rowCapacity && length <= this.#placeCapacity) return;
    const [old, oldPlaces] = [this.#arrays, this.#placeCapacity];
    this.#rowCapacity = rows <= this.#rowCapacity ? this.#rowCapacity : Math.max(rows, this.#rowCapacity * 2);
    if (length > this.#placeCapacity) this.#placeCapacity = roundUp(length);
    this.#arrays = this.#allocate();
    for (const [i, array] of this.#arrays.entries()) {
      for (const [row, held] of this.#lengths.entries()) {
        this.#copyRow(old[i] as Float32Array, oldPlaces, row, array, row, held);
      }
    }
    this.#feeds = null;
  }

  #allocate(): Float32Array[] {
    const { layerCount, keyValueHeads: K, headWidth: E } = this.#config;
    const size = this.#rowCapacity * K * this.#placeCapacity * E;
    return Array.from({ length: layerCount * 2 }, () => new Float32Array(size));
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
    return ((row * K + head) * this.#placeCapacity + place) * E;
  }
}

function roundUp(length: number): number {
  return Math.ceil(Math.max(length, 1) / PLACE_STEP) * PLACE_STEP;
}

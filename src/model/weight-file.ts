// Positioned reads from one open weights file, and the interface both weight formats offer. Knows no format.
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { UnsupportedModel, messageOf } from "../errors.ts";

/** Tensors of a model or adapter, by name, wherever they lie. */
export interface TensorSource {
  names(): Iterable<string>;
  /** Row-major, outermost dimension first; undefined when there is no such tensor. */
  shape(name: string): readonly number[] | undefined;
  /** The values as f32, freshly read; the caller owns the array. */
  read(name: string): Float32Array;
  close(): void;
}

/** Bytes converted at a time: large enough for the disk, small enough to stay in the processor's cache. */
export const READ_CHUNK_BYTES = 1 << 20;

/** One read(2) returns at most 2 GiB - 4096; asking for less than that keeps the loop below simple. */
const MAX_READ_BYTES = 1 << 30;

/** A file open for reading at any offset, whose size was taken when it was opened. */
export class WeightFile {
  readonly path: string;
  readonly sizeBytes: number;
  #descriptor: number | null;

  constructor(path: string) {
    this.path = path;
    try {
      this.#descriptor = openSync(path, "r");
    } catch (error) {
      throw new UnsupportedModel(`${path} cannot be opened: ${messageOf(error)}. Check the path.`, {
        code: "unsupported_model",
        cause: error,
      });
    }
    const stat = fstatSync(this.#descriptor);
    this.sizeBytes = stat.size;
    if (!stat.isFile()) {
      this.close();
      throw this.broken("it is not a file");
    }
  }

  /** Fills `target` from `offset`; throws when the file ends before. */
  readInto(target: Uint8Array, offset: number): void {
    if (this.#descriptor === null) throw new Error(`internal: ${this.path} was read after it was closed`);
    let done = 0;
    while (done < target.byteLength) {
      const length = Math.min(target.byteLength - done, MAX_READ_BYTES);
      const count = readSync(this.#descriptor, target, done, length, offset + done);
      if (count === 0)
        throw this.broken(
          `it ends at byte ${offset + done}, but ${target.byteLength} bytes from ${offset} were expected`,
        );
      done += count;
    }
  }

  /** The error for a file whose content cannot be what it claims. */
  broken(reason: string): UnsupportedModel {
    return new UnsupportedModel(
      `${this.path} is damaged or not a weights file: ${reason}. Get the file again and compare its checksum.`,
      { code: "unsupported_model" },
    );
  }

  close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }
}

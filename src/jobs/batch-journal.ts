// results.jsonl of a batch directory: one finished line of the batch a record, append only. A record that was appended is never
// lost, and its line never runs again.
import { open, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { fileLines } from "../data/file-lines.ts";
import type { BatchOutputLine } from "../wire/batches.ts";

export interface BatchRecord {
  /** 1-based, of the input file. */
  line: number;
  output: BatchOutputLine;
}

/** Whether the line goes into the output file, or else into the error file. */
export function hasSucceeded({ response }: BatchOutputLine): boolean {
  return response !== null && response.status_code >= 200 && response.status_code < 300;
}

export class BatchJournal {
  readonly #file: FileHandle;
  /** Records that wait for the next write, and its promise. */
  #next: { texts: string[]; written: Promise<void> } | null = null;
  #writing: Promise<void> = Promise.resolve();
  /** Bytes of whole records. */
  #size: number;

  private constructor(file: FileHandle, size: number) {
    this.#file = file;
    this.#size = size;
  }

  /** Of a journal that is mended. */
  static async open(path: string): Promise<BatchJournal> {
    const file = await open(path, "a");
    return new BatchJournal(file, (await file.stat()).size);
  }

  /** Resolves when the record will survive a power cut. Records that come together share one write. */
  append(record: BatchRecord): Promise<void> {
    const text = `${JSON.stringify(record)}\n`;
    if (this.#next !== null) {
      this.#next.texts.push(text);
      return this.#next.written;
    }
    const texts = [text];
    const written = this.#writing.then(async () => {
      this.#next = null;
      await this.#write(Buffer.from(texts.join("")));
    });
    this.#next = { texts, written };
    // The next write waits for this one, whether or not it succeeds.
    this.#writing = written.catch(() => undefined);
    return written;
  }

  async #write(bytes: Buffer): Promise<void> {
    try {
      await this.#file.appendFile(bytes);
      await this.#file.datasync();
    } catch (error) {
      // The next record must not be glued to half of this one.
      await this.#file.truncate(this.#size).catch(() => undefined);
      throw error;
    }
    this.#size += bytes.length;
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }
}

/** Cuts off the half record that a kill may have left; before anybody reads or writes. */
export async function mendJournal(path: string): Promise<void> {
  let file: FileHandle;
  try {
    file = await open(path, "r+");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return;
    throw error;
  }
  try {
    await file.truncate(await endOfLastRecord(file));
  } finally {
    await file.close();
  }
}

/** Every record of a journal, in the order in which lines finished; none where there is no journal. */
export async function* readJournal(path: string): AsyncGenerator<BatchRecord, void, void> {
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size === 0) return;
  for await (const { bytes } of fileLines(path, { maxLineBytes: size })) {
    if (bytes !== null) yield JSON.parse(bytes.toString("utf8")) as BatchRecord;
  }
}

/** Bytes read at a time, from the end. */
const TAIL_BYTES = 64 * 1024;

async function endOfLastRecord(file: FileHandle): Promise<number> {
  const { size } = await file.stat();
  const tail = Buffer.alloc(TAIL_BYTES);
  for (let end = size; end > 0; end -= TAIL_BYTES) {
    const start = Math.max(0, end - TAIL_BYTES);
    const { bytesRead } = await file.read(tail, 0, end - start, start);
    const at = tail.lastIndexOf("\n", bytesRead - 1);
    if (at !== -1 && at < bytesRead) return start + at + 1;
  }
  return 0;
}

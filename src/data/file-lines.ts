// A text file's lines as bytes, read in chunks with bounded memory. It knows no JSON.
import { createReadStream } from "node:fs";
import { Cancelled, messageOf, Unavailable } from "../errors.ts";

export interface FileLine {
  /** 1-based. */
  number: number;
  /** Of a run of empty lines, where those are asked for as one: the last of them; else the line itself. */
  lastNumber: number;
  /** Without line feed, carriage return before it, or byte order mark; null when longer than the limit. */
  bytes: Buffer | null;
  /** Bytes of the file up to the line's end. */
  endsAt: number;
}

export interface FileLinesOptions {
  maxLineBytes: number;
  /** Empty lines in a row come as one: a file of line feeds would else be a hundred million lines. */
  joinsEmptyLines?: boolean;
  signal?: AbortSignal | undefined;
}

/** Bytes read at a time: large enough to be quick, small enough that other work gets its turn. */
const CHUNK_BYTES = 1 << 20;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);

/**
 * Yields every line; a last line without line feed counts, an empty rest after the last line feed does not.
 * Throws Unavailable when the file cannot be read and Cancelled when the signal aborts.
 */
export async function* fileLines(
  path: string,
  { maxLineBytes, joinsEmptyLines = false, signal }: FileLinesOptions,
): AsyncGenerator<FileLine, void, void> {
  let number = 1;
  let parts: Buffer[] = [];
  let length = 0;
  let endsAt = 0;
  const add = (part: Buffer) => {
    length += part.length;
    endsAt += part.length;
    // Of a line that is too long nothing is kept.
    if (length > maxLineBytes + LINE_END_BYTES) parts = [];
    else if (part.length > 0) parts.push(part);
  };
  const take = (): FileLine => {
    const bytes = length > maxLineBytes + LINE_END_BYTES ? null : trimmed(Buffer.concat(parts), number === 1);
    parts = [];
    length = 0;
    const kept = bytes !== null && bytes.length > maxLineBytes ? null : bytes;
    return { number, lastNumber: number++, bytes: kept, endsAt };
  };
  try {
    for await (const chunk of createReadStream(path, {
      highWaterMark: CHUNK_BYTES,
    }) as AsyncIterable<Buffer>) {
      if (signal?.aborted) throw new Cancelled();
      let start = 0;
      for (let end = chunk.indexOf(LINE_FEED); end !== -1; end = chunk.indexOf(LINE_FEED, start)) {
        if (joinsEmptyLines && length === 0 && end === start) {
          while (chunk[start] === LINE_FEED) start++;
          const count = start - end;
          endsAt += count;
          number += count;
          yield { number: number - count, lastNumber: number - 1, bytes: chunk.subarray(0, 0), endsAt };
          continue;
        }
        add(chunk.subarray(start, end));
        endsAt++;
        start = end + 1;
        yield take();
      }
      // A copy, because a slice would keep its whole chunk alive while the line is incomplete.
      add(Buffer.from(chunk.subarray(start)));
    }
  } catch (error) {
    if (error instanceof Cancelled || !isSystemError(error)) throw error;
    throw new Unavailable(`The file ${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
  if (length > 0) yield take();
}

/** What a line may have beyond its text: byte order mark and carriage return. */
const LINE_END_BYTES = 4;

function trimmed(line: Buffer, isFirst: boolean): Buffer {
  const start = isFirst && line.subarray(0, 3).equals(BYTE_ORDER_MARK) ? 3 : 0;
  return line.subarray(start, line.at(-1) === CARRIAGE_RETURN ? -1 : undefined);
}

function isSystemError(error: unknown): boolean {
  return error instanceof Error && "syscall" in error;
}

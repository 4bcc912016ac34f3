// A file's content from OpenAI to the disk: whole under its name, or not at all. What a broken connection or a killed process left is gone
// on with where OpenAI sends parts of files, and fetched anew where it does not.
import { createHash } from "node:crypto";
import { open, rename, stat, type FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { inAddress } from "../wire/model-names.ts";
import { Cancelled, messageOf, Unavailable } from "../errors.ts";
import { asSpaceError, flushDirectory, writeFileAtomically } from "../model/atomic-write.ts";
import { sha256OfFile } from "../model/file-hash.ts";
import { OpenAiError, type OpenAiClient } from "./openai-client.ts";

/** Bytes between two flushes. What lies below the last whole multiple was flushed before more was written, and survives a power cut. */
const FLUSHED_BYTES = 8 * 1024 * 1024;
/** A download without a byte for so long, in milliseconds, is broken off and begun again. */
const STALL_MS = 30_000;
/** Breaks in a row without getting further. */
const MAX_FRUITLESS_BREAKS = 4;
/** A result file: it is decoded in memory, and a row a step has some 50 bytes. */
const MAX_RESULT_BYTES = 64 * 1024 * 1024;

export interface Downloaded {
  bytes: number;
  sha256: string;
}

/** `expectedBytes` as OpenAI states them, null where it does not. Throws Unavailable or OpenAiError; a partial file stays for the next time. */
export async function downloadFile(
  client: OpenAiClient,
  id: string,
  target: string,
  options: { expectedBytes: number | null; signal: AbortSignal; onBytes: (bytes: number) => void },
): Promise<Downloaded> {
  const partial = join(dirname(target), `.${basename(target)}.partial`);
  const file = await openPartial(partial);
  try {
    let size = (await file.stat()).size;
    options.onBytes(size);
    let furthest = size;
    for (let breaks = 0; options.expectedBytes === null || size !== options.expectedBytes;) {
      const { expectedBytes } = options;
      if (expectedBytes !== null && size > expectedBytes) size = await cut(file, 0);
      const outcome = await receive(client, id, file, size, options);
      size = outcome.size;
      if (outcome.problem === null && (expectedBytes === null || size === expectedBytes)) break;
      breaks = size > furthest ? 0 : breaks + 1;
      furthest = Math.max(furthest, size);
      if (breaks >= MAX_FRUITLESS_BREAKS) {
        const found =
          outcome.problem ??
          `it ended after ${size} of ${String(expectedBytes)} bytes, as OpenAI states them`;
        throw new Unavailable(
          `The download of ${id} broke off ${breaks} times: ${found}. It is tried again by the next pull.`,
        );
      }
    }
    await file.sync();
  } catch (error) {
    throw asSpaceError(error, target);
  } finally {
    await file.close();
  }
  const sha256 = await sha256OfFile(partial);
  const { size: bytes } = await stat(partial);
  await rename(partial, target);
  await flushDirectory(dirname(target));
  return { bytes, sha256 };
}

async function openPartial(path: string): Promise<FileHandle> {
  const file = await open(path, "a+");
  const { size } = await file.stat();
  // Beyond the last flush a power cut may have left anything.
  await cut(file, size - (size % FLUSHED_BYTES));
  return file;
}

async function cut(file: FileHandle, size: number): Promise<number> {
  await file.truncate(size);
  return size;
}

/** One connection's worth. `problem`: why it ended early; null when it ended as it should. */
async function receive(
  client: OpenAiClient,
  id: string,
  file: FileHandle,
  from: number,
  { signal, onBytes }: { signal: AbortSignal; onBytes: (bytes: number) => void },
): Promise<{ size: number; problem: string | null }> {
  let response: Response;
  try {
    response = await client.open(
      `/files/${inAddress(id)}/content`,
      from === 0 ? {} : { range: `bytes=${from}-` },
    );
  } catch (error) {
    // The part asked for is not there: the file is another one than it was, or ends here.
    if (!(error instanceof OpenAiError) || error.status !== 416) throw error;
    return { size: await cut(file, 0), problem: "OpenAI has no such part of the file" };
  }
  const goesOn =
    response.status === 206 && response.headers.get("content-range")?.startsWith(`bytes ${from}-`) === true;
  let size = goesOn ? from : await cut(file, 0);
  onBytes(size);
  const reader = response.body?.getReader() as ReadableStreamDefaultReader<Uint8Array> | undefined;
  try {
    while (reader !== undefined) {
      const { done, value } = await beforeStall(reader.read(), signal);
      if (done) break;
      for (let start = 0; start < value.length;) {
        const room = FLUSHED_BYTES - (size % FLUSHED_BYTES);
        const part = value.subarray(start, start + room);
        await file.appendFile(part);
        start += part.length;
        size += part.length;
        if (size % FLUSHED_BYTES === 0) await file.datasync();
      }
      onBytes(size);
    }
  } catch (error) {
    if (signal.aborted) throw new Cancelled();
    if (error instanceof Error && "syscall" in error && error.syscall === "write") throw error;
    return { size, problem: messageOf(error) };
  } finally {
    await reader?.cancel().catch(() => undefined);
  }
  return { size, problem: null };
}

async function beforeStall<T>(read: Promise<T>, signal: AbortSignal): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const stalled = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no byte for ${STALL_MS / 1000} seconds`)), STALL_MS);
  });
  try {
    return await Promise.race([read, stalled]);
  } finally {
    clearTimeout(timer);
    if (signal.aborted) read.catch(() => undefined);
  }
}

/** A job's metrics: OpenAI sends them base64-encoded, and the CSV they stand for is what is kept. */
export async function downloadResult(client: OpenAiClient, id: string, target: string): Promise<Downloaded> {
  for (let breaks = 1; ; breaks++) {
    const response = await client.open(`/files/${inAddress(id)}/content`);
    try {
      const csv = decodedResult(await bodyOf(response), id);
      await writeFileAtomically(target, [csv]);
      return { bytes: csv.length, sha256: createHash("sha256").update(csv).digest("hex") };
    } catch (error) {
      if (error instanceof Unavailable || !(error instanceof TypeError)) throw error;
      // fetch's word for a connection that ended early.
      if (breaks >= MAX_FRUITLESS_BREAKS)
        throw new Unavailable(`The download of ${id} broke off ${breaks} times: ${messageOf(error)}.`, {
          cause: error,
        });
    }
  }
}

async function bodyOf(response: Response): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? new Blob([]).stream()) {
    size += (chunk as Uint8Array).length;
    if (size > MAX_RESULT_BYTES)
      throw new Unavailable(
        `The result file is larger than ${MAX_RESULT_BYTES} bytes, more than this program decodes.`,
      );
    chunks.push(chunk as Uint8Array);
  }
  return Buffer.concat(chunks);
}

/** A CSV has a comma in its heading, which base64 never has. */
function decodedResult(body: Buffer, id: string): Buffer {
  if (body.includes(",")) return body;
  const text = body.toString("latin1").trim();
  const decoded = Buffer.from(text, "base64");
  if (text !== "" && /^[A-Za-z0-9+/\s]+={0,2}$/.test(text) && decoded.includes(",")) return decoded;
  throw new Unavailable(
    `The result file ${id} is neither a CSV nor the base64 of one. It is tried again by the next pull.`,
  );
}

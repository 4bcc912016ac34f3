// Fetches one file over HTTP so that it appears whole and checked or not at all, and goes on where an earlier attempt
// broke off. Knows no models.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, rename, rm, stat, statfs, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Cancelled, OutOfSpace, Unavailable, messageOf } from "../errors.ts";
import { asSpaceError, flushDirectory } from "./atomic-write.ts";

export interface Progress {
  receivedBytes: number;
  totalBytes: number;
}

/** What the content must hash to. `git-blob` is the hub's checksum for small files: sha1 over git's blob header and the content. */
export type Checksum = { kind: "sha256"; hex: string } | { kind: "git-blob"; hex: string };

export interface DownloadRequest {
  url: string;
  destination: string;
  sizeBytes: number;
  checksum: Checksum;
  headers?: Readonly<Record<string, string>>;
  onProgress?: ((progress: Progress) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** Tests shorten these. */
  timeouts?: Partial<Timeouts> | undefined;
}

export interface Timeouts {
  /** Until the answer's headers: a host that cannot be reached must not keep a user waiting before the next source is tried. */
  connectMs: number;
  /** Without any byte, after which a transfer counts as broken. */
  stallMs: number;
  /** Between attempts. */
  retryMs: number;
}
const DEFAULT_TIMEOUTS: Timeouts = { connectMs: 5_000, stallMs: 30_000, retryMs: 1_000 };

/** Breaks in a row without a byte that was not there before after which a source is given up. */
const MAX_FRUITLESS_ATTEMPTS = 3;

/** Disk space left free beyond the file itself: a disk filled to the last byte breaks the database and the system. */
const SPARE_BYTES = 64 * 1024 * 1024;

/** Where the bytes of an unfinished download wait for the next attempt. */
export function partPath(destination: string): string {
  return `${destination}.part`;
}

/**
 * Downloads to `destination`. Breaks are resumed, by later calls too. Throws Unavailable when the source fails or the
 * content is not the expected one (nothing is left then), OutOfSpace when the disk cannot hold it, Cancelled on abort.
 */
export async function downloadFile(request: DownloadRequest): Promise<void> {
  const timeouts = { ...DEFAULT_TIMEOUTS, ...request.timeouts };
  const part = partPath(request.destination);
  if (await isComplete(request)) return;
  await mkdir(dirname(part), { recursive: true });
  try {
    const resumedBytes = await sizeOfPart(part, request.sizeBytes);
    await requireFreeSpace(dirname(part), request.sizeBytes - resumedBytes);
    await receiveAll(request, part, timeouts);
    if (resumedBytes > 0 && !(await hasChecksum(part, request.checksum))) {
      // The bytes of an earlier run may be of another version of the file: once more, from the start.
      await rm(part, { force: true });
      await receiveAll(request, part, timeouts);
    }
    await publishChecked(part, request);
  } catch (error) {
    if (request.signal?.aborted)
      throw new Cancelled("The download was cancelled; it goes on from there next time.");
    const spaceError = asSpaceError(error, request.destination);
    const isWorthless = error instanceof Unavailable && error.code === "checksum_mismatch";
    if (spaceError instanceof OutOfSpace || isWorthless) await rm(part, { force: true });
    throw spaceError;
  }
}

/** Renames a complete file into place when it is the expected one; removes it and throws Unavailable when it is not. */
export async function publishChecked(
  path: string,
  expected: Pick<DownloadRequest, "destination" | "sizeBytes" | "checksum">,
): Promise<void> {
  const { size } = await stat(path);
  const found = await checksumOf(path, expected.checksum.kind, size);
  if (size !== expected.sizeBytes || found !== expected.checksum.hex) {
    await rm(path, { force: true });
    throw new Unavailable(
      `the content is not the expected one: expected ${expected.sizeBytes} bytes with ${expected.checksum.kind} ${expected.checksum.hex}, ` +
        `found ${size} bytes with ${found}; it was deleted`,
      { code: "checksum_mismatch" },
    );
  }
  const handle = await open(path, "r+");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(path, expected.destination);
  await flushDirectory(dirname(expected.destination));
}

/** Throws OutOfSpace when the folder's disk says that it has less than this; disks that do not say are trusted. */
export async function requireFreeSpace(
  directory: string,
  neededBytes: number,
  freeBytes: (directory: string) => Promise<number | null> = freeBytesOf,
): Promise<void> {
  const free = await freeBytes(directory);
  if (free === null || free >= neededBytes + SPARE_BYTES) return;
  throw new OutOfSpace(
    `${directory} has ${free} bytes free, but ${neededBytes} bytes and ${SPARE_BYTES} to spare are needed. ` +
      `Free some space, or set TUNESMITH_HOME to a folder on a larger disk.`,
    { code: "out_of_space" },
  );
}

async function freeBytesOf(directory: string): Promise<number | null> {
  try {
    const { bavail, bsize } = await statfs(directory);
    return bavail * bsize;
  } catch {
    // Some network and virtual file systems have no such call; writing will tell.
    return null;
  }
}

/** Bytes already there; a part longer than the file cannot be its beginning and is removed. */
async function sizeOfPart(part: string, sizeBytes: number): Promise<number> {
  const size = await stat(part).then(
    (found) => found.size,
    () => 0,
  );
  if (size <= sizeBytes) return size;
  await rm(part, { force: true });
  return 0;
}

async function receiveAll(request: DownloadRequest, part: string, timeouts: Timeouts): Promise<void> {
  let fruitless = 0;
  // A server without ranges starts afresh each time, so the size of the last attempt says nothing of progress.
  let largest = 0;
  let hasAnswered = false;
  for (;;) {
    const before = await sizeOfPart(part, request.sizeBytes);
    largest = Math.max(largest, before);
    request.onProgress?.({ receivedBytes: before, totalBytes: request.sizeBytes });
    if (before === request.sizeBytes) return;
    try {
      await receive(request, part, before, timeouts);
      const after = await sizeOfPart(part, request.sizeBytes);
      if (after >= request.sizeBytes) return;
      throw new TransferBreak(`the connection ended at byte ${after} of ${request.sizeBytes}`);
    } catch (error) {
      const after = await sizeOfPart(part, request.sizeBytes);
      hasAnswered ||= error instanceof TransferBreak;
      // A source that never answered is given up at once: the next one is waiting.
      const isBreak = error instanceof TransferBreak || (hasAnswered && error instanceof NoAnswer);
      if (!isBreak || request.signal?.aborted) throw error;
      fruitless = after > largest ? 0 : fruitless + 1;
      if (fruitless >= MAX_FRUITLESS_ATTEMPTS) throw new Unavailable(error.message, { cause: error });
      await sleep(timeouts.retryMs, undefined, { signal: request.signal });
    }
  }
}

/** The transfer began and broke off: worth another attempt from where it stopped. */
class TransferBreak extends Error {}

/** No HTTP answer came at all. */
class NoAnswer extends Unavailable {}

async function receive(
  request: DownloadRequest,
  part: string,
  offset: number,
  timeouts: Timeouts,
): Promise<void> {
  const watchdog = new Watchdog(request.signal);
  try {
    const response = await openStream(request, offset, watchdog, timeouts.connectMs);
    const start = startOf(response, offset);
    const handle = await open(part, start === 0 ? "w" : "r+");
    try {
      await writeBody(request, response, handle, start, watchdog, timeouts.stallMs);
    } finally {
      await handle.close();
    }
  } finally {
    watchdog.stop();
  }
}

async function openStream(
  request: DownloadRequest,
  offset: number,
  watchdog: Watchdog,
  connectMs: number,
): Promise<Response> {
  const headers = {
    ...request.headers,
    // Compressed bytes would have another length than the file, and could not be resumed.
    "accept-encoding": "identity",
    ...(offset > 0 && { range: `bytes=${offset}-` }),
  };
  const response = await fetchWithin(request.url, headers, watchdog, connectMs);
  if (response.status === 416) {
    await response.body?.cancel();
    return openStream(request, 0, watchdog, connectMs);
  }
  if (!response.ok || response.body === null) {
    await response.body?.cancel();
    throw new Unavailable(`the server answered ${statusText(response)}`, { code: `http_${response.status}` });
  }
  return response;
}

/** Where the answer's body begins; a server without ranges sends the whole file again. */
function startOf(response: Response, offset: number): number {
  if (response.status !== 206) return 0;
  const range = response.headers.get("content-range") ?? "";
  const start = Number(/^bytes (\d+)-/.exec(range)?.[1]);
  if (start !== offset)
    throw new Unavailable(`the server answered range "${range}" to a request from byte ${offset}`);
  return start;
}

async function writeBody(
  request: DownloadRequest,
  response: Response,
  handle: FileHandle,
  start: number,
  watchdog: Watchdog,
  stallMs: number,
): Promise<void> {
  let position = start;
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  for (;;) {
    watchdog.expect(stallMs, `no byte came for ${stallMs / 1000} s`);
    let chunk;
    try {
      chunk = await reader.read();
    } catch (error) {
      throw new TransferBreak(watchdog.reason ?? `the connection broke: ${causeOf(error)}`, { cause: error });
    }
    if (chunk.done) return;
    if (position + chunk.value.length > request.sizeBytes) {
      await reader.cancel();
      throw new Unavailable(`the server sends more than the expected ${request.sizeBytes} bytes`, {
        code: "checksum_mismatch",
      });
    }
    for (let done = 0; done < chunk.value.length;) {
      const { bytesWritten } = await handle.write(chunk.value, done, chunk.value.length - done, position);
      done += bytesWritten;
      position += bytesWritten;
    }
    request.onProgress?.({ receivedBytes: position, totalBytes: request.sizeBytes });
  }
}

/** Aborts a fetch for one of several reasons and remembers which. */
export class Watchdog {
  reason: string | undefined;
  readonly #controller = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  readonly #outer: AbortSignal | undefined;
  readonly #onOuterAbort = () => this.#controller.abort();

  constructor(outer: AbortSignal | undefined) {
    this.#outer = outer;
    if (outer?.aborted) this.#controller.abort();
    outer?.addEventListener("abort", this.#onOuterAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Something must happen within this time, or the fetch is aborted for this reason. */
  expect(withinMs: number, reason: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.reason = reason;
      this.#controller.abort();
    }, withinMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener("abort", this.#onOuterAbort);
  }
}

/** A GET whose headers must come in time. Throws Unavailable with the reason in one phrase. */
export async function fetchWithin(
  url: string,
  headers: Readonly<Record<string, string>>,
  watchdog: Watchdog,
  connectMs: number,
): Promise<Response> {
  watchdog.expect(connectMs, `no answer within ${connectMs / 1000} s`);
  try {
    return await fetch(url, { headers, signal: watchdog.signal });
  } catch (error) {
    throw new NoAnswer(watchdog.reason ?? `cannot be reached: ${causeOf(error)}`, { cause: error });
  }
}

export function statusText(response: Response): string {
  return `${response.status} ${response.statusText}`.trim();
}

/** fetch reports "fetch failed" and hides why in the cause. */
export function causeOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  if (cause instanceof Error) return cause.message || ("code" in cause ? String(cause.code) : cause.name);
  return messageOf(error);
}

/** Fetched by an earlier call whose later files failed. */
async function isComplete({ destination, sizeBytes, checksum }: DownloadRequest): Promise<boolean> {
  const found = await stat(destination).catch(() => null);
  return found?.size === sizeBytes && (await hasChecksum(destination, checksum));
}

async function hasChecksum(path: string, checksum: Checksum): Promise<boolean> {
  const { size } = await stat(path);
  return (await checksumOf(path, checksum.kind, size)) === checksum.hex;
}

async function checksumOf(path: string, kind: Checksum["kind"], size: number): Promise<string> {
  const hash = createHash(kind === "sha256" ? "sha256" : "sha1");
  if (kind === "git-blob") hash.update(`blob ${size}\0`);
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, open, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Cancelled, OutOfSpace, Unavailable } from "../errors.ts";
import { downloadFile, partPath, requireFreeSpace, type DownloadRequest, type Progress } from "./download.ts";

/** Generous where nothing shall time out: a busy machine must not fail these tests. */
const QUICK = { connectMs: 20_000, stallMs: 20_000, retryMs: 5 };

const CONTENT = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * 7 + (i >> 8)) & 255));
const SHA256 = createHash("sha256").update(CONTENT).digest("hex");

let folder: string;
let server: Server;
let url: string;
/** The ranges that were asked for, in order. */
let ranges: (string | undefined)[];
let answer: (request: IncomingMessage, response: ServerResponse) => void;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "download-"));
  ranges = [];
  answer = sendAll;
  server = createServer((request, response) => {
    ranges.push(request.headers.range);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/file`;
});
afterEach(async () => {
  vi.restoreAllMocks();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true });
});

function sendAll(request: IncomingMessage, response: ServerResponse, content = CONTENT): void {
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const headers = { "content-range": `bytes ${start}-${content.length - 1}/${content.length}` };
  response.writeHead(start > 0 ? 206 : 200, start > 0 ? headers : {}).end(content.subarray(start));
}

/** A response that waits for its bytes to arrive before it breaks off: what a reset drops is up to chance. */
let toBreak: { atBytes: number; response: ServerResponse } | null = null;

/** Announces everything, sends a part and breaks the connection when the part has arrived. */
function sendSomeAndBreak(request: IncomingMessage, response: ServerResponse, count: number): void {
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  response.writeHead(start > 0 ? 206 : 200, {
    "content-length": CONTENT.length - start,
    ...(start > 0 && { "content-range": `bytes ${start}-${CONTENT.length - 1}/${CONTENT.length}` }),
  });
  toBreak = { atBytes: start + count, response };
  response.write(CONTENT.subarray(start, start + count));
}

function breakWhenArrived({ receivedBytes }: Progress): void {
  if (toBreak !== null && receivedBytes >= toBreak.atBytes) {
    toBreak.response.destroy();
    toBreak = null;
  }
}

const request = (changes: Partial<DownloadRequest> = {}): DownloadRequest => ({
  url,
  destination: join(folder, "file"),
  sizeBytes: CONTENT.length,
  checksum: { kind: "sha256", hex: SHA256 },
  timeouts: QUICK,
  onProgress: breakWhenArrived,
  ...changes,
});
const downloaded = () => readFile(join(folder, "file"));

describe("fetching", () => {
  test("the whole file, with progress and the given headers", async () => {
    const progress: Progress[] = [];
    let token: string | undefined;
    answer = (incoming, response) => {
      token = incoming.headers.authorization;
      sendAll(incoming, response);
    };
    await downloadFile(
      request({ headers: { authorization: "Bearer x" }, onProgress: (value) => progress.push(value) }),
    );
    expect((await downloaded()).equals(CONTENT)).toBe(true);
    expect(await readdir(folder)).toEqual(["file"]);
    expect(token).toBe("Bearer x");
    expect(progress[0]).toEqual({ receivedBytes: 0, totalBytes: CONTENT.length });
    expect(progress.at(-1)).toEqual({ receivedBytes: CONTENT.length, totalBytes: CONTENT.length });
  });

  test("a file that is there already is not fetched again, a wrong one is replaced", async () => {
    await writeFile(join(folder, "file"), CONTENT);
    await downloadFile(request());
    expect(ranges).toEqual([]);
    await writeFile(join(folder, "file"), Buffer.alloc(CONTENT.length));
    await downloadFile(request());
    expect((await downloaded()).equals(CONTENT)).toBe(true);
  });

  test("git's checksum of small files", async () => {
    const hex = createHash("sha1").update(`blob ${CONTENT.length}\0`).update(CONTENT).digest("hex");
    await downloadFile(request({ checksum: { kind: "git-blob", hex } }));
    expect((await downloaded()).equals(CONTENT)).toBe(true);
  });
});

describe("going on after a break", () => {
  test("within one call, from the byte where it broke", async () => {
    answer = (incoming, response) =>
      ranges.length < 3 ? sendSomeAndBreak(incoming, response, 50_000) : sendAll(incoming, response);
    await downloadFile(request());
    expect((await downloaded()).equals(CONTENT)).toBe(true);
    expect(ranges).toEqual([undefined, "bytes=50000-", "bytes=100000-"]);
  });

  test("in a later call", async () => {
    await writeFile(partPath(join(folder, "file")), CONTENT.subarray(0, 123_456));
    await downloadFile(request());
    expect((await downloaded()).equals(CONTENT)).toBe(true);
    expect(ranges).toEqual(["bytes=123456-"]);
  });

  test("from the start where the server has no ranges", async () => {
    await writeFile(partPath(join(folder, "file")), CONTENT.subarray(0, 1_000));
    answer = (_, response) => response.writeHead(200).end(CONTENT);
    await downloadFile(request());
    expect((await downloaded()).equals(CONTENT)).toBe(true);
  });

  test("from the start when the earlier part belongs to another content", async () => {
    await writeFile(partPath(join(folder, "file")), Buffer.alloc(1_000, "x"));
    await downloadFile(request());
    expect((await downloaded()).equals(CONTENT)).toBe(true);
    expect(ranges).toEqual(["bytes=1000-", undefined]);
  });

  test("a part longer than the file is thrown away", async () => {
    await writeFile(partPath(join(folder, "file")), Buffer.alloc(CONTENT.length + 1));
    await downloadFile(request());
    expect(ranges).toEqual([undefined]);
  });

  test("gives up after three breaks without a new byte, and keeps what it has", async () => {
    answer = (incoming, response) =>
      ranges.length === 1 ? sendSomeAndBreak(incoming, response, 10_000) : response.destroy();
    await expect(downloadFile(request())).rejects.toThrow(Unavailable);
    expect(ranges.length).toBe(4);
    expect(await readdir(folder)).toEqual(["file.part"]);
    answer = sendAll;
    await downloadFile(request());
    expect(ranges.at(-1)).toBe("bytes=10000-");
    expect((await downloaded()).equals(CONTENT)).toBe(true);
  });

  test("gives up on a server without ranges that breaks off here and there", async () => {
    answer = (_, response) => {
      const count = ranges.length % 2 === 0 ? 10_000 : 20_000;
      response.writeHead(200, { "content-length": CONTENT.length });
      toBreak = { atBytes: count, response };
      response.write(CONTENT.subarray(0, count));
    };
    const seen: number[] = [];
    const onProgress = (progress: Progress) => {
      seen.push(progress.receivedBytes);
      // What the part held before is no byte of this answer.
      if (seen.length > 1 && progress.receivedBytes !== seen.at(-2)) breakWhenArrived(progress);
    };
    await expect(downloadFile(request({ onProgress }))).rejects.toThrow(Unavailable);
    expect(ranges.length).toBeLessThanOrEqual(5);
  });

  test("a transfer that stalls counts as a break", async () => {
    answer = (incoming, response) => {
      if (ranges.length > 1) return sendAll(incoming, response);
      response.writeHead(200, { "content-length": CONTENT.length });
      response.write(CONTENT.subarray(0, 777));
    };
    await downloadFile(request({ timeouts: { ...QUICK, stallMs: 200 } }));
    expect(ranges).toEqual([undefined, "bytes=777-"]);
  });
});

describe("failures", () => {
  test("another content is refused and nothing is left", async () => {
    answer = (incoming, response) => sendAll(incoming, response, Buffer.alloc(CONTENT.length));
    const zeros = createHash("sha256").update(Buffer.alloc(CONTENT.length)).digest("hex");
    await expect(downloadFile(request())).rejects.toThrow(
      `the content is not the expected one: expected 200000 bytes with sha256 ${SHA256}, found 200000 bytes with ${zeros}; it was deleted`,
    );
    expect(await readdir(folder)).toEqual([]);
  });

  test("a longer content is refused and nothing is left", async () => {
    answer = (incoming, response) => sendAll(incoming, response, Buffer.concat([CONTENT, CONTENT]));
    await expect(downloadFile(request())).rejects.toThrow(
      "the server sends more than the expected 200000 bytes",
    );
    expect(await readdir(folder)).toEqual([]);
  });

  test("HTTP errors are named", async () => {
    answer = (_, response) => response.writeHead(404).end("no");
    await expect(downloadFile(request())).rejects.toThrow("the server answered 404 Not Found");
    expect(await readdir(folder)).toEqual([]);
  });

  test("no answer within the time", async () => {
    answer = () => {};
    const start = performance.now();
    await expect(downloadFile(request({ timeouts: { ...QUICK, connectMs: 300 } }))).rejects.toThrow(
      "no answer within 0.3 s",
    );
    expect(performance.now() - start).toBeLessThan(10_000);
    expect(ranges.length).toBe(1);
  });

  test("no server", async () => {
    await expect(downloadFile(request({ url: "http://127.0.0.1:1/" }))).rejects.toThrow(
      /cannot be reached: .+/,
    );
  });

  test("a range that was not asked for", async () => {
    await writeFile(partPath(join(folder, "file")), CONTENT.subarray(0, 1_000));
    answer = (_, response) => response.writeHead(206, { "content-range": "bytes 5-9/200000" }).end("12345");
    await expect(downloadFile(request())).rejects.toThrow(
      'the server answered range "bytes 5-9/200000" to a request from byte 1000',
    );
  });

  test("cancelled: at once, and what has come stays for the next time", async () => {
    answer = (_, response) => {
      response.writeHead(200, { "content-length": CONTENT.length });
      response.write(CONTENT.subarray(0, 5_000));
    };
    const controller = new AbortController();
    const onProgress = ({ receivedBytes }: Progress) => receivedBytes > 0 && controller.abort();
    await expect(downloadFile(request({ signal: controller.signal, onProgress }))).rejects.toThrow(Cancelled);
    expect(await readdir(folder)).toEqual(["file.part"]);
  });

  test("a disk that fills up: said so, and nothing is left", async () => {
    const handle = await open(join(folder, "probe"), "w");
    const prototype = Object.getPrototypeOf(handle) as { write: () => Promise<unknown> };
    await handle.close();
    await rm(join(folder, "probe"));
    const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
    vi.spyOn(prototype, "write").mockRejectedValue(full);
    await expect(downloadFile(request())).rejects.toThrow(OutOfSpace);
    expect(await readdir(folder)).toEqual([]);
  });

  test("too little free space is found before anything is fetched", async () => {
    await expect(downloadFile(request({ sizeBytes: 2 ** 52 }))).rejects.toThrow(
      /has \d+ bytes free, but 4503599627370496 bytes and 67108864 to spare are needed\. Free some space, or set TUNESMITH_HOME/,
    );
    expect(ranges).toEqual([]);
    await requireFreeSpace(folder, 2 ** 52, async () => null);
    expect(existsSync(folder)).toBe(true);
  });
});

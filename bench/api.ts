// The server without models: latency of every operation on a home folder of 100,000 files, 10,000 jobs and 1,000,000 events, and an
// upload of 512 MB. The server is a process of its own, without a worker for jobs. Prints one JSON object on the last line.
// `npm run bench:api -- --json [--rate 200] [--samples 400] [--home FOLDER] [--files N --jobs N --events N]`
//
// p50_ms and p99_ms are the worst over the operations, with Poisson arrivals of a shuffled mix of all of them over 16 connections, the
// rate that is given: what users of a server see that is not full. requests_per_second is each operation alone, as fast as 16
// connections get answers: there latency is only 16 divided by that. The default page of files, 10,000 of them, is measured apart.
// A home folder in memory (--home /dev/shm/bench) shows what remains without the disk's flushes.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { request } from "node:http";
import { availableParallelism, cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { parseArgs } from "node:util";
import { createRandom, shuffle } from "../src/random.ts";
import { BlobStore } from "../src/store/blobs.ts";
import { openDatabase } from "../src/store/database.ts";
import { FileStore } from "../src/store/files.ts";
import { sweepBlobs } from "../src/store/sweep.ts";
import { UploadStore } from "../src/store/uploads.ts";
import { buildHome } from "./api-home.ts";
import type { BuiltHome } from "./api-home.ts";
import { atFixedRate, Connections, percentile, saturated } from "./api-load.ts";
import { formOf, operationsOn } from "./api-operations.ts";
import type { Operation } from "./api-operations.ts";

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    home: { type: "string" },
    rate: { type: "string", default: "200" },
    samples: { type: "string", default: "400" },
    seconds: { type: "string", default: "2" },
    files: { type: "string", default: "100000" },
    jobs: { type: "string", default: "10000" },
    events: { type: "string", default: "1000000" },
    megabytes: { type: "string", default: "512" },
  },
});
const say = (line: string): void => void (options.json ? process.stderr : process.stdout).write(`${line}\n`);

const CONNECTIONS = 16;
const PROGRAM = join(import.meta.dirname, "api-server.ts");
const MIB = 2 ** 20;
const GIB = 2 ** 30;

const home = options.home ?? (await mkdtemp(join(tmpdir(), "tunesmith-bench-")));
try {
  const result = await bench(home);
  process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : "");
} finally {
  await rm(home, { recursive: true, force: true });
}

async function bench(folder: string): Promise<object> {
  const size = { files: Number(options.files), jobs: Number(options.jobs), events: Number(options.events) };
  const built = await timed("home built", () => buildHome(folder, size));
  const sweep = await measureSweep(folder);
  const flushMs = measureFlush(folder);
  say(`the disk's flush: ${flushMs.toFixed(2)} ms`);
  const server = await startServer(folder);
  try {
    const key = await makeKey(server.url);
    const connections = new Connections(server.url, key, CONNECTIONS);
    const operations = operationsOn(connections, built);
    const latencies = await measureLatencies(operations);
    const throughput = await measureThroughput(operations);
    const defaultPage = await measureDefaultPage(connections, built);
    connections.close();
    const upload = await measureUpload(server, key);
    const table = operations.map(({ name }) => ({
      name,
      p50_ms: percentile(latencies.get(name) ?? [], 0.5),
      p99_ms: percentile(latencies.get(name) ?? [], 0.99),
      samples: latencies.get(name)?.length ?? 0,
      requests_per_second: throughput.get(name) ?? null,
    }));
    for (const { name, p50_ms, p99_ms, requests_per_second } of table) {
      say(
        `${name.padEnd(34)} p50 ${p50_ms.toFixed(2)} ms  p99 ${p99_ms.toFixed(2)} ms  ${requests_per_second?.toFixed(0) ?? "–"} requests/s`,
      );
    }
    const reads = table.filter(({ name }) => operations.find((each) => each.name === name)?.writes === false);
    return {
      p50_ms: Math.max(...table.map((row) => row.p50_ms)),
      p99_ms: Math.max(...table.map((row) => row.p99_ms)),
      read_p50_ms: Math.max(...reads.map((row) => row.p50_ms)),
      read_p99_ms: Math.max(...reads.map((row) => row.p99_ms)),
      ...upload,
      flush_ms: flushMs,
      files_default_page: defaultPage,
      sweep,
      operations: Object.fromEntries(table.map(({ name, ...row }) => [name, row])),
      arrivals_per_second: Number(options.rate),
      connections: CONNECTIONS,
      ...size,
      load_average: loadavg()[0],
      cores: availableParallelism(),
      cpu: cpus()[0]?.model ?? "unknown",
      node: process.version,
    };
  } finally {
    await server.stop();
  }
}

async function timed<T>(name: string, work: () => Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await work();
  say(`${name} in ${((performance.now() - start) / 1000).toFixed(1)} s`);
  return result;
}

/** The hourly sweep, in this process: how long it takes and the longest time for which nothing else ran. */
async function measureSweep(folder: string): Promise<object> {
  const database = await openDatabase(join(folder, "tunesmith.db"));
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const start = performance.now();
  delay.enable();
  const removed = await sweepBlobs(
    {
      files: new FileStore(database),
      blobs: new BlobStore({ directory: join(folder, "files") }),
      uploads: new UploadStore(database),
      partBlobs: new BlobStore({ directory: join(folder, "uploads"), kind: "uploadPart" }),
    },
    Date.now(),
  );
  delay.disable();
  const seconds = (performance.now() - start) / 1000;
  await database.destroy();
  const longestPauseMs = delay.max / 1e6;
  say(`sweep in ${seconds.toFixed(1)} s, longest pause ${longestPauseMs.toFixed(1)} ms, removed ${removed}`);
  return { seconds, longest_pause_ms: longestPauseMs };
}

/** The median time in which this disk makes 4 KiB last, in milliseconds: no durable write can be faster. */
function measureFlush(folder: string): number {
  const file = openSync(join(folder, "flush"), "w");
  const page = Buffer.alloc(4096);
  const times = Array.from({ length: 200 }, () => {
    const start = performance.now();
    writeSync(file, page);
    fdatasyncSync(file);
    return performance.now() - start;
  });
  closeSync(file);
  return percentile(times, 0.5);
}

interface ServerProcess {
  url: string;
  pid: number;
  stop(): Promise<void>;
}

async function startServer(folder: string): Promise<ServerProcess> {
  const child = spawn(process.execPath, ["--import", "tsx", PROGRAM, folder], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const [line] = (await Promise.race([once(createInterface(child.stdout), "line"), exited])) as [unknown];
  if (typeof line !== "string") throw new Error(`The server ended before it listened (${String(line)}).`);
  return {
    url: line,
    pid: child.pid ?? 0,
    async stop() {
      child.kill("SIGTERM");
      await exited;
    },
  };
}

async function makeKey(url: string): Promise<string> {
  const answer = await fetch(`${url}/tunesmith/keys`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ scopes: ["admin", "read", "train", "infer"] }),
  });
  return ((await answer.json()) as { key: string }).key;
}

async function measureLatencies(operations: readonly Operation[]): Promise<Map<string, number[]>> {
  const latencies = new Map<string, number[]>(operations.map(({ name }) => [name, []]));
  const random = createRandom(1);
  const run = (perOperation: number, isKept: boolean) => {
    const works = operations.flatMap((operation) =>
      Array.from({ length: perOperation }, (_, index) => async () => {
        await operation.prepare?.(index);
        const start = performance.now();
        await operation.run(index);
        if (isKept) latencies.get(operation.name)?.push(performance.now() - start);
        await operation.after?.();
      }),
    );
    return atFixedRate(shuffle(works, random), { perSecond: Number(options.rate), random });
  };
  await run(20, false);
  await timed("latencies measured", () => run(Number(options.samples), true));
  return latencies;
}

async function measureThroughput(operations: readonly Operation[]): Promise<Map<string, number>> {
  const throughput = new Map<string, number>();
  for (const { name, run, prepare, after } of operations) {
    if (prepare !== undefined || after !== undefined) continue; // two requests each: no number of its own
    let index = 0;
    const work = () => run(index++);
    const milliseconds = Number(options.seconds) * 1000;
    throughput.set(name, await saturated(work, { connections: CONNECTIONS, milliseconds }));
  }
  return throughput;
}

async function measureDefaultPage(connections: Connections, { files }: BuiltHome): Promise<object> {
  const times: number[] = [];
  for (let round = 0; round < 10; round++) {
    const after = files[files.length - 1 - round];
    const start = performance.now();
    await connections.send({ method: "GET", path: `/v1/files?after=${after}` });
    times.push(performance.now() - start);
  }
  return { p50_ms: percentile(times, 0.5), max_ms: Math.max(...times) };
}

/** One file over loopback, then 1 GiB in parts, four at a time; the server's memory is read while it receives. */
async function measureUpload(server: ServerProcess, key: string): Promise<object> {
  const bytes = Number(options.megabytes) * MIB;
  const before = await residentMib(server.pid);
  const watch = watchMemory(server.pid);
  const start = performance.now();
  await sendForm(`${server.url}/v1/files`, key, "file", bytes, { purpose: "user_data" });
  const seconds = (performance.now() - start) / 1000;
  const uploadRss = (await watch()) - before;
  say(`${options.megabytes} MB in ${seconds.toFixed(1)} s, memory grew by ${uploadRss.toFixed(0)} MB`);

  const beforeParts = await residentMib(server.pid);
  const watchParts = watchMemory(server.pid);
  const partBytes = 64 * MIB;
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const post = async (path: string, body: object) => {
    const answer = await fetch(`${server.url}${path}`, {
      method: "POST",
      headers,
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(await answer.text());
    return (await answer.json()) as { id: string };
  };
  const upload = {
    filename: "a.bin",
    purpose: "user_data",
    bytes: GIB,
    mime_type: "application/octet-stream",
  };
  const { id } = await post("/v1/uploads", upload);
  const partsStart = performance.now();
  const part_ids: string[] = [];
  let left = GIB / partBytes;
  const sendParts = async () => {
    while (left-- > 0) {
      part_ids.push(await sendForm(`${server.url}/v1/uploads/${id}/parts`, key, "data", partBytes));
    }
  };
  await Promise.all([sendParts(), sendParts(), sendParts(), sendParts()]);
  const partsSeconds = (performance.now() - partsStart) / 1000;
  const completeStart = performance.now();
  await post(`/v1/uploads/${id}/complete`, { part_ids });
  const completeSeconds = (performance.now() - completeStart) / 1000;
  const partsRss = (await watchParts()) - beforeParts;
  say(
    `1 GB in parts in ${partsSeconds.toFixed(1)} s, completed in ${completeSeconds.toFixed(1)} s, memory grew by ${partsRss.toFixed(0)} MB`,
  );
  return {
    upload_mb_s: bytes / 1e6 / seconds,
    upload_rss_mb: uploadRss,
    parts_mb_s: GIB / 1e6 / partsSeconds,
    complete_mb_s: GIB / 1e6 / completeSeconds,
    parts_rss_mb: partsRss,
  };
}

/** Streams a form whose file is this many zero bytes; resolves to the id in the answer. */
async function sendForm(
  url: string,
  key: string,
  member: string,
  bytes: number,
  fields: Record<string, string> = {},
): Promise<string> {
  const { contentType, body } = formOf(member, Buffer.alloc(0), fields);
  const split = body.indexOf("\r\n\r\n", body.indexOf("filename=")) + 4;
  const chunk = Buffer.alloc(MIB);
  async function* stream() {
    yield body.subarray(0, split);
    for (let sent = 0; sent < bytes; sent += chunk.length) yield chunk.subarray(0, bytes - sent);
    yield body.subarray(split);
  }
  return new Promise((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${key}`,
      "content-type": contentType,
      "content-length": body.length + bytes,
    };
    const sending = request(url, { method: "POST", headers }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (piece: string) => (text += piece));
      response.on("end", () => {
        if (response.statusCode === 200) resolve((JSON.parse(text) as { id: string }).id);
        else reject(new Error(text));
      });
    });
    sending.on("error", reject);
    Readable.from(stream()).pipe(sending);
  });
}

async function residentMib(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}

/** Begins to watch; the returned function ends it and resolves to the peak in MiB. */
function watchMemory(pid: number): () => Promise<number> {
  let peak = 0;
  const look = async () => void (peak = Math.max(peak, await residentMib(pid)));
  const timer = setInterval(() => void look(), 20);
  return async () => {
    clearInterval(timer);
    await look();
    return peak;
  };
}

// Load on an HTTP server: requests over a fixed number of connections, at a fixed rate of arrivals or as fast as answers come, and
// what their latencies were.
import { Agent, request } from "node:http";
import type { Random } from "../src/random.ts";

export interface Call {
  method: "GET" | "POST" | "DELETE";
  path: string;
  body?: Buffer;
  contentType?: string;
}

export interface Answer {
  status: number;
  body: string;
}

export class Connections {
  readonly #agent: Agent;
  readonly #url: URL;
  readonly #key: string;

  constructor(url: string, key: string, count: number) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: count, scheduling: "fifo" });
    this.#url = new URL(url);
    this.#key = key;
  }

  /** Waits for a free connection. Throws on a status other than 200. */
  async send(call: Call): Promise<Answer> {
    const { method, path, body, contentType = "application/json" } = call;
    const answer = await new Promise<Answer>((resolve, reject) => {
      const sending = request(
        {
          agent: this.#agent,
          hostname: this.#url.hostname,
          port: this.#url.port,
          method,
          path,
          headers: {
            authorization: `Bearer ${this.#key}`,
            ...(body === undefined ? {} : { "content-type": contentType, "content-length": body.length }),
          },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("end", () =>
            resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
          );
          response.on("error", reject);
        },
      );
      sending.on("error", reject);
      sending.end(body);
    });
    if (answer.status !== 200) throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`);
    return answer;
  }

  close(): void {
    this.#agent.destroy();
  }
}

/**
 * Poisson arrivals at `perSecond`. A latency counts from the moment the request is handed to the connections, so it holds the wait
 * for a free one, but not a late timer of this process.
 */
export async function atFixedRate(
  works: readonly (() => Promise<void>)[],
  options: { perSecond: number; random: Random },
): Promise<void> {
  const running: Promise<void>[] = [];
  const failures: unknown[] = [];
  let due = performance.now();
  for (const work of works) {
    due += (-Math.log(1 - options.random.next()) / options.perSecond) * 1000;
    while (performance.now() < due)
      await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
    running.push(work().catch((error: unknown) => void failures.push(error)));
    if (failures.length > 0) break;
  }
  await Promise.all(running);
  if (failures.length > 0) throw failures[0];
}

/** As fast as answers come, `connections` at a time, for a time. Resolves to requests a second. */
export async function saturated(
  work: () => Promise<void>,
  options: { connections: number; milliseconds: number },
): Promise<number> {
  const start = performance.now();
  let count = 0;
  await Promise.all(
    Array.from({ length: options.connections }, async () => {
      while (performance.now() - start < options.milliseconds) {
        await work();
        count += 1;
      }
    }),
  );
  return count / ((performance.now() - start) / 1000);
}

/** The value that this share of the values does not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

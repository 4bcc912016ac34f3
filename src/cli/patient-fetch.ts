// A GET without a limit for the first byte: `fetch` gives up after five minutes, and a server may be at work for longer before it has
// anything to say.
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { Readable } from "node:stream";
import type { ReadableStream } from "node:stream/web";

/** As fetch, of which it takes what the client of the command line uses. */
export async function patientFetch(
  url: string,
  { headers, signal }: { headers: Record<string, string>; signal: AbortSignal },
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const request = url.startsWith("https:") ? requestHttps : requestHttp;
    const sent = request(url, { headers, signal }, (message) => {
      const body = Readable.toWeb(message) as ReadableStream<Uint8Array>;
      const answered = Object.entries(message.headersDistinct).flatMap(([name, values = []]) =>
        values.map((value): [string, string] => [name, value]),
      );
      resolve(
        new Response(body as ConstructorParameters<typeof Response>[0], {
          status: message.statusCode ?? 500,
          headers: answered,
        }),
      );
    });
    sent.on("error", reject);
    sent.end();
  });
}

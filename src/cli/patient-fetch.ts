// A request without a limit for the first byte: `fetch` gives up after five minutes, and a server may be at work for longer before it
// has anything to say. A body is streamed, and an answer that comes before its end is taken.
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { Readable } from "node:stream";
import type { ReadableStream } from "node:stream/web";

/** As fetch, of which it takes what the client of the command line uses. */
export async function patientFetch(
  url: string,
  {
    method = "GET",
    headers,
    signal,
    body,
  }: {
    method?: "GET" | "POST";
    headers: Record<string, string>;
    signal: AbortSignal;
    body?: Readable | undefined;
  },
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const request = url.startsWith("https:") ? requestHttps : requestHttp;
    let isAnswered = false;
    const sent = request(url, { method, headers, signal }, (message) => {
      isAnswered = true;
      // Whoever refuses early wants no more; the connection cannot be used again.
      if (body !== undefined && !sent.writableFinished) {
        body.unpipe(sent).destroy();
        message.once("close", () => sent.destroy());
      }
      const answer = Readable.toWeb(message) as ReadableStream<Uint8Array>;
      const answered = Object.entries(message.headersDistinct).flatMap(([name, values = []]) =>
        values.map((value): [string, string] => [name, value]),
      );
      resolve(
        new Response(answer as ConstructorParameters<typeof Response>[0], {
          status: message.statusCode ?? 500,
          headers: answered,
        }),
      );
    });
    sent.on("error", (error) => {
      body?.destroy();
      reject(error);
    });
    if (body === undefined) return void sent.end();
    body.on("error", (error) => {
      if (!isAnswered) reject(error);
      sent.destroy();
    });
    body.pipe(sent);
  });
}

// A client that leaves its stream frees the engine: the real engine stops decoding for it, and answers the next.
import { afterAll, expect, test } from "vitest";
import { createServer } from "../../src/main.ts";
import { loadConfig } from "../../src/config.ts";
import { EmbeddedEngine } from "../../src/serving/embedded-engine.ts";
import type { CompletionEvent, CompletionRequest } from "../../src/serving/engine.ts";
import { atCleanUp, cleanUp, connect, JOB_TIMEOUT_MS, TINY, tinyHome, until } from "./harness.ts";

/** The engine, with a record of how each of its answers ended. */
class WatchedEngine extends EmbeddedEngine {
  readonly ended: { finishes: number; aborted: boolean }[] = [];

  override async *complete(request: CompletionRequest): AsyncGenerator<CompletionEvent> {
    let finishes = 0;
    try {
      for await (const event of super.complete(request)) {
        if (event.type === "finish") finishes += 1;
        yield event;
      }
    } finally {
      this.ended.push({ finishes, aborted: request.signal.aborted });
    }
  }
}

afterAll(cleanUp);

test(
  "a stream that its client leaves ends in the engine, long before its answers would",
  async () => {
    const engine = new WatchedEngine({ threads: 1 });
    const config = loadConfig({ homeDirectory: await tinyHome(), port: 0, apiKeys: [], logLevel: "fatal" });
    const server = await createServer(config, { engine, createWorker: null });
    atCleanUp(() => server.stop());
    const client = connect(await server.listen());
    const question = { model: TINY, messages: [{ role: "user" as const, content: "Hi" }] };

    // Eight answers, so that the engine is far from done after the first words.
    const stream = await client.chat.completions.create({ ...question, n: 8, stream: true });
    for await (const chunk of stream) if ((chunk.choices[0]?.delta.content ?? "") !== "") break;
    stream.controller.abort();
    await until("the engine has let go of it", () => engine.ended.length === 1);
    expect(engine.ended[0]?.aborted).toBe(true);
    expect(engine.ended[0]?.finishes).toBeLessThan(8);

    const next = await client.chat.completions.create({ ...question, max_tokens: 1 });
    expect(next.choices[0]?.finish_reason).toMatch(/length|stop/);
  },
  JOB_TIMEOUT_MS,
);

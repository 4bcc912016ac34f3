// The embedded engine on the tiny model of scripts/make-tiny-model: text in, text out.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { Cancelled, InvalidRequest, UnsupportedModel } from "../errors.ts";
import { EmbeddedEngine } from "./embedded-engine.ts";
import type { CompletionRequest } from "./engine.ts";

let folder: string;
let engine: EmbeddedEngine;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tunesmith-engine-"));
  await makeTinyModel(folder);
  engine = new EmbeddedEngine({ threads: 1 });
});

afterAll(async () => {
  await engine.close();
  await rm(folder, { recursive: true });
});

function request(changes: Partial<CompletionRequest> = {}): CompletionRequest {
  return {
    model: { id: "tiny", baseModel: { id: "tiny", path: folder }, adapterPath: null },
    messages: [{ role: "user", content: "Hello there" }],
    maxTokens: 24,
    temperature: 0,
    topP: 1,
    seed: 1,
    stop: [],
    n: 1,
    signal: new AbortController().signal,
    ...changes,
  };
}

async function answer(changes: Partial<CompletionRequest> = {}) {
  const texts: string[] = [];
  const finishes: { reason: string; completionTokens: number }[] = [];
  let promptTokens = 0;
  for await (const event of engine.complete(request(changes))) {
    if (event.type === "prompt") promptTokens = event.promptTokens;
    else if (event.type === "text-delta") texts[event.index] = (texts[event.index] ?? "") + event.text;
    else if (event.type === "finish") finishes[event.index] = event;
  }
  return { texts, finishes, promptTokens };
}

describe("EmbeddedEngine", () => {
  it("answers with the asked number of tokens, the same each time at temperature 0", async () => {
    const first = await answer();
    expect(first.promptTokens).toBeGreaterThan(5);
    expect(first.finishes[0]?.completionTokens).toBeLessThanOrEqual(24);
    expect(await answer()).toEqual(first);
  });

  it("gives the same text at the same time as others and alone", async () => {
    const contents = [
      "Hello there",
      "What time is it?",
      "Tell me a long story about a dragon and a kettle.",
      "?",
    ];
    const ask = (content: string) => answer({ messages: [{ role: "user", content }] });
    const alone = [];
    for (const content of contents) alone.push(await ask(content));
    expect(await Promise.all(contents.map(ask))).toEqual(alone);
  });

  it("draws n answers that differ among each other and repeat with the seed", async () => {
    const first = await answer({ temperature: 1, n: 3, seed: 11 });
    expect(new Set(first.texts).size).toBe(3);
    expect(await answer({ temperature: 1, n: 3, seed: 11 })).toEqual(first);
    expect((await answer({ temperature: 1, n: 3, seed: 12 })).texts).not.toEqual(first.texts);
  });

  it("ends before a stop text", async () => {
    const whole = (await answer()).texts[0] as string;
    const stop = whole.slice(4, 7);
    const { texts, finishes } = await answer({ stop: [stop] });
    expect(texts[0] ?? "").toBe(whole.slice(0, whole.indexOf(stop)));
    expect(finishes[0]?.reason).toBe("stop");
  });

  it("says that the limit ended an answer", async () => {
    const { finishes } = await answer({ maxTokens: 1 });
    expect(finishes[0]).toMatchObject({ reason: "length", completionTokens: 1 });
  });

  it("refuses a prompt that does not fit, saying both numbers", async () => {
    const messages = [{ role: "user" as const, content: "a b ".repeat(1_000) }];
    await expect(answer({ messages })).rejects.toThrow(
      /maximum context length is \d+ tokens\. However, your messages resulted in \d+ tokens/,
    );
    await expect(answer({ messages })).rejects.toThrow(InvalidRequest);
  });

  it("refuses a bias for token ids that the model does not have, and takes its last one", async () => {
    const refused = await answer({ logitBias: new Map([[5_000_000, 1]]) }).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "invalid_value", param: "logit_bias" });
    const [, size = ""] =
      /^Invalid 'logit_bias': token 5000000 is not in this model's vocabulary of (\d+)\./.exec(
        (refused as Error).message,
      ) ?? [];
    await expect(answer({ logitBias: new Map([[Number(size), 1]]) })).rejects.toThrow(`token ${size} is not`);
    await answer({ logitBias: new Map([[Number(size) - 1, -1]]), maxTokens: 1 });
  });

  it("refuses a text that no tokens could make fit before it is encoded", async () => {
    const render = vi.spyOn(Template.prototype, "render");
    const messages = [{ role: "user" as const, content: "é".repeat(8_000_000) }];
    await expect(answer({ messages })).rejects.toThrow(
      /maximum context length is (\d+) tokens\. However, your messages resulted in at least \d+ tokens/,
    );
    const call = { name: "f", arguments: JSON.stringify({ a: "é".repeat(8_000_000) }) };
    const calling = {
      role: "assistant" as const,
      content: null,
      tool_calls: [{ id: "c", type: "function" as const, function: call }],
    };
    await expect(answer({ messages: [calling], promptParam: "input" })).rejects.toMatchObject({
      code: "context_length_exceeded",
      param: "input",
    });
    const empty = Array.from({ length: 300_000 }, () => ({ role: "user" as const, content: "" }));
    await expect(answer({ messages: empty })).rejects.toThrow(/in at least \d+ tokens/);
    expect(render).not.toHaveBeenCalled();
    render.mockRestore();
  });

  it("turns the event loop while it encodes a text that may fit, and gives up when nobody waits", async () => {
    // Every look at the clock finds a slice used up.
    let now = 0;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => (now += 1_000));
    const own = new AbortController();
    let turns = 0;
    const turn = () => {
      if (++turns === 3) own.abort();
      else setImmediate(turn);
    };
    setImmediate(turn);
    const messages = [{ role: "user" as const, content: "<|im_end|> a b ".repeat(20) }];
    await expect(answer({ messages, signal: own.signal })).rejects.toThrow(Cancelled);
    expect(turns).toBe(3);
    clock.mockRestore();
  });

  it("counts the tokens of a prompt as it would read them, of a longer one than fits too", async () => {
    const asked = request();
    const events = [];
    for await (const event of engine.complete(asked)) events.push(event);
    expect(events[0]).toEqual({ type: "prompt", promptTokens: await engine.countTokens(asked) });
    const messages = [{ role: "user" as const, content: "a b ".repeat(3_000) }];
    expect(await engine.countTokens({ model: asked.model, messages })).toBeGreaterThan(3_000);
  });

  it("refuses an adapter folder that holds none, and serves the base model afterwards", async () => {
    const model = { ...request().model, adapterPath: join(folder, "nowhere") };
    const refusal: unknown = await answer({ model }).catch((thrown: unknown) => thrown);
    // Not UnsupportedModel: that would be the client's to mend.
    expect(refusal).toMatchObject({ name: "TunesmithError", code: "unsupported_adapter" });
    const { message, cause } = refusal as Error;
    expect(message).toContain(
      "The adapter of the model 'tiny' cannot be read: its files on the server are damaged",
    );
    expect(message).not.toContain(folder);
    expect(cause).toBeInstanceOf(UnsupportedModel);
    expect((await answer()).texts[0]).toBeDefined();
  });

  it("ends quietly when the client goes away", async () => {
    const gone = new AbortController();
    const events = [];
    for await (const event of engine.complete(request({ maxTokens: 1000, signal: gone.signal }))) {
      events.push(event);
      if (events.length === 3) gone.abort();
    }
    expect(events.length).toBeLessThan(20);
  });

  it("lets go of the least recently used base model, but of none in use, and loads it again", async () => {
    const copies = await Promise.all(
      Array.from({ length: 3 }, async () => {
        const copy = await mkdtemp(join(tmpdir(), "tunesmith-engine-"));
        await makeTinyModel(copy);
        return copy;
      }),
    );
    const of = (path: string) => ({ model: { id: path, baseModel: { id: path, path }, adapterPath: null } });
    const bounded = new EmbeddedEngine({ threads: 1 });
    const run = async (path: string) => {
      let text = "";
      for await (const event of bounded.complete(request(of(path))))
        if (event.type === "text-delta") text += event.text;
      return text;
    };
    const [first = "", second = "", third = ""] = copies;
    const running = bounded.complete(request(of(first)))[Symbol.asyncIterator]();
    await running.next();
    const texts = [await run(second), await run(third)];
    // The second was released to make room; its files are gone, so that only a copy in memory could answer.
    for (const path of copies) await rm(path, { recursive: true });
    texts.push(await run(third), await run(first));
    await expect(run(second)).rejects.toThrow(UnsupportedModel);
    expect(new Set(texts)).toEqual(new Set([(await answer()).texts[0]]));
    await running.return?.();
    await bounded.close();
  });

  it("tries a base model again that could not be loaded", async () => {
    const broken = await mkdtemp(join(tmpdir(), "tunesmith-engine-"));
    const model = { id: "broken", baseModel: { id: "broken", path: broken }, adapterPath: null };
    await expect(answer({ model })).rejects.toThrow(UnsupportedModel);
    await writeFile(join(broken, "config.json"), "{}");
    await expect(answer({ model })).rejects.toThrow(UnsupportedModel);
    await rm(broken, { recursive: true });
    await makeTinyModel(broken);
    expect((await answer({ model })).texts).toEqual((await answer()).texts);
    await rm(broken, { recursive: true });
  });
});

// The real SmolLM2, from its GGUF file, against transformers: logits behind a prompt and 32 greedy tokens. Its tokenizer and
// chat template are tested in src/data/smollm2.test.ts. Skipped where the model is not in the cache.
import { afterAll, describe, expect, it } from "vitest";
import { EmbeddedEngine } from "../../src/serving/embedded-engine.ts";
import { SMOLLM2, smollm2, smollm2Goldens } from "../smollm2.ts";
import { testGenerator } from "./real-generator.ts";

/** Two float32 implementations of 30 layers differ by about 1e-4 in a logit; the logits are near 25. */
const LOGIT_TOLERANCE = 1e-3;
const GREEDY_TOKENS = 32;
const LONGEST_CHAT = 512;

/** Three seconds a chat on two free cores. */
const TIMEOUT_MS = 180_000;

const END = "<|im_end|>";

testGenerator("SmolLM2", smollm2, smollm2Goldens, {
  logitTolerance: LOGIT_TOLERANCE,
  longestChat: LONGEST_CHAT,
  timeoutMs: TIMEOUT_MS,
});

describe.skipIf(smollm2 === null)("SmolLM2 in the engine against transformers", () => {
  const engine = new EmbeddedEngine({ threads: 2 });
  afterAll(() => engine.close());

  it.each(smollm2Goldens.chats)(
    "the answer to chat $name",
    async ({ messages, ids, greedy }) => {
      const events = [];
      for await (const event of engine.complete({
        model: { id: SMOLLM2, baseModel: { id: SMOLLM2, path: smollm2?.path ?? "" }, adapterPath: null },
        messages,
        maxTokens: GREEDY_TOKENS,
        temperature: 0,
        topP: 1,
        seed: null,
        stop: [],
        n: 1,
        signal: new AbortController().signal,
      })) {
        events.push(event);
      }
      const ends = greedy.text.endsWith(END);
      const text = events.flatMap((event) => (event.type === "text-delta" ? [event.text] : [])).join("");
      expect(text).toBe(ends ? greedy.text.slice(0, -END.length) : greedy.text);
      expect(events[0]).toEqual({ type: "prompt", promptTokens: ids.length });
      expect(events.at(-1)).toEqual({
        type: "finish",
        index: 0,
        reason: ends ? "stop" : "length",
        completionTokens: ends ? greedy.ids.length - 1 : GREEDY_TOKENS,
      });
    },
    TIMEOUT_MS,
  );
});

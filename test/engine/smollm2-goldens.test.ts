// The real SmolLM2, from its GGUF file, against transformers: logits behind a prompt and 32 greedy tokens. Its tokenizer and
// chat template are tested in src/data/smollm2.test.ts. Skipped where the model is not in the cache.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openBaseModel } from "../../src/model/base-model.ts";
import { loadDecoderWeights } from "../../src/model/decoder-weights.ts";
import { EmbeddedEngine } from "../../src/serving/embedded-engine.ts";
import { Generator, NO_ADAPTER } from "../../src/serving/generator.ts";
import { mostLikely } from "../../src/serving/sampler.ts";
import { SMOLLM2, smollm2, smollm2Goldens } from "../smollm2.ts";

/** Two float32 implementations of 30 layers differ by about 1e-4 in a logit; the logits are near 25. */
const LOGIT_TOLERANCE = 1e-3;
const GREEDY_TOKENS = 32;
const LONGEST_CHAT = 512;

/** Three seconds a chat on two free cores. */
const TIMEOUT_MS = 180_000;

const END = "<|im_end|>";

describe.skipIf(smollm2 === null)("SmolLM2 in the generator against transformers", () => {
  let generator: Generator;

  beforeAll(async () => {
    const model = await openBaseModel(smollm2?.path ?? "");
    generator = new Generator({
      config: model.config,
      weights: loadDecoderWeights(model, LONGEST_CHAT),
      threads: 2,
    });
    await model.close();
  }, TIMEOUT_MS);

  afterAll(() => generator?.release());

  it.each(smollm2Goldens.chats)(
    "logits and greedy tokens of chat $name",
    async ({ ids, top5, greedy }) => {
      const { cache, logits: first } = await generator.readPrompt(ids, NO_ADAPTER);
      const best = [...first.keys()].sort((a, b) => (first[b] as number) - (first[a] as number)).slice(0, 5);
      expect(best).toEqual(top5.ids);
      for (const [i, id] of top5.ids.entries()) {
        expect(Math.abs((first[id] as number) - (top5.logits[i] as number))).toBeLessThan(LOGIT_TOLERANCE);
      }
      const tokens: number[] = [];
      for (let logits = first; tokens.length < greedy.ids.length;) {
        tokens.push(mostLikely(logits));
        logits = await generator.step(cache, tokens.slice(-1), NO_ADAPTER);
      }
      expect(tokens).toEqual(greedy.ids);
    },
    TIMEOUT_MS,
  );
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

// The real Gemma 3 270M, from its Q4_K_M file, against transformers: logits behind a prompt and greedy tokens, also where the
// prompt is longer than the window. Its tokenizer and chat form are tested in src/data/gemma3.test.ts. Skipped where the model
// is not in the cache.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openBaseModel } from "../../src/model/base-model.ts";
import { loadDecoderWeights } from "../../src/model/decoder-weights.ts";
import { Generator, NO_ADAPTER } from "../../src/serving/generator.ts";
import { mostLikely } from "../../src/serving/sampler.ts";
import { gemma3, gemma3Goldens } from "../gemma3.ts";

/** Two float32 implementations differ by some 1e-4 in a logit; the logits are near 20. */
const LOGIT_TOLERANCE = 2e-3;
const LONGEST_CHAT = 1024;
const TIMEOUT_MS = 180_000;

describe.skipIf(gemma3 === null)("Gemma 3 in the generator against transformers", () => {
  let generator: Generator;

  beforeAll(async () => {
    const model = await openBaseModel(gemma3?.path ?? "");
    generator = new Generator({
      config: model.config,
      weights: loadDecoderWeights(model, LONGEST_CHAT),
      threads: 2,
    });
    await model.close();
  }, TIMEOUT_MS);

  afterAll(() => generator?.release());

  it.each(gemma3Goldens.chats)(
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

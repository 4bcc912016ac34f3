// A real base model in the generator against transformers: logits behind a prompt and greedy tokens, chat by chat.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openBaseModel } from "../../src/model/base-model.ts";
import { loadDecoderWeights } from "../../src/model/decoder-weights.ts";
import type { ResolvedBaseModel } from "../../src/model/resolve-base-model.ts";
import { Generator, NO_ADAPTER } from "../../src/serving/generator.ts";
import { mostLikely } from "../../src/serving/sampler.ts";
import type { RealModelGoldens } from "../real-model.ts";

export interface GeneratorTestOptions {
  /** Of a logit, absolute. */
  logitTolerance: number;
  /** Tokens of the longest chat, answer included. */
  longestChat: number;
  timeoutMs: number;
}

/** Declares the tests; they are skipped without the model. */
export function testGenerator(
  title: string,
  model: ResolvedBaseModel | null,
  goldens: RealModelGoldens,
  { logitTolerance, longestChat, timeoutMs }: GeneratorTestOptions,
): void {
  describe.skipIf(model === null)(`${title} in the generator against transformers`, () => {
    let generator: Generator;

    beforeAll(async () => {
      const opened = await openBaseModel(model?.path ?? "");
      generator = new Generator({
        config: opened.config,
        weights: loadDecoderWeights(opened, longestChat),
        threads: 2,
      });
      await opened.close();
    }, timeoutMs);

    afterAll(() => generator?.release());

    it.each(goldens.chats)(
      "logits and greedy tokens of chat $name",
      async ({ ids, top5, greedy }) => {
        const { cache, logits: first } = await generator.readPrompt(ids, NO_ADAPTER);
        const best = [...first.keys()]
          .sort((a, b) => (first[b] as number) - (first[a] as number))
          .slice(0, 5);
        expect(best).toEqual(top5.ids);
        for (const [i, id] of top5.ids.entries()) {
          expect(Math.abs((first[id] as number) - (top5.logits[i] as number))).toBeLessThan(logitTolerance);
        }
        const tokens: number[] = [];
        for (let logits = first; tokens.length < greedy.ids.length;) {
          tokens.push(mostLikely(logits));
          logits = await generator.step(cache, tokens.slice(-1), NO_ADAPTER);
        }
        expect(tokens).toEqual(greedy.ids);
      },
      timeoutMs,
    );
  });
}

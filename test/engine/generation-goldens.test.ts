// Serving against PyTorch: logits of five tiny models with and without adapter, token by token through the cache and in one
// pass, and greedy text. The real SmolLM2's goldens are in smollm2-goldens.test.ts.
import { describe, expect, it } from "vitest";
import type { HostTensor } from "../../src/runtime/tensor.ts";
import { float32 } from "../../src/runtime/tensor.ts";
import { layerFeed } from "../../src/model/decoder.ts";
import { Generator, isRead, NO_ADAPTER } from "../../src/serving/generator.ts";
import type { LoadedAdapter, PromptReading } from "../../src/serving/generator.ts";
import { PROMPT_CHUNK_TOKENS } from "../../src/serving/prompt-passes.ts";
import { mostLikely } from "../../src/serving/sampler.ts";
import type { TinyModel } from "./goldens.ts";
import { loadTinyModel, relativeError, TINY_MODELS } from "./goldens.ts";

const LOGIT_TOLERANCE = 1e-5;

function adapterOf({ parameters, lora }: TinyModel): LoadedAdapter {
  const feeds: Record<string, HostTensor<"float32">> = {};
  for (const { layer, target, matrix, shape, offset, length } of parameters.slots) {
    const scale = matrix === "lora_B" ? lora.alpha / lora.rank : 1;
    const data = parameters.data.slice(offset, offset + length).map((value) => value * scale);
    feeds[layerFeed(layer, `${target}.${matrix}`)] = float32(data, shape);
  }
  return { targets: lora.targetModules, feeds };
}

describe.each(TINY_MODELS)("%s against PyTorch", (name) => {
  it.each(["base", "adapter"] as const)("gives the golden logits (%s)", async (kind) => {
    const model = await loadTinyModel(name);
    const generator = new Generator({ ...model, threads: 1 });
    const adapter = kind === "base" ? NO_ADAPTER : adapterOf(model);
    for (const [i, { tokens }] of model.golden.batch.entries()) {
      const golden = model.expected.get(`logits.${kind}.${i}`)?.values as Float64Array;
      const first = await generator.readPrompt(tokens.slice(0, 1), adapter);
      const steps = [first.logits];
      for (const token of tokens.slice(1)) steps.push(await generator.step(first.cache, [token], adapter));
      const actual = Float64Array.from(steps.flatMap((logits) => [...logits]));
      expect(relativeError(actual, golden)).toBeLessThan(LOGIT_TOLERANCE);
      const { logits } = await generator.readPrompt(tokens, adapter);
      const last = golden.subarray(golden.length - model.config.vocabSize);
      expect(relativeError(logits, last)).toBeLessThan(LOGIT_TOLERANCE);
    }
    await generator.release();
  });
});

// Gemma has layers with a window of 8 tokens, which all of these rows outgrow.
describe.each(["tiny-llama", "tiny-gemma3"] as const)("%s", (name) => {
  it("continues greedily as PyTorch does", async () => {
    const model = await loadTinyModel(name);
    const generator = new Generator({ ...model, threads: 1 });
    for (const golden of model.golden.greedy ?? []) {
      const adapter = golden.model === "base" ? NO_ADAPTER : adapterOf(model);
      const prompt = await generator.readPrompt(golden.prompt, adapter);
      let { logits } = prompt;
      const tokens: number[] = [];
      while (tokens.length < golden.tokens.length) {
        tokens.push(mostLikely(logits));
        logits = await generator.step(prompt.cache, tokens.slice(-1), adapter);
      }
      expect(tokens).toEqual(golden.tokens);
    }
    await generator.release();
  });

  it("decodes rows of different lengths together as it does alone", async () => {
    const model = await loadTinyModel(name);
    const generator = new Generator({ ...model, threads: 1 });
    const adapter = adapterOf(model);
    const prompts = model.golden.batch.map(({ tokens }) => tokens);
    const shared = generator.newCache();
    const alone = [];
    for (const prompt of prompts) {
      const { cache } = await generator.readPrompt(prompt, adapter);
      shared.addRow(cache);
      alone.push(cache);
    }
    shared.removeRow(0);
    const rows = [2, 1];
    for (const token of [5, 11, 3]) {
      const together = await generator.step(shared, [token, token + 1], adapter);
      for (const [row, prompt] of rows.entries()) {
        const single = await generator.step(alone[prompt] as (typeof alone)[0], [token + row], adapter);
        const logits = together.subarray(row * single.length, (row + 1) * single.length);
        expect(relativeError(logits, single)).toBeLessThan(LOGIT_TOLERANCE);
      }
    }
    await generator.release();
  });

  it.each([
    ["of different lengths", []],
    ["that begin alike", [7, 2, 9, 2]],
  ])("reads prompts %s in one pass as one after the other", async (_, beginning) => {
    const model = await loadTinyModel(name);
    const generator = new Generator({ ...model, threads: 1 });
    const adapter = adapterOf(model);
    const ends = [[3], ...model.golden.batch.map(({ tokens }) => [...tokens])];
    const prompts = ends.map((end) => [...beginning, ...end]);
    const readings = prompts.map((tokens) => generator.beginPrompt(tokens));
    await generator.readPass(readings, adapter);
    for (const [i, prompt] of prompts.entries()) {
      const shared = readings[i] as PromptReading;
      const alone = await generator.readPrompt(prompt, adapter);
      expect(isRead(shared)).toBe(true);
      expect(relativeError(shared.logits, alone.logits)).toBeLessThan(LOGIT_TOLERANCE);
      for (const token of [5, 11, 3]) {
        const logits = await generator.step(shared.cache, [token], adapter);
        const expected = await generator.step(alone.cache, [token], adapter);
        expect(relativeError(logits, expected)).toBeLessThan(LOGIT_TOLERANCE);
      }
    }
    await generator.release();
  });

  it("reads a long prompt in pieces as in one", async () => {
    const model = await loadTinyModel(name);
    const generator = new Generator({ ...model, threads: 1 });
    const { vocabSize } = model.config;
    const tokens = Array.from({ length: PROMPT_CHUNK_TOKENS + 40 }, (_, i) => (i * 7) % vocabSize);
    const reading = generator.beginPrompt(tokens);
    await generator.readPass([reading], NO_ADAPTER);
    expect([isRead(reading), reading.cache.length(0)]).toEqual([false, PROMPT_CHUNK_TOKENS]);
    await generator.readPass([reading], NO_ADAPTER);
    expect(isRead(reading)).toBe(true);
    const stepwise = await generator.readPrompt(tokens.slice(0, 1), NO_ADAPTER);
    let { logits } = stepwise;
    for (const token of tokens.slice(1)) logits = await generator.step(stepwise.cache, [token], NO_ADAPTER);
    expect(relativeError(reading.logits, logits)).toBeLessThan(LOGIT_TOLERANCE);
    await generator.release();
  });
});

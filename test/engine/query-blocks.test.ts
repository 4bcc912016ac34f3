// Long rows attend in blocks of queries: the same loss and gradients as in one, in one graph and layer by layer.
import { expect, it } from "vitest";
import { layOut, supervisedPass } from "../../src/data/batches.ts";
import { createRandom } from "../../src/random.ts";
import { DecoderRunner } from "../../src/training/decoder-runner.ts";
import { uniformWeights } from "../../src/training/row-weights.ts";
import { loadTinyModel, relativeError, TINY_MODELS } from "./goldens.ts";

it.each(TINY_MODELS)("long rows of %s have the same loss and gradients in blocks", async (name) => {
  const {
    parameters,
    golden: _golden,
    expected: _expected,
    examples: _examples,
    ...model
  } = await loadTinyModel(name);
  const random = createRandom(7);
  const rows = [270, 33].map((length) =>
    Int32Array.from({ length }, () => Math.floor(random.next() * model.config.vocabSize)),
  );
  // 257 tokens with loss: not a multiple of the blocks either.
  const pass = supervisedPass(
    rows.map((tokens) => ({ tokens, supervised: Uint8Array.from(tokens, (_, i) => Number(i > 22)) })),
  );
  const whole = { ...pass, layout: layOut(rows.map((tokens) => tokens.subarray(0, -1))) };
  expect([pass.layout.queryBlocks, whole.layout.queryBlocks, pass.lossRows.length % 4]).toEqual([4, 1, 1]);

  const weights = uniformWeights(0.01, pass.targets.length);
  const results = [];
  for (const [layout, wholeStepTokens] of [
    [whole, 1000],
    [pass, 1000],
    [pass, 0],
  ] as const) {
    const runner = new DecoderRunner({ ...model, parameters, threads: 1, wholeStepTokens });
    const gradients = new Float32Array(parameters.data.length);
    const { lossSum, supervised } = await runner.train(layout, weights, gradients, []);
    results.push({ gradients, supervised, lossSum, evaluated: (await runner.evaluate(layout)).lossSum });
    await runner.release();
  }
  const [first, ...others] = results as [(typeof results)[0], ...typeof results];
  for (const other of others) {
    expect(other.supervised).toBe(pass.lossRows.length);
    expect(Math.abs(other.lossSum / first.lossSum - 1)).toBeLessThan(1e-5);
    expect(Math.abs(other.evaluated / first.lossSum - 1)).toBeLessThan(1e-5);
    expect(relativeError(other.gradients, first.gradients)).toBeLessThan(1e-4);
  }
});

// Rows of a pass that begin alike compute their beginning once: the same loss and gradients as apart, in one graph and layer by
// layer, also where long rows attend in blocks.
import { describe, expect, it } from "vitest";
import { supervisedPass } from "../../src/data/batches.ts";
import { createRandom } from "../../src/random.ts";
import { DecoderRunner } from "../../src/training/decoder-runner.ts";
import { uniformWeights } from "../../src/training/row-weights.ts";
import { loadTinyModel, relativeError, TINY_MODELS } from "./goldens.ts";

const SHARED = 21;

describe.each([
  ["short", [60, 31, 45]],
  ["long", [270, 40]],
])("%s rows with the same beginning", (_, lengths) => {
  it.each(TINY_MODELS)("have the same loss and gradients in one pass of %s as in one each", async (name) => {
    const { parameters, golden: _g, expected: _e, examples: _x, ...model } = await loadTinyModel(name);
    const random = createRandom(11);
    const draw = (length: number) => Int32Array.from({ length }, () => random.below(model.config.vocabSize));
    const beginning = draw(SHARED);
    const examples = lengths.map((length, i) => {
      const tokens = Int32Array.of(...beginning, i, ...draw(length));
      return { tokens, supervised: Uint8Array.from(tokens, (_, t) => Number(t > SHARED)) };
    });
    const together = supervisedPass(examples);
    expect(together.layout.sharedTokens).toBe(SHARED);
    expect(together.layout.queryBlocks).toBe(Math.max(...lengths) > 256 ? 4 : 1);

    for (const wholeStepTokens of [1000, 0]) {
      const runner = new DecoderRunner({ ...model, parameters, threads: 1, wholeStepTokens });
      const sums = async (passes: (typeof together)[]) => {
        const gradients = new Float32Array(parameters.data.length);
        let [lossSum, evaluated] = [0, 0];
        for (const pass of passes) {
          const weights = uniformWeights(0.01, pass.targets.length);
          lossSum += (await runner.train(pass, weights, gradients, [])).lossSum;
          evaluated += (await runner.evaluate(pass)).lossSum;
        }
        return { gradients, lossSum, evaluated };
      };
      const one = await sums([together]);
      const apart = await sums(examples.map((example) => supervisedPass([example])));
      await runner.release();
      expect(Math.abs(one.lossSum / apart.lossSum - 1)).toBeLessThan(1e-5);
      expect(Math.abs(one.evaluated / apart.evaluated - 1)).toBeLessThan(1e-5);
      expect(relativeError(one.gradients, apart.gradients)).toBeLessThan(1e-4);
    }
  });
});

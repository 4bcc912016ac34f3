// The preference loss, its metrics and every LoRA gradient against TRL's DPO trainer (test/goldens/dpo.json), in one graph and
// layer by layer, with the pairs in one pass and in one each.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { supervisedPass } from "../../src/data/batches.ts";
import { rowsOfPairs } from "../../src/data/preference-batches.ts";
import type { BatchPair } from "../../src/data/preference-batches.ts";
import { DecoderRunner } from "../../src/training/decoder-runner.ts";
import { pairScores, preferenceLoss } from "../../src/training/preference-loss.ts";
import type { PairScore, ReferencedPair } from "../../src/training/preference-loss.ts";
import { evaluateLoss, lossAndGradients } from "../../src/training/train-step.ts";
import { readSafetensors } from "../reference/read-safetensors.ts";
import { GOLDEN_FOLDER, loadTinyModel, relativeError } from "./goldens.ts";

interface DpoGolden {
  beta: number;
  pairs: { prompt: number[]; chosen: number[]; rejected: number[] }[];
  loss: number;
  metrics: Record<"rewards/margins" | "rewards/accuracies" | "logps/chosen" | "logps/rejected", number>;
  reference: { chosen: number[]; rejected: number[] };
}

const golden = JSON.parse(readFileSync(join(GOLDEN_FOLDER, "dpo.json"), "utf8")) as DpoGolden;
const gradientsOf = readSafetensors(join(GOLDEN_FOLDER, "dpo.safetensors"));

// Both sides are float32; measured errors are 1e-6 and below.
const LOSS_TOLERANCE = 1e-5;
const GRADIENT_TOLERANCE = 1e-4;

const row = (prompt: number[], answer: number[]) => ({
  tokens: Int32Array.of(...prompt, ...answer),
  supervised: Uint8Array.from([...prompt, ...answer], (_, i) => Number(i >= prompt.length)),
});
const pairs = golden.pairs.map(({ prompt, chosen, rejected }): BatchPair => ({
  preferred: row(prompt, chosen),
  rejected: row(prompt, rejected),
}));
const referenced = pairs.map((pair, i): ReferencedPair => ({
  ...pair,
  reference: {
    preferred: golden.reference.chosen[i] as number,
    rejected: golden.reference.rejected[i] as number,
  },
}));

async function start(mode: { wholeStepTokens: number }) {
  const { parameters, config, weights, lora } = await loadTinyModel("tiny-llama");
  const runner = new DecoderRunner({ config, weights, lora, ...mode, parameters, threads: 1 });
  return { runner, parameters };
}

describe.each([{ wholeStepTokens: 512 }, { wholeStepTokens: 0 }])("DPO against TRL (%o)", (mode) => {
  const loss = preferenceLoss(golden.beta);

  it("has the loss, the metrics and every gradient", async () => {
    const { runner, parameters } = await start(mode);
    const { gradients, metrics } = await lossAndGradients(loss, runner, parameters, referenced, []);
    const evaluated = await evaluateLoss(loss, runner, referenced);
    await runner.release();
    for (const found of [metrics, evaluated]) {
      expect(Math.abs(found.loss / golden.loss - 1)).toBeLessThan(LOSS_TOLERANCE);
      expect(found.rewardMargin).toBeCloseTo(golden.metrics["rewards/margins"], 4);
      expect(found.rewardAccuracy).toBeCloseTo(golden.metrics["rewards/accuracies"], 6);
      expect(found.chosenLogps).toBeCloseTo(golden.metrics["logps/chosen"], 3);
      expect(found.rejectedLogps).toBeCloseTo(golden.metrics["logps/rejected"], 3);
    }
    expect(parameters.slots).toHaveLength(28);
    for (const { peftName, offset, length } of parameters.slots) {
      const gradient = gradients.subarray(offset, offset + length);
      const error = relativeError(gradient, gradientsOf.get(peftName)?.values ?? []);
      expect(error, peftName).toBeLessThan(GRADIENT_TOLERANCE);
    }
  });

  it("has the same gradient with each pair in a pass of its own", async () => {
    const { runner, parameters } = await start(mode);
    const together = loss.passes(referenced);
    expect(together).toHaveLength(1);
    const gradients = [new Float32Array(parameters.data.length), new Float32Array(parameters.data.length)];
    const [whole, apart] = gradients as [Float32Array, Float32Array];
    for (const { pass, weights } of together) await runner.train(pass, weights, whole, []);
    for (const pair of referenced) {
      for (const { pass, weights } of loss.passes([pair])) {
        // Each of three pairs counts a third.
        const alone = new Float32Array(apart.length);
        await runner.train(pass, weights, alone, []);
        for (let i = 0; i < apart.length; i++) apart[i] = (apart[i] as number) + (alone[i] as number) / 3;
      }
    }
    await runner.release();
    expect(relativeError(apart, whole)).toBeLessThan(GRADIENT_TOLERANCE);
  });

  it("has the reference's log-probabilities: those of the model without the adapter", async () => {
    const { runner, parameters } = await start(mode);
    parameters.data.fill(0);
    const { logProbabilities } = await runner.evaluate(supervisedPass(rowsOfPairs(pairs)));
    await runner.release();
    const scores: PairScore[] = pairScores(pairs, logProbabilities);
    for (const [i, { reference }] of referenced.entries()) {
      expect(scores[i]?.preferred).toBeCloseTo(reference.preferred, 3);
      expect(scores[i]?.rejected).toBeCloseTo(reference.rejected, 3);
    }
  });
});

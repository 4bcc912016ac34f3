import { describe, expect, test } from "vitest";
import { LORA_TARGETS } from "../model/lora-targets.ts";
import type { Job } from "../store/fine-tuning-rows.ts";
import { LORA_MODULES } from "../wire/recipe.ts";
import { recipeOf } from "./hyperparameters.ts";
import { buildRecipe, continuedLora, loraWith, recipeWith, resolved } from "./recipe.ts";

const JOB: Job = {
  id: "ftjob-1",
  projectId: "proj_1",
  createdAt: 0,
  finishedAt: null,
  status: "queued",
  model: "gpt-4o-mini",
  baseModel: "smollm2-135m-instruct",
  trainingFileId: "file-1",
  validationFileId: null,
  suffix: null,
  seed: 7,
  method: "supervised",
  hyperparameters: { n_epochs: 3, batch_size: 1, learning_rate_multiplier: 2 },
  metadata: null,
  trainedTokens: null,
  fineTunedModel: null,
  resultFileId: null,
  estimatedFinish: null,
  error: null,
  recipe: null,
  attempts: 1,
};
const PARTS = {
  baseModel: { id: "smollm2-135m-instruct", path: "/m", sha256: "aa" },
  trainingData: { file: "training.jsonl", sha256: "bb" },
  validationData: null,
  threads: 2,
  initial: null,
};
const PLAIN = recipeOf("smollm2-135m-instruct");

test("the layers that requests may name are those that can be adapted", () => {
  expect(LORA_MODULES).toEqual(LORA_TARGETS);
});

describe("what a job changes", () => {
  test("nothing: the base model's recipe", () => {
    expect(recipeWith("smollm2-135m-instruct", {})).toEqual(PLAIN);
    const recipe = buildRecipe(JOB, PARTS);
    expect(recipe).not.toHaveProperty("earlyStopping");
    expect(recipe).toMatchObject({ lora: PLAIN.lora, maxLength: PLAIN.maxLength, seed: 7, threads: 2 });
  });

  test("every addition reaches the recipe", () => {
    const hyperparameters: Job["hyperparameters"] = {
      ...JOB.hyperparameters,
      lora: { rank: 4, alpha: 3, dropout: 0.2, target_modules: ["up_proj", "q_proj"] },
      max_length: 99,
      early_stopping: { patience: 2 },
      warmup_ratio: 0.25,
      weight_decay: 0.5,
    };
    expect(buildRecipe({ ...JOB, hyperparameters }, PARTS)).toMatchObject({
      lora: { rank: 4, alpha: 3, dropout: 0.2, targetModules: ["q_proj", "up_proj"] },
      maxLength: 99,
      earlyStopping: { patience: 2 },
      hyperparameters: { warmupRatio: 0.25, weightDecay: 0.5, learningRate: 0.001 },
    });
  });

  test("a rank alone keeps the adapter as loud as it was", () => {
    expect(loraWith(PLAIN.lora, { rank: 32 })).toEqual({ ...PLAIN.lora, rank: 32, alpha: 64 });
  });

  test("a plan that was asked for is shown whole, once the job is validated; others are not shown", () => {
    const job: Job = {
      ...JOB,
      hyperparameters: { ...JOB.hyperparameters, n_epochs: "auto", lora: { rank: 4 }, max_length: 64 },
    };
    const lora = loraWith(PLAIN.lora, { rank: 4 });
    expect(resolved(job, 100, lora)).toEqual({
      n_epochs: 3,
      batch_size: 1,
      learning_rate_multiplier: 2,
      lora: { rank: 4, alpha: 8, dropout: 0, target_modules: [...LORA_TARGETS] },
      max_length: 64,
    });
    expect(resolved(JOB, 100, PLAIN.lora)).toEqual(JOB.hyperparameters);
  });
});

describe("going on from an adapter", () => {
  const adapter = { rank: 3, alpha: 6, dropout: 0, targetModules: ["q_proj" as const, "v_proj" as const] };
  const job = { model: "ft:m:o::1", method: "dpo" as const };

  test("keeps its plan, and may ask for the same and for a dropout", () => {
    expect(continuedLora(adapter, undefined, job)).toEqual(adapter);
    const same = { rank: 3, alpha: 6, dropout: 0.3, target_modules: ["v_proj" as const, "q_proj" as const] };
    expect(continuedLora(adapter, same, job)).toEqual({ ...adapter, dropout: 0.3 });
  });

  test.each([
    [{ rank: 4 }, "rank", "3", "4"],
    [{ alpha: 7 }, "alpha", "6", "7"],
    [{ target_modules: ["q_proj" as const] }, "target_modules", "q_proj, v_proj", "q_proj"],
  ])("refuses %j", (wanted, name, has, asked) => {
    expect(() => continuedLora(adapter, wanted, job)).toThrow(
      expect.objectContaining({
        code: "lora_mismatch",
        param: `method.dpo.hyperparameters.lora.${name}`,
        message: `The job goes on from ft:m:o::1, whose adapter has ${name} ${has}, and asks for ${asked}. Leave 'lora.${name}' out, or start from the base model.`,
      }),
    );
  });
});

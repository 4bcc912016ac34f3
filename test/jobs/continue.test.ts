// Going on from a fine-tuned model: the job starts from a copy of its adapter, with the adapter's own shape.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import type { JobRecipe } from "../../src/training/job-directory.ts";
import { openWorkbench, until, type Workbench } from "./workbench.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";

let bench: Workbench;
afterEach(() => bench.close());

const ADAPTER_CONFIG = { peft_type: "LORA", r: 3, lora_alpha: 6, target_modules: ["v_proj", "q_proj"] };

/** A job that has succeeded, with an adapter of rank 3 where its model's lies. */
async function fineTuned(): Promise<{ id: string; adapterDirectory: string }> {
  const job = await bench.create();
  bench.worker().start();
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  const model = await bench.models.get(DEFAULT_PROJECT, (await bench.read(job)).fineTunedModel ?? "");
  if (model === null) throw new Error("no model");
  mkdirSync(model.adapterDirectory, { recursive: true });
  writeFileSync(join(model.adapterDirectory, "adapter_config.json"), JSON.stringify(ADAPTER_CONFIG));
  writeFileSync(join(model.adapterDirectory, "adapter_model.safetensors"), "weights");
  return model;
}

test("the run inherits the adapter, and the new model is named after the same base", async () => {
  bench = await openWorkbench();
  const source = await fineTuned();
  const job = await bench.create({ model: source.id, instructions: { stepMs: 40 } });
  await until("it trains", async () => (await bench.status(job)) === "running");
  // Deleting the model from now on disturbs nobody.
  await bench.models.delete(DEFAULT_PROJECT, source.id);
  await rm(source.adapterDirectory, { recursive: true });
  const directory = bench.directoryOf(job);
  expect(readFileSync(join(directory, "initial-adapter", "adapter_model.safetensors"), "utf8")).toBe(
    "weights",
  );
  const recipe = JSON.parse(readFileSync(join(directory, "job.json"), "utf8")) as JobRecipe;
  expect(recipe.lora).toEqual({ rank: 3, alpha: 6, dropout: 0, targetModules: ["q_proj", "v_proj"] });
  expect(recipe.initialAdapter).toEqual({
    model: source.id,
    folder: "initial-adapter",
    sha256: createHash("sha256").update("weights").digest("hex"),
  });
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  const { fineTunedModel, model } = await bench.read(job);
  expect(model).toBe(source.id);
  expect(fineTunedModel).toMatch(/^ft:gpt-4o-mini-2024-07-18:acme:tacos:[A-Za-z0-9]{8}$/);
  expect(fineTunedModel).not.toBe(source.id);
  await until("what it no longer needs is gone", () => !existsSync(join(directory, "initial-adapter")));
});

test("a rank that is not the adapter's fails the job while it validates, and says what the adapter has", async () => {
  bench = await openWorkbench();
  const source = await fineTuned();
  const auto = { n_epochs: "auto", batch_size: "auto", learning_rate_multiplier: "auto" } as const;
  const create = (lora: object) => bench.create({ model: source.id, hyperparameters: { ...auto, lora } });
  const job = await create({ rank: 8 });
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  expect((await bench.read(job)).error).toMatchObject({
    code: "lora_mismatch",
    param: "method.supervised.hyperparameters.lora.rank",
  });
  expect(existsSync(join(bench.directoryOf(job), "job.json"))).toBe(false);
  const same = await create({ rank: 3, dropout: 0.5 });
  await until("the other has succeeded", async () => (await bench.status(same)) === "succeeded");
  expect((await bench.read(same)).hyperparameters.lora).toEqual({
    rank: 3,
    alpha: 6,
    dropout: 0.5,
    target_modules: ["q_proj", "v_proj"],
  });
});

test("a model deleted before the job could read it fails the job and says so", async () => {
  bench = await openWorkbench();
  const source = await fineTuned();
  await bench.models.delete(DEFAULT_PROJECT, source.id);
  const job = await bench.create({ model: source.id });
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  expect((await bench.read(job)).error).toEqual({
    code: "deleted_model",
    param: "model",
    message: `The model ${source.id} was deleted before the job could read it. Create a new job that starts from another model.`,
  });
});

test("an adapter that cannot be continued fails the job and names what is wrong", async () => {
  bench = await openWorkbench();
  const source = await fineTuned();
  const config = join(source.adapterDirectory, "adapter_config.json");
  writeFileSync(config, JSON.stringify({ ...ADAPTER_CONFIG, use_dora: true }));
  const job = await bench.create({ model: source.id });
  await until("the job has failed", async () => (await bench.status(job)) === "failed");
  const { error } = await bench.read(job);
  expect(error?.code).toBe("unsupported_adapter");
  expect(error?.message).toContain('"use_dora" in adapter_config.json is true');
});

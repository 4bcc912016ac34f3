import { cp, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { OutOfSpace, UnsupportedModel } from "../errors.ts";
import {
  ADAPTER_CONFIG_FILE,
  ADAPTER_WEIGHTS_FILE,
  adapterShapes,
  loraTensorName,
  readAdapter,
  writeAdapter,
  type LoraAdapter,
} from "./adapter.ts";
import * as atomic from "./atomic-write.ts";
import { openBaseModel } from "./base-model.ts";
import { LORA_TARGETS, type LoraTarget } from "./lora-targets.ts";
import type { ModelConfig } from "./model-config.ts";
import { SafetensorsFile, writeSafetensors } from "./safetensors.ts";

const GOLDENS = join(import.meta.dirname, "../../test/goldens");
let folder: string;
let config: ModelConfig;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "adapter-"));
  const model = await openBaseModel(join(GOLDENS, "tiny-llama"));
  config = model.config;
  await model.close();
});
afterAll(() => rm(folder, { recursive: true }));

function adapterOf(targetModules: LoraTarget[], rank = 3): LoraAdapter {
  const adapter = {
    rank,
    alpha: 6,
    dropout: 0.1,
    targetModules,
    baseModelId: "owner/base",
    tensors: new Map(),
  };
  let next = 0;
  for (const [name, shape] of adapterShapes(config, adapter))
    adapter.tensors.set(name, { shape, data: new Float32Array(shape[0] * shape[1]).map(() => next++) });
  return adapter;
}

describe("writing", () => {
  test("what is written is read back, targets in the layer's order", async () => {
    const path = join(folder, "round-trip");
    const adapter = adapterOf(["q_proj", "v_proj", "down_proj"]);
    await writeAdapter(path, { ...adapter, targetModules: ["down_proj", "v_proj", "q_proj"] });
    expect(await readAdapter(path, config)).toEqual(adapter);
    expect((await readdir(path)).sort()).toEqual([ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE]);
  });

  test("the config holds PEFT's fields, and the tensors PEFT's names and shapes", async () => {
    const path = join(folder, "fields");
    await writeAdapter(path, adapterOf(["v_proj", "q_proj"]));
    expect(JSON.parse(await readFile(join(path, ADAPTER_CONFIG_FILE), "utf8"))).toEqual({
      alpha_pattern: {},
      auto_mapping: null,
      base_model_name_or_path: "owner/base",
      bias: "none",
      fan_in_fan_out: false,
      inference_mode: true,
      init_lora_weights: true,
      layers_pattern: null,
      layers_to_transform: null,
      lora_alpha: 6,
      lora_dropout: 0.1,
      modules_to_save: null,
      peft_type: "LORA",
      r: 3,
      rank_pattern: {},
      revision: null,
      target_modules: ["q_proj", "v_proj"],
      task_type: "CAUSAL_LM",
      use_dora: false,
      use_rslora: false,
    });
    const file = new SafetensorsFile(join(path, ADAPTER_WEIGHTS_FILE));
    expect(file.metadata).toEqual({ format: "pt" });
    const name = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight";
    expect(loraTensorName(1, "v_proj", "B")).toBe(name);
    expect(file.shape(name)).toEqual([16, 3]);
    file.close();
  });

  test("a disk that fills up while writing leaves the older adapter and nothing else", async () => {
    const path = join(folder, "full", "adapter");
    await writeAdapter(path, adapterOf(["q_proj"]));
    const full = vi.spyOn(atomic, "writeFileAtomically").mockImplementation(async () => {
      throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
    });
    await expect(writeAdapter(path, adapterOf(["k_proj"]))).rejects.toBeInstanceOf(OutOfSpace);
    full.mockRestore();
    expect((await readAdapter(path, config)).targetModules).toEqual(["q_proj"]);
    expect(await readdir(join(folder, "full"))).toEqual(["adapter"]);
  });
});

test.each(["tiny-llama", "tiny-llama3", "tiny-qwen2", "tiny-qwen3", "tiny-gemma3"])(
  "the adapter that PEFT wrote for %s is read",
  async (name) => {
    const model = await openBaseModel(join(GOLDENS, name));
    const adapter = await readAdapter(join(GOLDENS, name, "adapter"), model.config);
    expect(adapter).toMatchObject({ rank: 4, alpha: 8, targetModules: [...LORA_TARGETS] });
    expect(adapter.tensors.size).toBe(2 * 7 * model.config.layerCount);
    await model.close();
  },
);

describe("refused", () => {
  let copies = 0;
  async function changed(changes: object): Promise<string> {
    const path = join(folder, `changed-${copies++}`);
    await cp(join(GOLDENS, "tiny-llama", "adapter"), path, { recursive: true });
    const file = join(path, ADAPTER_CONFIG_FILE);
    const old = JSON.parse(await readFile(file, "utf8")) as object;
    await writeFile(file, JSON.stringify({ ...old, ...changes }));
    return path;
  }

  test.each<[field: string, changes: object, message: string]>([
    ["peft_type", { peft_type: "IA3" }, '"peft_type" in adapter_config.json is wrong'],
    ["task_type", { task_type: "SEQ_CLS" }, '"task_type" in adapter_config.json is wrong'],
    ["r", { r: 0 }, '"r" in adapter_config.json is wrong'],
    ["target_modules", { target_modules: "all-linear" }, '"target_modules" in adapter_config.json is wrong'],
    [
      "target_modules.0",
      { target_modules: ["lm_head"] },
      '"target_modules.0" in adapter_config.json is wrong',
    ],
    [
      "init_lora_weights",
      { init_lora_weights: "pissa" },
      '"init_lora_weights" in adapter_config.json is wrong',
    ],
    ["use_dora", { use_dora: true }, '"use_dora" in adapter_config.json is true; supported: plain LoRA'],
    ["use_rslora", { use_rslora: true }, '"use_rslora" in adapter_config.json is true'],
    ["bias", { bias: "all" }, '"bias" in adapter_config.json is "all"'],
    ["fan_in_fan_out", { fan_in_fan_out: true }, '"fan_in_fan_out" in adapter_config.json is true'],
    [
      "modules_to_save",
      { modules_to_save: ["lm_head"] },
      '"modules_to_save" in adapter_config.json is ["lm_head"]',
    ],
    [
      "rank_pattern",
      { rank_pattern: { q_proj: 8 } },
      '"rank_pattern" in adapter_config.json is {"q_proj":8}',
    ],
    ["alpha_pattern", { alpha_pattern: { q_proj: 8 } }, '"alpha_pattern" in adapter_config.json is'],
    [
      "layers_to_transform",
      { layers_to_transform: [0] },
      '"layers_to_transform" in adapter_config.json is [0]',
    ],
    ["something_new", { something_new: "on" }, '"something_new" in adapter_config.json is "on"'],
  ])("%s %j", async (field, changes, message) => {
    const error = await readAdapter(await changed(changes), config).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UnsupportedModel);
    expect(error).toMatchObject({ param: field });
    expect((error as Error).message).toContain(message);
  });

  test("a config that is no object", async () => {
    const path = await changed({});
    await writeFile(join(path, ADAPTER_CONFIG_FILE), "[]");
    await expect(readAdapter(path, config)).rejects.toThrow(
      `cannot be used as an adapter: ${ADAPTER_CONFIG_FILE} holds no JSON object.`,
    );
  });

  test("an option of a future version that is off does no harm", async () => {
    await readAdapter(await changed({ something_new: null, another: {}, third: false }), config);
  });

  test("missing, misshapen and foreign tensors, by name", async () => {
    const path = await changed({});
    const weights = join(path, ADAPTER_WEIGHTS_FILE);
    const good = (await readAdapter(path, config)).tensors;
    const name = loraTensorName(1, "k_proj", "A");
    const without = new Map(good);
    without.delete(name);
    await writeSafetensors(weights, without);
    await expect(readAdapter(path, config)).rejects.toThrow(`tensor "${name}" is missing`);
    await writeSafetensors(
      weights,
      new Map([...good, [name, { shape: [2, 32], data: new Float32Array(64) }]]),
    );
    await expect(readAdapter(path, config)).rejects.toThrow(
      `tensor "${name}" has shape [2, 32]; rank and base model ask for [4, 32]`,
    );
    const foreign = loraTensorName(2, "k_proj", "A");
    await writeSafetensors(weights, new Map([...good, [foreign, { shape: [1], data: new Float32Array(1) }]]));
    await expect(readAdapter(path, config)).rejects.toThrow(
      `tensor "${foreign}" does not belong to the adapter`,
    );
  });

  test("another base model's adapter, and a folder without one", async () => {
    const other = { ...config, hiddenSize: 64 };
    await expect(readAdapter(join(GOLDENS, "tiny-llama", "adapter"), other)).rejects.toThrow(
      "has shape [4, 32]; rank and base model ask for [4, 64]",
    );
    await expect(readAdapter(folder, config)).rejects.toThrow("it has no adapter_config.json");
  });
});

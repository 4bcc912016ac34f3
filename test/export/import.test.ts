// What an import is refused for, by name: adapters that are not plain LoRA of their base model, models that cannot be run, files that are
// damaged. And what is taken.
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { cp, mkdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { checkAdapter, checkModel } from "../../src/export/import-check.ts";
import { contentsOf } from "../../src/export/import-contents.ts";
import { openModelWith } from "../../src/main/export-model.ts";
import { loraTensorName, readAdapter, writeAdapter, type LoraAdapter } from "../../src/model/adapter.ts";
import { openBaseModel } from "../../src/model/base-model.ts";
import { writeSafetensors } from "../../src/model/safetensors.ts";
import { tensorShapes } from "../../src/model/tensor-shapes.ts";
import { GOLDEN_FOLDER, loadTinyModel, relativeError, TINY_MODELS } from "../engine/goldens.ts";
import { buildGguf, type BuilderValue } from "../model/gguf-builder.ts";
import { exported, randomAdapter, temporaryFolder, tinyModel, unmeasured } from "./tiny-export.ts";

let base: string;
let adapter: LoraAdapter;
let adapterDirectory: string;
let ggufAdapter: string;
let gguf: string;

beforeAll(async () => {
  base = await tinyModel();
  ({ directory: adapterDirectory, adapter } = await randomAdapter(base));
  const make = async (format: "gguf-adapter" | "gguf", precision: "f16" | null) =>
    (await exported({ base, adapterDirectory, format, precision }, unmeasured)).directory;
  ggufAdapter = await make("gguf-adapter", null);
  gguf = await make("gguf", "f16");
});

/** A copy to be changed. */
async function copyOf(directory: string): Promise<string> {
  const copy = join(await temporaryFolder(), "import");
  await cp(directory, copy, { recursive: true });
  return copy;
}

function edit(path: string, change: (json: Record<string, unknown>) => object): void {
  const json = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
  writeFileSync(path, JSON.stringify(change(json)));
}

/** Both steps of an import, as the server takes them. */
async function taken(directory: string, path = base): Promise<string> {
  const { kind, format } = await contentsOf(directory);
  const kept = join(directory, "..", "kept");
  if (kind === "adapter") await checkAdapter({ directory, kept, format, base: { id: "tiny", path } });
  else await checkModel({ directory, format });
  return kept;
}

/** The refusal; nothing of it is kept. */
async function refusal(directory: string, path?: string): Promise<string> {
  const error = await taken(directory, path).then(
    () => null,
    (thrown: unknown) => thrown as Error,
  );
  expect(error?.name).toMatch(/^(UnsupportedModel|InvalidRequest)$/);
  expect(existsSync(join(directory, "..", "kept"))).toBe(false);
  expect(readdirSync(join(directory, "..")).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  return error?.message ?? "";
}

describe("files that are refused", () => {
  test.each<[string, (directory: string) => void | Promise<void>, RegExp]>([
    [
      "a pickle",
      (folder) => writeFileSync(join(folder, "adapter_model.bin"), "x"),
      /"adapter_model\.bin".*can run code/,
    ],
    [
      "a program",
      (folder) => writeFileSync(join(folder, "modeling.py"), "x"),
      /"modeling\.py", which is no part/,
    ],
    [
      "a second kind of model",
      (folder) => writeFileSync(join(folder, "config.json"), "{}"),
      /a PEFT adapter and a Hugging Face model/,
    ],
    [
      "weights that nothing reads",
      (folder) => writeFileSync(join(folder, "more.safetensors"), "x"),
      /more\.safetensors is not among the weights/,
    ],
    ["no config", (folder) => rm(join(folder, "adapter_config.json")), /it has no adapter_config\.json/],
    ["no weights", (folder) => rm(join(folder, "adapter_model.safetensors")), /adapter_model\.safetensors/],
    [
      "nothing",
      async (folder) => {
        await rm(folder, { recursive: true });
        await mkdir(folder);
      },
      /neither adapter_config\.json, nor config\.json, nor a \.gguf file/,
    ],
    [
      "a certificate that is none",
      (folder) => writeFileSync(join(folder, "certificate.json"), "{}"),
      /cannot be verified: .*"object" is wrong/,
    ],
    [
      "weights cut short",
      async (folder) => {
        const path = join(folder, "adapter_model.safetensors");
        truncateSync(path, (await stat(path)).size - 10);
      },
      /is damaged or not a weights file/,
    ],
    [
      "weights that are a text",
      (folder) => writeFileSync(join(folder, "adapter_model.safetensors"), "not weights at all"),
      /is damaged or not a weights file/,
    ],
  ])("%s", async (_name, change, message) => {
    const folder = await copyOf(adapterDirectory);
    await change(folder);
    expect(await refusal(folder)).toMatch(message);
  });

  test("two .gguf files", async () => {
    const folder = await copyOf(gguf);
    await rm(join(folder, "certificate.json"));
    await cp(join(folder, "model.gguf"), join(folder, "other.gguf"));
    expect(await refusal(folder)).toMatch(/2 \.gguf files, expected one model/);
  });
});

describe("PEFT's features that are not served are refused by name", () => {
  test.each<[string, object]>([
    ["use_dora", { use_dora: true }],
    ["use_rslora", { use_rslora: true }],
    ["use_qalora", { use_qalora: true }],
    ["bias", { bias: "lora_only" }],
    ["lora_bias", { lora_bias: true }],
    ["modules_to_save", { modules_to_save: ["lm_head"] }],
    ["rank_pattern", { rank_pattern: { q_proj: 4 } }],
    ["alpha_pattern", { alpha_pattern: { q_proj: 4 } }],
    ["layers_to_transform", { layers_to_transform: [0] }],
    ["layer_replication", { layer_replication: [[0, 1]] }],
    ["trainable_token_indices", { trainable_token_indices: [1] }],
    ["exclude_modules", { exclude_modules: ["v_proj"] }],
    ["fan_in_fan_out", { fan_in_fan_out: true }],
    ["a_feature_of_2030", { a_feature_of_2030: { on: true } }],
    ["init_lora_weights", { init_lora_weights: "pissa" }],
    ["peft_type", { peft_type: "IA3" }],
    ["task_type", { task_type: "SEQ_CLS" }],
    ["target_modules", { target_modules: ["q_proj", "embed_tokens"] }],
    ["target_modules", { target_modules: ".*_proj" }],
    ["lora_alpha", { lora_alpha: -1 }],
    ["r", { r: 0 }],
  ])("%s: %j", async (field, change) => {
    const folder = await copyOf(adapterDirectory);
    edit(join(folder, "adapter_config.json"), (config) => ({ ...config, ...change }));
    expect(await refusal(folder)).toContain(`"${field}`);
  });
});

describe("an adapter that does not fit", () => {
  test("another base model, by shape", async () => {
    const { directory } = await randomAdapter(join(GOLDEN_FOLDER, "tiny-qwen2"));
    expect(await refusal(await copyOf(directory))).toMatch(
      /tensor "base_model\.model\.model\.layers\.0\.\S+" has shape \[.+\]; rank and base model ask for \[/,
    );
  });

  test("another family, as a GGUF file", async () => {
    const message = await refusal(await copyOf(ggufAdapter), join(GOLDEN_FOLDER, "tiny-qwen2"));
    expect(message).toMatch(/trained on tiny with sha256/);
    const bare = await copyOf(ggufAdapter);
    await rm(join(bare, "certificate.json"));
    expect(await refusal(bare, join(GOLDEN_FOLDER, "tiny-qwen2"))).toMatch(
      /"general\.architecture" is "llama", not "qwen2"/,
    );
  });

  test("a rank that the weights do not have, and one that is too high", async () => {
    const folder = await copyOf(adapterDirectory);
    edit(join(folder, "adapter_config.json"), (config) => ({ ...config, r: 4 }));
    expect(await refusal(folder)).toMatch(/has shape \[3, .*ask for \[4, /);
    const { directory } = await randomAdapter(base, { rank: 257, targetModules: ["q_proj"] });
    expect(await refusal(await copyOf(directory))).toMatch(/its rank is 257; at most 256 is served/);
  });

  test.each([
    [
      "one that is missing",
      (tensors: LoraAdapter["tensors"], name: string) => void tensors.delete(name),
      /is missing/,
    ],
    [
      "one too many",
      (tensors: LoraAdapter["tensors"]) =>
        void tensors.set("base_model.model.lm_head.lora_A.weight", { shape: [1], data: new Float32Array(1) }),
      /lm_head\.lora_A\.weight" does not belong/,
    ],
    [
      "NaN",
      (tensors: LoraAdapter["tensors"], name: string) =>
        void (tensors.get(name)?.data.fill(NaN, 2, 3) ?? null),
      /value 2 of the tensor ".*k_proj\.lora_B\.weight" is NaN/,
    ],
    [
      "infinity",
      (tensors: LoraAdapter["tensors"], name: string) =>
        void (tensors.get(name)?.data.fill(-Infinity, 5, 6) ?? null),
      /value 5 .* is -Infinity/,
    ],
  ])("tensors: %s", async (_name, change, message) => {
    const tensors = new Map(
      [...adapter.tensors].map(([name, { shape, data }]) => [name, { shape, data: data.slice() }]),
    );
    change(tensors, loraTensorName(1, "k_proj", "B"));
    const folder = join(await temporaryFolder(), "import");
    await writeAdapter(folder, { ...adapter, tensors });
    expect(await refusal(folder)).toMatch(message);
  });

  test("a chat template of its own", async () => {
    const { directory } = await exported({ base, adapterDirectory, format: "peft" }, unmeasured);
    const folder = await copyOf(directory);
    await rm(join(folder, "certificate.json"));
    expect(readdirSync(await taken(folder)).sort()).toEqual([
      "adapter_config.json",
      "adapter_model.safetensors",
      "import.json",
    ]);
    const other = await copyOf(directory);
    await rm(join(other, "certificate.json"));
    writeFileSync(join(other, "chat_template.jinja"), "{% for m in messages %}{{ m.content }}!{% endfor %}");
    expect(await refusal(other)).toMatch(/another chat template or tokenizer.*leave the tokenizer files out/);
  });

  test.each<[string, BuilderValue, RegExp]>([
    [
      "adapter.alora.invocation_tokens",
      { uint32s: [1, 2] },
      /"adapter\.alora\.invocation_tokens" is not supported/,
    ],
    ["adapter.lora.alpha", { float32: Infinity }, /"adapter\.lora\.alpha" is no number above 0/],
    ["general.version", { string: "1" }, /it holds no tensors/],
  ])("a GGUF adapter with %s", async (key, value, message) => {
    const folder = join(await temporaryFolder(), "import");
    await mkdir(folder);
    const metadata = {
      "general.architecture": { string: "llama" },
      "general.type": { string: "adapter" },
      "adapter.type": { string: "lora" },
      "adapter.lora.alpha": { float32: 8 },
      [key]: value,
    };
    writeFileSync(join(folder, "adapter.gguf"), buildGguf(metadata, []));
    expect(await refusal(folder)).toMatch(message);
  });
});

describe.each(TINY_MODELS)("an adapter that PEFT made, of %s", (name) => {
  test("is taken as it is and gives PEFT's logits", async () => {
    const path = join(GOLDEN_FOLDER, name);
    const kept = await taken(await copyOf(join(path, "adapter")), path);
    for (const file of ["adapter_config.json", "adapter_model.safetensors"])
      expect(readFileSync(join(kept, file))).toEqual(readFileSync(join(path, "adapter", file)));
    const { golden, expected } = await loadTinyModel(name);
    const opened = await openBaseModel(path);
    const model = await openModelWith(1)(opened, await readAdapter(kept, opened.config), 600);
    for (const [i, { tokens }] of golden.batch.entries()) {
      const logits: number[] = [];
      await model.score(tokens, 0, (row) => logits.push(...row));
      const wanted = expected.get(`logits.adapter.${i}`)?.values ?? [];
      expect(relativeError(Float32Array.from(logits), wanted)).toBeLessThan(1e-4);
    }
    await model.release();
    await opened.close();
  });
});

describe("a whole model that cannot be run", () => {
  /** The tiny model with other tensors. */
  async function changed(change: (tensors: Map<string, { shape: number[]; data: Float32Array }>) => void) {
    const folder = await copyOf(base);
    const model = await openBaseModel(base);
    const tensors = new Map(
      [...tensorShapes(model.config)].map(([name, shape]) => [name, { shape, data: model.tensor(name) }]),
    );
    await model.close();
    change(tensors);
    await writeSafetensors(join(folder, "model.safetensors"), tensors);
    return folder;
  }

  test("is taken when nothing is wrong with it", async () => {
    await expect(taken(await changed(() => undefined))).resolves.toBeTypeOf("string");
    await expect(taken(await copyOf(gguf))).resolves.toBeTypeOf("string");
  });

  const NAME = "model.layers.1.mlp.up_proj.weight";
  test.each<[string, Parameters<typeof changed>[0], RegExp]>([
    [
      "a missing tensor",
      (tensors) => void tensors.delete(NAME),
      /"model\.layers\.1\.mlp\.up_proj\.weight" is missing/,
    ],
    [
      "a tensor of another shape",
      (tensors) => void tensors.set(NAME, { shape: [2, 2], data: new Float32Array(4) }),
      /up_proj\.weight" has shape \[2, 2\]; the config asks for/,
    ],
    [
      "a tensor too many",
      (tensors) => void tensors.set("model.layers.0.moe.weight", { shape: [1], data: new Float32Array(1) }),
      /"model\.layers\.0\.moe\.weight" is not part of a llama model/,
    ],
    [
      "NaN",
      (tensors) => void tensors.get(NAME)?.data.fill(NaN, 7, 8),
      /value 7 of the tensor ".*up_proj\.weight" is NaN/,
    ],
  ])("%s", async (_name, change, message) => {
    expect(await refusal(await changed(change))).toMatch(message);
  });

  test("an architecture that nobody knows here, in both formats", async () => {
    const folder = await copyOf(base);
    edit(join(folder, "config.json"), (config) => ({
      ...config,
      architectures: ["MambaForCausalLM"],
      model_type: "mamba",
    }));
    expect(await refusal(folder)).toMatch(/mamba/i);
    const file = join(await temporaryFolder(), "import");
    await mkdir(file);
    const metadata = { "general.architecture": { string: "mamba" } };
    writeFileSync(join(file, "model.gguf"), buildGguf(metadata, []));
    expect(await refusal(file)).toMatch(/"general\.architecture" .*mamba/);
  });

  test("no tokenizer; a GGUF file cut short; one with NaN", async () => {
    const folder = await copyOf(base);
    await rm(join(folder, "tokenizer.json"));
    expect(await refusal(folder)).toMatch(/it has no tokenizer\.json/);
    for (const [change, message] of [
      [(bytes: Buffer) => bytes.subarray(0, bytes.length - 100), /damaged/],
      // The last bytes are a tensor's: f16 or f32, all ones are NaN.
      [(bytes: Buffer) => bytes.fill(0xff, bytes.length - 8), /is NaN/],
    ] as const) {
      const copy = await copyOf(gguf);
      await rm(join(copy, "certificate.json"));
      const path = join(copy, "model.gguf");
      writeFileSync(path, change(readFileSync(path)));
      expect(await refusal(copy)).toMatch(message);
    }
  });
});

// Every format of an export on a tiny model: what stands in the files, what the certificate says of them, and what is refused.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { quantize } from "../../src/export/quantize.ts";
import { GGML_TYPES } from "../../src/model/dequantize.ts";
import { writeHuggingFaceModel } from "../../src/export/huggingface-folder.ts";
import { verifyExport } from "../../src/export/verify.ts";
import { openModelWith } from "../../src/main/export-model.ts";
import { loraTensorName, writeAdapter, type LoraAdapter } from "../../src/model/adapter.ts";
import { openBaseModel, sha256OfModel } from "../../src/model/base-model.ts";
import { GgufFile } from "../../src/model/gguf.ts";
import { SafetensorsFile } from "../../src/model/safetensors.ts";
import type { ExportFormat, ExportPrecision } from "../../src/wire/export.ts";
import { exported, randomAdapter, temporaryFolder, tinyModel } from "./tiny-export.ts";

let base: string;
let adapterDirectory: string;
let adapter: LoraAdapter;
beforeAll(async () => {
  base = await tinyModel();
  ({ directory: adapterDirectory, adapter } = await randomAdapter(base));
});

const make = (format: ExportFormat, precision: ExportPrecision | null = null) =>
  exported({ base, adapterDirectory, format, precision });

const CASES: [ExportFormat, ExportPrecision | null, string[]][] = [
  [
    "peft",
    null,
    [
      "README.md",
      "adapter_config.json",
      "adapter_model.safetensors",
      "chat_template.jinja",
      "tokenizer.json",
      "tokenizer_config.json",
    ],
  ],
  [
    "merged",
    "f32",
    [
      "README.md",
      "chat_template.jinja",
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ],
  ],
  [
    "merged",
    "bf16",
    [
      "README.md",
      "chat_template.jinja",
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ],
  ],
  ["gguf-adapter", null, ["README.md", "adapter.gguf"]],
  ["gguf", "f16", ["README.md", "model.gguf"]],
  ["gguf", "q8_0", ["README.md", "model.gguf"]],
  ["gguf", "q4_0", ["README.md", "model.gguf"]],
  ["ollama", "f16", ["Modelfile", "README.md", "model.gguf"]],
];

describe.each(CASES)("%s, %s", (format, precision, files) => {
  it("has its files, is within its bounds, and is what its certificate says", async () => {
    const { directory, certificate } = await make(format, precision);
    expect(readdirSync(directory).sort()).toEqual([...files, "certificate.json"].sort());
    expect(certificate.files.map(({ name }) => name)).toEqual([...files].sort());
    expect(await verifyExport(directory)).toEqual({ certificate, faults: [] });
    expect(certificate).toMatchObject({
      format,
      precision,
      base_model: { sha256: await sha256OfModel(base) },
    });
    const { distance } = certificate;
    expect(distance.prompts).toBe(20);
    expect(distance.tokens).toBeGreaterThanOrEqual(20);
    expect(distance.prompts_from).toEqual({ validation_file: 0, training_file: 0, built_in: 20 });
    const isExact = format === "peft" || format === "gguf-adapter";
    if (isExact) expect(distance).toMatchObject({ max_logit_difference: 0, mean_kl: 0, equal_prompts: 20 });
    // The bound of what is rounded is far above what these few layers lose.
    else expect(distance.mean_kl).toBeLessThan(precision === "q4_0" ? 0.05 : 1e-3);
  });
});

it("the same model gives the same bytes", async () => {
  const [one, two] = [await make("peft"), await make("peft")];
  for (const name of readdirSync(one.directory))
    expect(readFileSync(join(two.directory, name)), name).toEqual(readFileSync(join(one.directory, name)));
});

describe("a merged folder", () => {
  it("has no second copy of a tied head, and ends answers where the model does", async () => {
    const { directory } = await make("merged", "f16");
    const weights = new SafetensorsFile(join(directory, "model.safetensors"));
    expect([...weights.names()]).not.toContain("lm_head.weight");
    weights.close();
    const read = async (name: string) => JSON.parse(await readFile(join(directory, name), "utf8")) as object;
    expect(await read("generation_config.json")).toMatchObject({ bos_token_id: 1, eos_token_id: 2 });
    expect(await read("config.json")).toMatchObject({ torch_dtype: "float16", tie_word_embeddings: true });
  });

  it("names the end of a turn where the base model's own end token is another", async () => {
    const other = await tinyModel();
    const config = JSON.parse(await readFile(join(other, "tokenizer_config.json"), "utf8")) as object;
    await writeFile(
      join(other, "tokenizer_config.json"),
      JSON.stringify({ ...config, eos_token: "<|endoftext|>" }),
    );
    await writeFile(join(other, "generation_config.json"), JSON.stringify({ eos_token_id: 0 }));
    const { directory } = await exported({
      base: other,
      adapterDirectory,
      format: "merged",
      precision: "f32",
    });
    const { eos_token_id: ends } = JSON.parse(
      await readFile(join(directory, "generation_config.json"), "utf8"),
    ) as { eos_token_id: number[] };
    expect(new Set(ends)).toEqual(new Set([0, 2]));
    const gguf = await exported({ base: other, adapterDirectory, format: "gguf", precision: "f16" });
    const file = new GgufFile(join(gguf.directory, "model.gguf"));
    expect(file.metadata.get("tokenizer.ggml.eos_token_id")).toBe(0);
    expect(file.metadata.get("tokenizer.ggml.eot_token_id")).toBe(2);
    file.close();
  });

  it("is cut into shards that are read as one model", async () => {
    const model = await openBaseModel(base);
    const directory = await temporaryFolder();
    for (const name of ["tokenizer.json", "tokenizer_config.json"])
      await copyFile(join(base, name), join(directory, name));
    await writeHuggingFaceModel(directory, model, model, {
      type: "F32",
      endTokenIds: [2],
      maxShardBytes: 50_000,
    });
    const shards = readdirSync(directory).filter((name) => name.endsWith(".safetensors"));
    expect(shards.length).toBeGreaterThan(2);
    expect(shards[0]).toBe(`model-00001-of-${String(shards.length).padStart(5, "0")}.safetensors`);
    const index = JSON.parse(await readFile(join(directory, "model.safetensors.index.json"), "utf8")) as {
      metadata: { total_size: number };
      weight_map: Record<string, string>;
    };
    const again = await openBaseModel(directory);
    let bytes = 0;
    for (const name of Object.keys(index.weight_map)) {
      expect(again.tensor(name), name).toEqual(model.tensor(name));
      bytes += again.tensor(name).byteLength;
    }
    expect(index.metadata.total_size).toBe(bytes);
    await again.close();
    await model.close();
  });
});

describe("GGUF", () => {
  it("has the adapter's q and k rows of B in ggml's order, everything else as it is, and alpha unscaled", async () => {
    const { directory } = await make("gguf-adapter");
    const file = new GgufFile(join(directory, "adapter.gguf"));
    expect(Object.fromEntries(file.metadata)).toEqual({
      "general.architecture": "llama",
      "general.type": "adapter",
      "adapter.type": "lora",
      "adapter.lora.alpha": 7,
    });
    // Heads of 16: ggml's row 2i + p of a head is Hugging Face's row 8p + i.
    const permuted = (data: Float32Array) =>
      Float32Array.from(data, (_, at) => {
        const [row, column] = [Math.floor(at / 3), at % 3];
        const [head, inner] = [Math.floor(row / 16), row % 16];
        const source = 16 * head + 8 * (inner % 2) + Math.floor(inner / 2);
        return data[3 * source + column] as number;
      });
    for (const [target, name] of [
      ["q_proj", "attn_q"],
      ["k_proj", "attn_k"],
      ["v_proj", "attn_v"],
      ["down_proj", "ffn_down"],
    ] as const) {
      const own = (matrix: "A" | "B") =>
        adapter.tensors.get(loraTensorName(1, target, matrix))?.data as Float32Array;
      const isReordered = target === "q_proj" || target === "k_proj";
      expect(file.read(`blk.1.${name}.weight.lora_a`), name).toEqual(own("A"));
      expect(file.read(`blk.1.${name}.weight.lora_b`), name).toEqual(
        isReordered ? permuted(own("B")) : own("B"),
      );
    }
    expect([...file.names()]).toHaveLength(2 * 7 * 2);
    file.close();
  });

  it("carries template, tokens and end token, vectors in f32, no second head, the embedding in more bits than four", async () => {
    const { directory } = await make("gguf", "q4_0");
    const file = new GgufFile(join(directory, "model.gguf"));
    const tokenizer = JSON.parse(await readFile(join(base, "tokenizer.json"), "utf8")) as {
      model: { vocab: Record<string, number>; merges: [string, string][] };
    };
    const template = JSON.parse(await readFile(join(base, "tokenizer_config.json"), "utf8")) as {
      chat_template: string;
    };
    expect(file.metadata.get("tokenizer.chat_template")).toBe(template.chat_template);
    expect(file.metadata.get("tokenizer.ggml.pre")).toBe("smollm");
    expect(file.metadata.get("tokenizer.ggml.eos_token_id")).toBe(2);
    const tokens = file.metadata.get("tokenizer.ggml.tokens") as string[];
    for (const [token, id] of Object.entries(tokenizer.model.vocab)) expect(tokens[id]).toBe(token);
    expect(file.metadata.get("tokenizer.ggml.merges")).toEqual(
      tokenizer.model.merges.map((pair) => pair.join(" ")),
    );
    expect((file.metadata.get("tokenizer.ggml.token_type") as number[]).slice(0, 4)).toEqual([3, 3, 3, 1]);
    expect(file.shape("output.weight")).toBeUndefined();
    expect(file.typeName("output_norm.weight")).toBe("F32");
    expect(file.typeName("token_embd.weight")).toBe("Q8_0");
    expect(file.typeName("blk.0.ffn_down.weight")).toBe("Q4_0");
    file.close();
  });

  it("stores in few bits what was merged in many", async () => {
    const merged = await make("merged", "f32");
    const weights = new SafetensorsFile(join(merged.directory, "model.safetensors"));
    for (const precision of ["q8_0", "q4_0"] as const) {
      const { directory } = await make("gguf", precision);
      const file = new GgufFile(join(directory, "model.gguf"));
      const type = precision === "q8_0" ? "Q8_0" : "Q4_0";
      for (const [own, name] of [
        ["model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight"],
        ["model.layers.1.self_attn.v_proj.weight", "blk.1.attn_v.weight"],
      ] as const) {
        const values = weights.read(own);
        const expected = new Float32Array(values.length);
        const known = [...GGML_TYPES.values()].find((each) => each.name === type);
        known?.decode(quantize(values, type), expected, 0);
        expect(file.read(name), `${precision} ${name}`).toEqual(expected);
      }
      file.close();
    }
    weights.close();
  });

  it("a Modelfile writes the turns as the template does", async () => {
    const { directory } = await make("ollama", "f16");
    const text = await readFile(join(directory, "Modelfile"), "utf8");
    expect(text).toBe(
      'FROM ./model.gguf\nTEMPLATE """' +
        '{{ if and .Messages (eq (index .Messages 0).Role "system") }}{{ else }}{{ end }}{{ range .Messages }}' +
        '{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n' +
        '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n' +
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n' +
        '{{ end }}{{ end }}<|im_start|>assistant\n"""\nPARAMETER stop "<|im_end|>"\n',
    );
  });
});

describe("prompts", () => {
  it("are the job's own where they are there, and their answers are not among them", async () => {
    const path = join(await temporaryFolder(), "validation.jsonl");
    const row = (i: number) => ({
      messages: [
        { role: "user", content: `Question ${i}` },
        { role: "assistant", content: "Yes." },
      ],
    });
    await writeFile(path, Array.from({ length: 12 }, (_, i) => JSON.stringify(row(i))).join("\n"));
    const { certificate } = await exported({
      base,
      adapterDirectory,
      format: "peft",
      promptFiles: [{ kind: "validation_file", path, method: "supervised" }],
    });
    expect(certificate.distance.prompts_from).toEqual({ validation_file: 12, training_file: 0, built_in: 8 });
  });
});

describe("refused, and nothing left", () => {
  const refused = async (
    message: RegExp,
    options: Partial<Parameters<typeof exported>[0]>,
    open = openModelWith(1),
  ) => {
    const directory = join(await temporaryFolder(), "export");
    const made = exported({ base, adapterDirectory, format: "peft", directory, ...options }, open);
    await expect(made).rejects.toThrow(message);
    expect(readdirSync(dirname(directory))).toEqual([]);
  };

  it("files that say something else than the trained model", async () => {
    let opened = 0;
    await refused(
      /too far from the trained model. Greedy tokens equal: \d+ of \d+/,
      {},
      async (weights, lora, positions) => {
        opened += 1;
        const isWritten = opened === 2;
        return openModelWith(1)(weights, isWritten ? null : lora, positions);
      },
    );
    expect(opened).toBe(2);
  });

  it("logits that are no numbers", async () => {
    let opened = 0;
    await refused(/too far/, {}, async (weights, lora, positions) => {
      const model = await openModelWith(1)(weights, lora, positions);
      opened += 1;
      if (opened === 1) return model;
      return {
        ...model,
        score: (tokens, from, onLogits) => model.score(tokens, from, (row) => onLogits(row.map(() => NaN))),
      };
    });
  });

  it("another base model than the one it was trained on", async () => {
    await refused(/was trained on tiny with sha256 0{64}/, {
      recipe: { baseModel: { id: "tiny", sha256: "0".repeat(64) } },
    });
  });

  it("weights that are no numbers, and weights beyond f16", async () => {
    const changed = async (value: number) => {
      const tensors = new Map(adapter.tensors);
      const name = loraTensorName(0, "q_proj", "A");
      const { shape, data } = tensors.get(name) as { shape: number[]; data: Float32Array };
      tensors.set(name, { shape, data: data.map((each, i) => (i === 5 ? value : each)) });
      const directory = join(await temporaryFolder(), "adapter");
      await writeAdapter(directory, { ...adapter, tensors });
      return directory;
    };
    await refused(/value 5 of "model.layers.0.self_attn.q_proj.weight" is NaN/, {
      format: "merged",
      precision: "f32",
      adapterDirectory: await changed(NaN),
    });
    await refused(/cannot be stored as f16/, {
      format: "merged",
      precision: "f16",
      adapterDirectory: await changed(1e7),
    });
  });

  it("a tokenizer that GGUF has no name for", async () => {
    const other = await tinyModel();
    const json = JSON.parse(await readFile(join(other, "tokenizer.json"), "utf8")) as object;
    const changed = { ...json, normalizer: { type: "NFC" } };
    await writeFile(join(other, "tokenizer.json"), JSON.stringify(changed));
    await refused(/splits text in a way that has none of the names/, {
      base: other,
      format: "gguf",
      precision: "f16",
    });
  });

  it("two tokens of one text, on which llama.cpp ends", async () => {
    const other = await tinyModel();
    const path = join(other, "tokenizer.json");
    const json = JSON.parse(await readFile(path, "utf8")) as { added_tokens: { content: string }[] };
    const [, , end] = json.added_tokens;
    if (end !== undefined) end.content = "a";
    await writeFile(path, JSON.stringify(json));
    await refused(/two of its tokens have the same text/, { base: other, format: "gguf", precision: "f16" });
  });

  it("for Ollama, a template that does more than put texts around messages", async () => {
    const other = await tinyModel();
    const config = JSON.parse(await readFile(join(other, "tokenizer_config.json"), "utf8")) as Record<
      string,
      string
    >;
    const template = (config["chat_template"] ?? "").replace(
      "message['content']",
      "(message['content'] if not loop.first else message['content'] | upper)",
    );
    await writeFile(
      join(other, "tokenizer_config.json"),
      JSON.stringify({ ...config, chat_template: template }),
    );
    await refused(/cannot be written for Ollama/, { base: other, format: "ollama", precision: "f16" });
  });
});

it("an export replaces what lay there only when it is whole", async () => {
  const directory = join(await temporaryFolder(), "export");
  await mkdir(directory);
  await writeFile(join(directory, "old"), "old");
  await exported({ base, adapterDirectory, format: "gguf-adapter", directory });
  expect(existsSync(join(directory, "old"))).toBe(false);
});

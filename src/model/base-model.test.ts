import { createHash } from "node:crypto";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { buildGguf, singles } from "../../test/model/gguf-builder.ts";
import { UnsupportedModel } from "../errors.ts";
import { openBaseModel, sha256OfModel } from "./base-model.ts";
import { SafetensorsFile, writeSafetensors, type HostTensor } from "./safetensors.ts";
import { tensorShapes } from "./tensor-shapes.ts";

const GOLDENS = join(import.meta.dirname, "../../test/goldens");
let folder: string;
/** A good model folder, to be copied and broken. */
let tiny: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "base-model-"));
  tiny = join(folder, "tiny");
  await makeTinyModel(tiny);
});
afterAll(() => rm(folder, { recursive: true }));

let copies = 0;
async function copyOfTiny(): Promise<string> {
  const path = join(folder, `copy-${copies++}`);
  await cp(tiny, path, { recursive: true });
  return path;
}

/** The tensors of the tiny model, to be written again after a change. */
function tinyTensors(): Map<string, HostTensor> {
  const file = new SafetensorsFile(join(tiny, "model.safetensors"));
  const tensors = new Map<string, HostTensor>();
  for (const name of file.names())
    tensors.set(name, { shape: [...(file.shape(name) ?? [])], data: file.read(name) });
  file.close();
  return tensors;
}

async function rewriteJson(path: string, changes: object): Promise<void> {
  const old = JSON.parse(await readFile(path, "utf8")) as object;
  await writeFile(path, JSON.stringify({ ...old, ...changes }));
}

async function withWeights(change: (tensors: Map<string, HostTensor>) => void): Promise<string> {
  const path = await copyOfTiny();
  const tensors = tinyTensors();
  change(tensors);
  await writeSafetensors(join(path, "model.safetensors"), tensors);
  return path;
}

describe("a folder", () => {
  test.each(["tiny-llama", "tiny-llama3", "tiny-qwen2", "tiny-qwen3", "tiny-gemma3"])(
    "%s: every tensor has its shape and its values",
    async (name) => {
      const model = await openBaseModel(join(GOLDENS, name));
      const file = new SafetensorsFile(join(GOLDENS, name, "model.safetensors"));
      for (const [tensor, shape] of tensorShapes(model.config)) {
        expect(file.shape(tensor)).toEqual(shape);
        expect(model.tensor(tensor)).toEqual(file.read(tensor));
      }
      file.close();
      await model.close();
    },
  );

  test("generation_config.json adds end tokens, and those outside the vocabulary are left out", async () => {
    const path = await copyOfTiny();
    await rewriteJson(join(path, "generation_config.json"), { eos_token_id: [2, 0, 99_999] });
    const model = await openBaseModel(path);
    expect(model.config.eosTokenIds).toEqual([2, 0]);
    await model.close();
  });

  test("each read is a fresh array that the caller owns, and other names are a bug", async () => {
    const model = await openBaseModel(tiny);
    model.tensor("model.norm.weight").fill(9);
    expect(model.tensor("model.norm.weight")).toEqual(new Float32Array(64).fill(1));
    expect(() => model.tensor("model.norm.bias")).toThrow('internal: "model.norm.bias"');
    await model.close();
    await model.close();
    expect(() => model.tensor("model.norm.weight")).toThrow("was read after it was closed");
  });

  test("shards by index give the same tensors", async () => {
    const path = await copyOfTiny();
    const tensors = [...tinyTensors()];
    await rm(join(path, "model.safetensors"));
    const shards = [new Map(tensors.slice(0, 9)), new Map(tensors.slice(9))];
    const weightMap: Record<string, string> = {};
    for (const [i, shard] of shards.entries()) {
      const name = `model-0000${i + 1}-of-00002.safetensors`;
      await writeSafetensors(join(path, name), shard);
      for (const tensor of shard.keys()) weightMap[tensor] = name;
    }
    await writeFile(
      join(path, "model.safetensors.index.json"),
      JSON.stringify({ metadata: {}, weight_map: weightMap }),
    );
    const model = await openBaseModel(path);
    for (const [name, { data }] of tensors) expect(model.tensor(name)).toEqual(data);
    await model.close();
    expect(await sha256OfModel(path)).not.toBe(await sha256OfModel(tiny));

    const index = join(path, "model.safetensors.index.json");
    const { "model.norm.weight": _, ...without } = weightMap;
    await rewriteJson(index, { weight_map: without });
    await expect(openBaseModel(path)).rejects.toThrow('"model.norm.weight" is in model-0000');
    await rewriteJson(index, { weight_map: { ...weightMap, extra: "model-00001-of-00002.safetensors" } });
    await expect(openBaseModel(path)).rejects.toThrow(
      'says that "extra" is in model-00001-of-00002.safetensors, but it is not',
    );
    await rewriteJson(index, { weight_map: { ...weightMap, extra: "model-00003-of-00003.safetensors" } });
    await expect(openBaseModel(path)).rejects.toThrow(
      "model-00003-of-00003.safetensors cannot be opened: ENOENT",
    );
  });

  test.each([
    "../outside.safetensors",
    "/etc/passwd",
    "a/b.safetensors",
    "..\\x.safetensors",
    "weights.bin",
    ".safetensors",
  ])("an index that names %s is refused", async (name) => {
    const path = await copyOfTiny();
    await rm(join(path, "model.safetensors"));
    await writeFile(join(path, "model.safetensors.index.json"), JSON.stringify({ weight_map: { a: name } }));
    await expect(openBaseModel(path)).rejects.toThrow(
      `names the file ${JSON.stringify(name)}; only plain names ending in .safetensors are followed`,
    );
  });
});

describe("a folder that does not fit together", () => {
  const q = "model.layers.1.self_attn.q_proj.weight";
  test.each<[string, (tensors: Map<string, HostTensor>) => void, string]>([
    [
      "missing tensor",
      (tensors) => tensors.delete(q),
      `tensor "${q}" is missing; expected it with shape [64, 64]`,
    ],
    [
      "wrong shape",
      (tensors) => tensors.set(q, { shape: [32, 64], data: new Float32Array(2048) }),
      `tensor "${q}" has shape [32, 64]; the config asks for [64, 64]`,
    ],
    [
      "wrong rank",
      (tensors) => tensors.set(q, { shape: [4096], data: new Float32Array(4096) }),
      `tensor "${q}" has shape [4096]; the config asks for [64, 64]`,
    ],
    [
      "a bias the config knows nothing of",
      (tensors) =>
        tensors.set("model.layers.0.self_attn.q_proj.bias", { shape: [64], data: new Float32Array(64) }),
      'tensor "model.layers.0.self_attn.q_proj.bias" is not part of a llama model',
    ],
    [
      "one layer too many",
      (tensors) =>
        tensors.set("model.layers.2.input_layernorm.weight", { shape: [64], data: new Float32Array(64) }),
      'tensor "model.layers.2.input_layernorm.weight" is not part',
    ],
    [
      "a head that differs though tied",
      (tensors) => tensors.set("lm_head.weight", { shape: [355, 64], data: new Float32Array(355 * 64) }),
      'tensor "lm_head.weight" differs from model.embed_tokens.weight',
    ],
    [
      "a head of another shape",
      (tensors) => tensors.set("lm_head.weight", { shape: [1], data: new Float32Array(1) }),
      'tensor "lm_head.weight" has shape [1]; expected [355, 64]',
    ],
  ])("%s", async (_, change, message) => {
    const path = await withWeights(change);
    await expect(openBaseModel(path)).rejects.toThrow(message);
    await expect(openBaseModel(path)).rejects.toThrow(/must belong together; get the model again\.$/);
    await expect(openBaseModel(path)).rejects.toBeInstanceOf(UnsupportedModel);
  });

  test("rotary buffers and a head equal to the embedding do no harm", async () => {
    const path = await withWeights((tensors) => {
      tensors.set("model.layers.0.self_attn.rotary_emb.inv_freq", { shape: [8], data: new Float32Array(8) });
      tensors.set("lm_head.weight", tensors.get("model.embed_tokens.weight") as HostTensor);
    });
    await (await openBaseModel(path)).close();
  });

  test("no config, broken config, pickled weights, no weights, no path", async () => {
    const path = await copyOfTiny();
    await rm(join(path, "model.safetensors"));
    await expect(openBaseModel(path)).rejects.toThrow(
      "it has neither model.safetensors nor model.safetensors.index.json. Save the model as safetensors.",
    );
    await writeFile(join(path, "pytorch_model.bin"), "");
    await expect(openBaseModel(path)).rejects.toThrow(
      "pytorch_model.bin is not read, because pickle files can run code",
    );
    await writeFile(join(path, "config.json"), "{");
    await expect(openBaseModel(path)).rejects.toThrow(
      /config\.json is not valid JSON: .*Get the file again\.$/,
    );
    await rm(join(path, "config.json"));
    await expect(openBaseModel(path)).rejects.toThrow("it has no config.json");
    await expect(openBaseModel(join(path, "none"))).rejects.toThrow(
      "does not exist; expected a Hugging Face model folder or a .gguf file",
    );
  });
});

describe("the tokenizer of a folder", () => {
  test("the chat template of chat_template.jinja goes before the config's", async () => {
    const path = await copyOfTiny();
    expect((await openBaseModel(path)).tokenizer.tokenizerConfig.chat_template).toMatch(/^\{% for message/);
    await writeFile(join(path, "chat_template.jinja"), "newer");
    expect((await openBaseModel(path)).tokenizer.tokenizerConfig.chat_template).toBe("newer");
  });

  test("named templates and token objects are made uniform", async () => {
    const path = await copyOfTiny();
    await rewriteJson(join(path, "tokenizer_config.json"), {
      chat_template: [
        { name: "tool_use", template: "tools" },
        { name: "default", template: "plain" },
      ],
      bos_token: { content: "<s>", lstrip: false },
      eos_token: null,
    });
    expect((await openBaseModel(path)).tokenizer.tokenizerConfig).toMatchObject({
      chat_template: "plain",
      bos_token: "<s>",
      eos_token: null,
    });
  });

  test("without tokenizer.json the model opens but has no tokenizer", async () => {
    const path = await copyOfTiny();
    await rm(join(path, "tokenizer.json"));
    const model = await openBaseModel(path);
    expect(() => model.tokenizer).toThrow(
      'it has no tokenizer.json. Save the tokenizer with transformers as a "fast"',
    );
  });
});

describe("a GGUF file", () => {
  test("tiny-llama.gguf as llama.cpp's converter wrote it holds exactly the tensors of its folder", async () => {
    const gguf = await openBaseModel(join(GOLDENS, "tiny-llama.gguf"));
    const original = await openBaseModel(join(GOLDENS, "tiny-llama"));
    expect(gguf.config).toEqual(original.config);
    for (const name of tensorShapes(original.config).keys())
      expect(gguf.tensor(name), name).toEqual(original.tensor(name));
    expect(gguf.tokenizer.tokenizerConfig.eos_token).toBe("<|im_end|>");
    await gguf.close();
    await original.close();
  });

  test("Gemma's norms have other names there, and the 1 added that Hugging Face's files leave out", async () => {
    const original = await openBaseModel(join(GOLDENS, "tiny-gemma3"));
    const { hiddenSize, sliding } = original.config;
    const names: Record<string, string> = {
      "model.embed_tokens": "token_embd",
      "model.norm": "output_norm",
      input_layernorm: "attn_norm",
      post_attention_layernorm: "post_attention_norm",
      pre_feedforward_layernorm: "ffn_norm",
      post_feedforward_layernorm: "post_ffw_norm",
      "self_attn.q_proj": "attn_q",
      "self_attn.k_proj": "attn_k",
      "self_attn.v_proj": "attn_v",
      "self_attn.o_proj": "attn_output",
      "self_attn.q_norm": "attn_q_norm",
      "self_attn.k_norm": "attn_k_norm",
      "mlp.gate_proj": "ffn_gate",
      "mlp.up_proj": "ffn_up",
      "mlp.down_proj": "ffn_down",
    };
    const tensors = [...tensorShapes(original.config)].map(([name, shape]) => {
      const short = name
        .replace(
          /^model\.layers\.(\d+)\.(.+)\.weight$/,
          (_, n: string, inner: string) => `blk.${n}.${names[inner]}.weight`,
        )
        .replace(/^(model\.\w+)\.weight$/, (_, top: string) => `${names[top]}.weight`);
      const values = original.tensor(name);
      const stored = name.endsWith("norm.weight") ? values.map((value) => value + 1) : values;
      return { name: short, shape, type: 0, data: singles(stored) };
    });
    const number = (uint32: number) => ({ uint32 });
    const path = join(folder, "gemma.gguf");
    await writeFile(
      path,
      buildGguf(
        {
          "general.architecture": { string: "gemma3" },
          "gemma3.block_count": number(3),
          "gemma3.context_length": number(128),
          "gemma3.embedding_length": number(hiddenSize),
          "gemma3.feed_forward_length": number(48),
          "gemma3.attention.head_count": number(4),
          "gemma3.attention.head_count_kv": number(2),
          "gemma3.attention.key_length": number(16),
          "gemma3.attention.layer_norm_rms_epsilon": { float32: 1e-6 },
          "gemma3.attention.sliding_window": number(8),
          "gemma3.attention.sliding_window_pattern": number(2),
        },
        tensors,
      ),
    );
    const gguf = await openBaseModel(path);
    expect(gguf.config.sliding?.layers).toEqual(sliding?.layers);
    for (const name of tensorShapes(original.config).keys()) {
      const [found, expected] = [gguf.tensor(name), original.tensor(name)];
      const largest = found.reduce(
        (most, value, i) => Math.max(most, Math.abs(value - (expected[i] ?? NaN))),
        0,
      );
      expect(largest, name).toBeLessThan(name.endsWith("norm.weight") ? 2e-7 : Number.MIN_VALUE);
    }
    await gguf.close();
    await original.close();
  });

  test("a missing and an unknown tensor are named by Hugging Face's and the file's own names", async () => {
    const path = join(folder, "part.gguf");
    const number = (uint32: number) => ({ uint32 });
    const metadata = {
      "general.architecture": { string: "llama" },
      "llama.block_count": number(1),
      "llama.context_length": number(8),
      "llama.embedding_length": number(4),
      "llama.feed_forward_length": number(4),
      "llama.attention.head_count": number(1),
      "llama.attention.layer_norm_rms_epsilon": { float32: 1e-5 },
    };
    const tensor = (name: string, shape: number[]) => ({
      name,
      shape,
      type: 0,
      data: singles(new Float32Array(shape.reduce((a, b) => a * b, 1))),
    });
    await writeFile(path, buildGguf(metadata, [tensor("token_embd.weight", [3, 4])]));
    await expect(openBaseModel(path)).rejects.toThrow(
      'tensor "model.layers.0.input_layernorm.weight" is missing',
    );
    const square = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
    const whole = [
      tensor("token_embd.weight", [3, 4]),
      tensor("output_norm.weight", [4]),
      ...square.map((name) => tensor(`blk.0.${name}.weight`, [4, 4])),
      ...["attn_norm", "ffn_norm"].map((name) => tensor(`blk.0.${name}.weight`, [4])),
    ];
    await writeFile(path, buildGguf(metadata, whole));
    await (await openBaseModel(path)).close();
    await writeFile(path, buildGguf(metadata, [...whole, tensor("blk.0.attn_sinks.weight", [4])]));
    await expect(openBaseModel(path)).rejects.toThrow(
      'tensor "blk.0.attn_sinks.weight" is not part of a llama model',
    );
  });
});

describe("sha256OfModel", () => {
  test("of a file: its own checksum", async () => {
    const path = join(GOLDENS, "tiny-llama.gguf");
    const expected = createHash("sha256")
      .update(await readFile(path))
      .digest("hex");
    expect(await sha256OfModel(path)).toBe(expected);
  });

  test("of a folder: changes with any file that is read, and not with others", async () => {
    const path = await copyOfTiny();
    const before = await sha256OfModel(path);
    expect(before).toBe(await sha256OfModel(tiny));
    await writeFile(join(path, "README.md"), "hello");
    expect(await sha256OfModel(path)).toBe(before);
    await rewriteJson(join(path, "tokenizer_config.json"), { extra: 1 });
    expect(await sha256OfModel(path)).not.toBe(before);
  });

  test("stops when the signal aborts", async () => {
    await expect(sha256OfModel(tiny, AbortSignal.abort())).rejects.toThrow("aborted");
  });
});

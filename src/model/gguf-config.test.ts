import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildGguf, singles, type BuilderValue } from "../../test/model/gguf-builder.ts";
import { UnsupportedModel } from "../errors.ts";
import { huggingFaceName, modelConfigFromGguf, unpermuteRows } from "./gguf-config.ts";
import { GgufFile } from "./gguf.ts";
import { rotaryFrequencies } from "./rotary.ts";
import type { ModelConfig } from "./model-config.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "gguf-config-"));
});
afterAll(() => rm(folder, { recursive: true }));

function metadata(family: string): Record<string, BuilderValue> {
  return {
    "general.architecture": { string: family },
    [`${family}.block_count`]: { uint32: 2 },
    [`${family}.context_length`]: { uint32: 4096 },
    [`${family}.embedding_length`]: { uint32: 256 },
    [`${family}.feed_forward_length`]: { uint32: 48 },
    [`${family}.attention.head_count`]: { uint32: 4 },
    [`${family}.attention.head_count_kv`]: { uint32: 2 },
    [`${family}.attention.layer_norm_rms_epsilon`]: { float32: 1e-5 },
    [`${family}.rope.freq_base`]: { float32: 500_000 },
    [`${family}.vocab_size`]: { uint32: 97 },
    "tokenizer.ggml.bos_token_id": { uint32: 1 },
    "tokenizer.ggml.eos_token_id": { uint32: 2 },
    "tokenizer.ggml.eot_token_id": { uint32: 3 },
  };
}

async function configOf(
  changes: Record<string, BuilderValue | undefined>,
  tensors: { name: string; shape: number[]; values: ArrayLike<number> }[] = [],
  family = "llama",
): Promise<ModelConfig> {
  const all = Object.entries({ ...metadata(family), ...changes }).filter(([, value]) => value !== undefined);
  const path = join(folder, "made.gguf");
  const bytes = buildGguf(
    Object.fromEntries(all) as Record<string, BuilderValue>,
    tensors.map(({ name, shape, values }) => ({ name, shape, type: 0, data: singles(values) })),
  );
  await writeFile(path, bytes);
  const file = new GgufFile(path);
  try {
    return modelConfigFromGguf(file);
  } finally {
    file.close();
  }
}

test("llama: decimals as they were meant, several end tokens, tied without output.weight", async () => {
  expect(await configOf({})).toEqual({
    family: "llama",
    vocabSize: 97,
    hiddenSize: 256,
    layerCount: 2,
    queryHeads: 4,
    keyValueHeads: 2,
    headWidth: 64,
    mlpWidth: 48,
    rmsNormEpsilon: 1e-5,
    ropeTheta: 500_000,
    ropeScaling: null,
    maxPositions: 4096,
    tiedEmbeddings: true,
    attentionBias: false,
    queryKeyNorm: false,
    activation: "silu",
    outputNorms: false,
    normsAroundOne: false,
    embeddingScale: 1,
    scoreScalar: 64,
    sliding: null,
    bosTokenId: 1,
    eosTokenIds: [2, 3],
  });
});

test("qwen3: head width from key_length, own head, rows of the embedding decide the vocabulary", async () => {
  const key = { "qwen3.attention.key_length": { uint32: 8 }, "qwen3.attention.value_length": { uint32: 8 } };
  const tensors = [
    { name: "token_embd.weight", shape: [99, 1], values: new Float32Array(99) },
    { name: "output.weight", shape: [99, 1], values: new Float32Array(99) },
  ];
  expect(await configOf(key, tensors, "qwen3")).toMatchObject({
    family: "qwen3",
    headWidth: 8,
    vocabSize: 99,
    tiedEmbeddings: false,
    queryKeyNorm: true,
  });
  expect(await configOf({}, [], "qwen2")).toMatchObject({ family: "qwen2", attentionBias: true });
});

describe("gemma3", () => {
  const gemma = (more: Record<string, BuilderValue> = {}) => ({
    "gemma3.block_count": { uint32: 7 },
    "gemma3.attention.sliding_window": { uint32: 512 },
    "gemma3.attention.key_length": { uint32: 32 },
    "gemma3.rope.scaling.type": { string: "linear" },
    "gemma3.rope.scaling.factor": { float32: 8 },
    ...more,
  });

  test("every sixth layer sees all, the others a window with unscaled angles of their own", async () => {
    expect(await configOf(gemma(), [], "gemma3")).toMatchObject({
      family: "gemma3",
      headWidth: 32,
      scoreScalar: 32,
      embeddingScale: 16,
      activation: "geluTanh",
      ropeTheta: 500_000,
      ropeScaling: { kind: "linear", factor: 8 },
      sliding: {
        windowTokens: 512,
        layers: [true, true, true, true, true, false, true],
        ropeTheta: 10_000,
      },
    });
    const newer = gemma({
      "gemma3.attention.sliding_window_pattern": { uint32: 2 },
      "gemma3.rope.freq_base_swa": { float32: 5000 },
    });
    expect((await configOf(newer, [], "gemma3")).sliding).toEqual({
      windowTokens: 512,
      layers: [true, false, true, false, true, false, true],
      ropeTheta: 5000,
    });
  });

  test("the 27B model alone divides scores by another root than the head width's", async () => {
    const large = gemma({ "gemma3.block_count": { uint32: 62 } });
    expect((await configOf(large, [], "gemma3")).scoreScalar).toBe(64);
  });

  test("no window, or one of another family", async () => {
    await expect(
      configOf({ ...gemma(), "gemma3.attention.sliding_window": undefined }, [], "gemma3"),
    ).rejects.toThrow('"gemma3.attention.sliding_window" is missing');
    await expect(configOf({ "llama.attention.sliding_window": { uint32: 512 } })).rejects.toThrow(
      '"llama.attention.sliding_window" is 512; supported: full attention in every layer',
    );
    await expect(
      configOf(gemma({ "gemma3.final_logit_softcapping": { float32: 30 } }), [], "gemma3"),
    ).rejects.toThrow('"gemma3.final_logit_softcapping" is 30; supported: no soft-capping');
  });
});

describe("rope scaling", () => {
  const factorsOf = async (factor: number) => {
    const plain = await configOf({});
    const scaling = {
      kind: "llama3" as const,
      factor,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalMaxPositions: 8192,
    };
    const scaled = rotaryFrequencies({ ...plain, ropeScaling: scaling });
    return { scaling, factors: rotaryFrequencies(plain).map((value, i) => value / (scaled[i] ?? NaN)) };
  };

  test("rope_freqs.weight of Llama 3.1 and 3.2 gives back their llama3 scaling", async () => {
    for (const factor of [8, 32]) {
      const { scaling, factors } = await factorsOf(factor);
      expect(new Set(factors).size).toBeGreaterThan(3);
      const tensor = { name: "rope_freqs.weight", shape: [32], values: factors };
      expect((await configOf({}, [tensor])).ropeScaling).toEqual(scaling);
    }
    const ones = { name: "rope_freqs.weight", shape: [32], values: new Float32Array(32).fill(1) };
    expect((await configOf({}, [ones])).ropeScaling).toBeNull();
  });

  test("other factors are refused", async () => {
    const { factors } = await factorsOf(8);
    factors[10] = (factors[10] ?? 0) * 1.01;
    const wrong = { name: "rope_freqs.weight", shape: [32], values: factors };
    await expect(configOf({}, [wrong])).rejects.toThrow(
      /"rope_freqs\.weight" is \[1,.*supported: the factors of Llama 3's rope scaling/,
    );
    const short = { name: "rope_freqs.weight", shape: [2], values: [1, 8] };
    await expect(configOf({}, [short])).rejects.toThrow("rope_freqs.weight");
  });

  test("linear scaling", async () => {
    const linear = {
      "llama.rope.scaling.type": { string: "linear" },
      "llama.rope.scaling.factor": { float32: 2.5 },
    };
    expect((await configOf(linear)).ropeScaling).toEqual({ kind: "linear", factor: 2.5 });
    expect((await configOf({ "llama.rope.scale_linear": { float32: 4 } })).ropeScaling).toEqual({
      kind: "linear",
      factor: 4,
    });
  });
});

describe("refused by the name of the key", () => {
  test.each<[string, Record<string, BuilderValue | undefined>, string]>([
    [
      "general.architecture",
      { "general.architecture": { string: "gemma2" } },
      '"gemma2"; supported: llama, qwen2, qwen3, gemma3',
    ],
    [
      "general.architecture",
      { "general.architecture": undefined },
      "missing; supported: llama, qwen2, qwen3",
    ],
    ["general.type", { "general.type": { string: "adapter" } }, '"adapter"; supported: model'],
    ["llama.expert_count", { "llama.expert_count": { uint32: 8 } }, "8; supported: dense models"],
    [
      "llama.attention.sliding_window",
      { "llama.attention.sliding_window": { uint32: 4096 } },
      "4096; supported: full attention",
    ],
    [
      "llama.rope.dimension_count",
      { "llama.rope.dimension_count": { uint32: 32 } },
      "32; supported: the head width 64",
    ],
    [
      "llama.rope.scaling.type",
      { "llama.rope.scaling.type": { string: "yarn" } },
      '"yarn"; supported: none, linear',
    ],
    ["llama.block_count", { "llama.block_count": undefined }, "missing; supported: a number"],
    [
      "llama.attention.head_count_kv",
      { "llama.attention.head_count_kv": { uint32s: [2, 4] } },
      "[2,4]; supported: one number for all layers",
    ],
    [
      "llama.attention.head_count",
      { "llama.attention.head_count": { uint32: 0 } },
      "0; supported: a whole number from 1 to 1024",
    ],
    [
      "llama.attention.layer_norm_rms_epsilon",
      { "llama.attention.layer_norm_rms_epsilon": { float32: NaN } },
      "NaN; supported: a finite number above 0",
    ],
  ])("%s %j", async (key, changes, message) => {
    const error = await configOf(changes).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UnsupportedModel);
    expect((error as Error).message).toContain(`"${key}" is ${message}`);
  });
});

test("names", () => {
  expect(
    [
      "token_embd.weight",
      "output_norm.weight",
      "output.weight",
      "blk.12.attn_q.weight",
      "blk.0.attn_k.bias",
    ].map((name) => huggingFaceName(name, "llama")),
  ).toEqual([
    "model.embed_tokens.weight",
    "model.norm.weight",
    "lm_head.weight",
    "model.layers.12.self_attn.q_proj.weight",
    "model.layers.0.self_attn.k_proj.bias",
  ]);
  expect(huggingFaceName("blk.0.ffn_gate_exps.weight", "llama")).toBe("blk.0.ffn_gate_exps.weight");
  // The same name stands for another norm in Gemma.
  expect(
    (["llama", "gemma3"] as const).map((family) => huggingFaceName("blk.3.ffn_norm.weight", family)),
  ).toEqual([
    "model.layers.3.post_attention_layernorm.weight",
    "model.layers.3.pre_feedforward_layernorm.weight",
  ]);
});

test("un-permuting: GGUF row 2i + p of a head is Hugging Face's row p · E/2 + i", () => {
  // Two heads of width 4, one column; the values are Hugging Face's row numbers.
  const stored = Float32Array.of(0, 2, 1, 3, 4, 6, 5, 7);
  expect([...unpermuteRows(stored, 4, 1)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  const columns = Float32Array.of(0, 0.5, 2, 2.5, 1, 1.5, 3, 3.5);
  expect([...unpermuteRows(columns, 4, 2)]).toEqual([0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]);
});

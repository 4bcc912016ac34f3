import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { GEMMA_3_270M } from "../../test/model/published-configs.ts";
import { UnsupportedModel } from "../errors.ts";
import { modelConfigFromHuggingFace } from "./huggingface-config.ts";

const LLAMA = {
  architectures: ["LlamaForCausalLM"],
  vocab_size: 97,
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 48,
  rms_norm_eps: 1e-5,
  max_position_embeddings: 128,
  hidden_act: "silu",
};

const golden = (name: string): unknown =>
  JSON.parse(readFileSync(join(import.meta.dirname, "../../test/goldens", name, "config.json"), "utf8"));

describe("the configs of transformers 4 and 5", () => {
  test("tiny-llama: rope_parameters, tied head", () => {
    expect(modelConfigFromHuggingFace(golden("tiny-llama"))).toEqual({
      family: "llama",
      vocabSize: 97,
      hiddenSize: 32,
      layerCount: 2,
      queryHeads: 4,
      keyValueHeads: 2,
      headWidth: 8,
      mlpWidth: 48,
      rmsNormEpsilon: 1e-5,
      ropeTheta: 10_000,
      ropeScaling: null,
      maxPositions: 128,
      tiedEmbeddings: true,
      attentionBias: false,
      queryKeyNorm: false,
      activation: "silu",
      outputNorms: false,
      normsAroundOne: false,
      embeddingScale: 1,
      scoreScalar: 8,
      sliding: null,
      bosTokenId: 1,
      eosTokenIds: [2],
    });
  });

  test("tiny-llama3: rope_scaling of kind llama3", () => {
    expect(modelConfigFromHuggingFace(golden("tiny-llama3"))).toMatchObject({
      tiedEmbeddings: false,
      ropeScaling: {
        kind: "llama3",
        factor: 8,
        lowFrequencyFactor: 1,
        highFrequencyFactor: 4,
        originalMaxPositions: 64,
      },
    });
  });

  test("tiny-qwen2 has biases; tiny-qwen3 has q/k norms and heads wider than the model", () => {
    expect(modelConfigFromHuggingFace(golden("tiny-qwen2"))).toMatchObject({
      family: "qwen2",
      attentionBias: true,
      queryKeyNorm: false,
    });
    expect(modelConfigFromHuggingFace(golden("tiny-qwen3"))).toMatchObject({
      family: "qwen3",
      headWidth: 16,
      attentionBias: false,
      queryKeyNorm: true,
    });
  });
});

test("what is left out has transformers' default", () => {
  const { num_key_value_heads: _, rms_norm_eps: __, ...sparse } = LLAMA;
  expect(modelConfigFromHuggingFace(sparse)).toMatchObject({
    keyValueHeads: 4,
    headWidth: 8,
    rmsNormEpsilon: 1e-6,
    ropeTheta: 10_000,
    tiedEmbeddings: false,
    bosTokenId: null,
    eosTokenIds: [],
  });
  expect(
    modelConfigFromHuggingFace({ ...LLAMA, architectures: undefined, model_type: "qwen3" }),
  ).toMatchObject({ family: "qwen3", headWidth: 128 });
});

test("several end tokens, linear rope scaling in both spellings, and fields that change nothing", () => {
  expect(
    modelConfigFromHuggingFace({
      ...LLAMA,
      eos_token_id: [2, 3, 2],
      rope_theta: 500_000,
      rope_scaling: { type: "linear", factor: 4 },
      sliding_window: 4096,
      use_sliding_window: false,
      layer_types: ["full_attention", "full_attention"],
      pretraining_tp: 1,
      attention_dropout: 0.1,
      quantization_config: null,
    }),
  ).toMatchObject({ eosTokenIds: [2, 3], ropeTheta: 500_000, ropeScaling: { kind: "linear", factor: 4 } });
  expect(
    modelConfigFromHuggingFace({
      ...LLAMA,
      rope_parameters: { rope_type: "linear", factor: 2, rope_theta: 1e6 },
    }),
  ).toMatchObject({ ropeTheta: 1e6, ropeScaling: { kind: "linear", factor: 2 } });
});

/** Seven layers, so that the last ones break the pattern, and a scale that is not the head's width. */
const GEMMA = { ...GEMMA_3_270M, num_hidden_layers: 7, query_pre_attn_scalar: 168 };

describe("Gemma 3", () => {
  const layers = [true, true, true, true, true, false, true];

  test("the config of transformers 4: a pattern of layers, two bases, a tied head unless it says otherwise", () => {
    expect(modelConfigFromHuggingFace(GEMMA)).toMatchObject({
      family: "gemma3",
      headWidth: 256,
      ropeTheta: 1_000_000,
      ropeScaling: null,
      tiedEmbeddings: true,
      queryKeyNorm: true,
      activation: "geluTanh",
      outputNorms: true,
      normsAroundOne: true,
      embeddingScale: Math.sqrt(640),
      scoreScalar: 168,
      sliding: { windowTokens: 512, layers, ropeTheta: 10_000 },
    });
    const scaled = { ...GEMMA, rope_scaling: { rope_type: "linear", factor: 8 } };
    expect(modelConfigFromHuggingFace(scaled)).toMatchObject({
      ropeScaling: { kind: "linear", factor: 8 },
      sliding: { ropeTheta: 10_000 },
    });
  });

  test("the config of transformers 5: kinds by layer, embeddings by kind", () => {
    expect(modelConfigFromHuggingFace(golden("tiny-gemma3"))).toMatchObject({
      ropeTheta: 10_000,
      ropeScaling: { kind: "linear", factor: 2 },
      scoreScalar: 9,
      sliding: { windowTokens: 8, layers: [true, false, true], ropeTheta: 100 },
    });
  });

  test.each<[field: string, changes: object, found: string]>([
    ["hidden_activation", { hidden_activation: "gelu" }, '"gelu"'],
    ["use_bidirectional_attention", { use_bidirectional_attention: true }, "true"],
    ["attn_logit_softcapping", { attn_logit_softcapping: 50 }, "50"],
    ["final_logit_softcapping", { final_logit_softcapping: 30 }, "30"],
    ["sliding_window", { sliding_window: null }, "null"],
    ["sliding_window", { sliding_window: 0 }, "0"],
    ["layer_types", { layer_types: ["sliding_attention"] }, '["sliding_attention"]'],
    ["layer_types", { layer_types: Array.from(layers, () => "chunked_attention") }, '["chunked_attention"'],
    ["query_pre_attn_scalar", { query_pre_attn_scalar: 0 }, "0"],
    [
      "rope_parameters.sliding_attention.rope_type",
      { rope_parameters: { sliding_attention: { rope_type: "linear", factor: 8 } } },
      '"linear"',
    ],
    ["architectures", { architectures: ["Gemma3ForConditionalGeneration"] }, '["Gemma3ForConditional'],
  ])("refused: %s %j", (field, changes, found) => {
    expect(() => modelConfigFromHuggingFace({ ...GEMMA, ...changes }, "c.json")).toThrow(
      `c.json: "${field}" is ${found}`,
    );
  });
});

const DENSE = "dense models (no mixture of experts)";
const ROPE_KINDS = '"default", "linear", "llama3"';
const llama3 = (changes: object) => ({
  rope_scaling: {
    rope_type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 64,
    ...changes,
  },
});

describe("refused by the name of the field", () => {
  test.each<[field: string, changes: object, found: string, supported: string]>([
    [
      "architectures",
      { architectures: ["MistralForCausalLM"] },
      '["MistralForCausalLM"]',
      '"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"',
    ],
    ["architectures", { architectures: undefined }, "missing", '"LlamaForCausalLM"'],
    [
      "model_type",
      { architectures: undefined, model_type: "gpt2" },
      '"gpt2"',
      "llama, qwen2, qwen3, gemma3_text",
    ],
    ["hidden_act", { hidden_act: "gelu" }, '"gelu"', '"silu"'],
    ["attention_bias", { attention_bias: true }, "true", "false"],
    ["mlp_bias", { mlp_bias: true }, "true", "false"],
    ["use_sliding_window", { use_sliding_window: true }, "true", "false (full attention in every layer)"],
    [
      "layer_types",
      { layer_types: ["sliding_attention"] },
      '["sliding_attention"]',
      '"full_attention" in every layer',
    ],
    ["partial_rotary_factor", { partial_rotary_factor: 0.5 }, "0.5", "1 (the whole head is rotated)"],
    [
      "rope_parameters.partial_rotary_factor",
      { rope_parameters: { partial_rotary_factor: 0.5 } },
      "0.5",
      "1",
    ],
    ["rope_interleaved", { rope_interleaved: true }, "true", "false"],
    ["num_experts", { num_experts: 64 }, "64", DENSE],
    ["num_local_experts", { num_local_experts: 8 }, "8", DENSE],
    ["moe_intermediate_size", { moe_intermediate_size: 1408 }, "1408", DENSE],
    [
      "quantization_config",
      { quantization_config: { bits: 4 } },
      '{"bits":4}',
      "float weights (f32, f16, bf16)",
    ],
    ["rope_scaling.rope_type", { rope_scaling: { type: "yarn", factor: 4 } }, '"yarn"', ROPE_KINDS],
    [
      "rope_scaling.factor",
      { rope_scaling: { type: "linear" } },
      "missing",
      'a number, because rope_type is "linear"',
    ],
    [
      "rope_scaling.high_freq_factor",
      llama3({ high_freq_factor: 1 }),
      "1",
      "more than low_freq_factor, which is 1",
    ],
    ["rope_scaling.low_freq_factor", llama3({ low_freq_factor: undefined }), "missing", "a number, because"],
    ["vocab_size", { vocab_size: undefined }, "missing", "supported: a number."],
    ["hidden_size", { hidden_size: 1.5 }, "1.5", "a whole number from 1 to 65536"],
    ["num_hidden_layers", { num_hidden_layers: 1e9 }, "1000000000", "a whole number from 1 to 1024"],
    ["num_attention_heads", { num_attention_heads: 0, head_dim: 8 }, "0", "a whole number from 1 to 1024"],
    [
      "num_key_value_heads",
      { num_key_value_heads: 3 },
      "3",
      'a divisor of "num_attention_heads", which is 4',
    ],
    ["head_dim", { head_dim: 7 }, "7", "an even whole number from 1 to 1024"],
    ["rms_norm_eps", { rms_norm_eps: -1 }, "-1", ">0"],
    ["rope_theta", { rope_theta: "x" }, '"x"', "supported: a number."],
    ["eos_token_id", { eos_token_id: "x" }, '"x"', "supported: a token id or a list of them."],
    [
      "eos_token_id or bos_token_id",
      { eos_token_id: [2, 97] },
      "97",
      "token ids below the vocabulary size 97",
    ],
  ])("%s %j", (field, changes, found, supported) => {
    const read = () => modelConfigFromHuggingFace({ ...LLAMA, ...changes }, "folder/config.json");
    expect(read).toThrow(UnsupportedModel);
    expect(read).toThrow(`folder/config.json: "${field}" is ${found}; supported: `);
    expect(read).toThrow(supported);
    expect(read).toThrow(expect.objectContaining({ param: field }));
  });

  test("a config that is no object, and long values are cut in the message", () => {
    expect(() => modelConfigFromHuggingFace([])).toThrow("holds no JSON object");
    expect(() => modelConfigFromHuggingFace({ ...LLAMA, hidden_act: "x".repeat(5000) })).toThrow(
      /"x{119}…; supported/,
    );
  });
});

test.each([[[1, 2]], ["text"], [null], [7]])("a config that is %j is no JSON object", (json) => {
  expect(() => modelConfigFromHuggingFace(json, "folder/config.json")).toThrow(
    new UnsupportedModel("folder/config.json holds no JSON object. Get the file again.", {
      code: "unsupported_model",
    }),
  );
});

// The config.json of the published models of every family, as far as it says what a model is.
import { describe, expect, test } from "vitest";
import { GEMMA_3_270M } from "../../test/model/published-configs.ts";
import { modelConfigFromHuggingFace } from "./huggingface-config.ts";
import { tensorShapes } from "./tensor-shapes.ts";

describe("published models have as many parameters as their cards say", () => {
  const shared = {
    hidden_act: "silu",
    attention_bias: false,
    mlp_bias: false,
    rope_scaling: null,
    tie_word_embeddings: true,
    use_cache: true,
    torch_dtype: "bfloat16",
  };
  const smollm2 = {
    ...shared,
    architectures: ["LlamaForCausalLM"],
    is_llama_config: true,
    rope_interleaved: false,
    rms_norm_eps: 1e-5,
    max_position_embeddings: 8192,
    vocab_size: 49152,
    bos_token_id: 1,
    eos_token_id: 2,
  };
  const qwen = {
    ...shared,
    rms_norm_eps: 1e-6,
    rope_theta: 1_000_000,
    use_sliding_window: false,
    vocab_size: 151936,
    bos_token_id: 151643,
    eos_token_id: 151645,
  };

  test.each<[name: string, parameters: number, config: object, expected: object]>([
    [
      "SmolLM2-360M-Instruct",
      361_821_120,
      {
        ...smollm2,
        hidden_size: 960,
        intermediate_size: 2560,
        num_hidden_layers: 32,
        num_attention_heads: 15,
        num_key_value_heads: 5,
        rope_theta: 100_000,
      },
      { headWidth: 64, ropeTheta: 100_000 },
    ],
    [
      "SmolLM2-1.7B-Instruct",
      1_711_376_384,
      {
        ...smollm2,
        hidden_size: 2048,
        intermediate_size: 8192,
        num_hidden_layers: 24,
        num_attention_heads: 32,
        num_key_value_heads: 32,
        rope_theta: 130_000,
      },
      { headWidth: 64, ropeTheta: 130_000 },
    ],
    [
      "Llama-3.2-1B-Instruct",
      1_235_814_400,
      {
        ...shared,
        architectures: ["LlamaForCausalLM"],
        pretraining_tp: 1,
        head_dim: 64,
        hidden_size: 2048,
        intermediate_size: 8192,
        num_hidden_layers: 16,
        num_attention_heads: 32,
        num_key_value_heads: 8,
        rms_norm_eps: 1e-5,
        rope_theta: 500_000,
        rope_scaling: {
          factor: 32,
          high_freq_factor: 4,
          low_freq_factor: 1,
          original_max_position_embeddings: 8192,
          rope_type: "llama3",
        },
        max_position_embeddings: 131_072,
        vocab_size: 128_256,
        bos_token_id: 128_000,
        eos_token_id: [128_001, 128_008, 128_009],
      },
      { ropeScaling: { kind: "llama3", factor: 32 }, eosTokenIds: [128_001, 128_008, 128_009] },
    ],
    [
      "Qwen2.5-0.5B-Instruct",
      494_032_768,
      {
        ...qwen,
        architectures: ["Qwen2ForCausalLM"],
        hidden_size: 896,
        intermediate_size: 4864,
        num_hidden_layers: 24,
        num_attention_heads: 14,
        num_key_value_heads: 2,
        max_position_embeddings: 32768,
        max_window_layers: 21,
        sliding_window: 32768,
      },
      { attentionBias: true, headWidth: 64 },
    ],
    [
      "Qwen3-0.6B",
      596_049_920,
      {
        ...qwen,
        architectures: ["Qwen3ForCausalLM"],
        head_dim: 128,
        hidden_size: 1024,
        intermediate_size: 3072,
        num_hidden_layers: 28,
        num_attention_heads: 16,
        num_key_value_heads: 8,
        max_position_embeddings: 40960,
        max_window_layers: 28,
        sliding_window: null,
      },
      { queryKeyNorm: true, headWidth: 128 },
    ],
    ["gemma-3-270m", 268_098_176, GEMMA_3_270M, { family: "gemma3", sliding: { windowTokens: 512 } }],
  ])("%s", (_, parameters, json, expected) => {
    const config = modelConfigFromHuggingFace(json);
    expect(config).toMatchObject(expected);
    const counts = [...tensorShapes(config).values()].map((shape) => shape.reduce((all, size) => all * size));
    expect(counts.reduce((sum, count) => sum + count)).toBe(parameters);
  });
});

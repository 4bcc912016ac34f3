// Config.json files of published models, as far as they say what a model is.

/** google/gemma-3-270m, which transformers 4 wrote. */
export const GEMMA_3_270M = {
  architectures: ["Gemma3ForCausalLM"],
  model_type: "gemma3_text",
  _sliding_window_pattern: 6,
  attention_bias: false,
  attn_logit_softcapping: null,
  bos_token_id: 2,
  eos_token_id: 1,
  final_logit_softcapping: null,
  head_dim: 256,
  hidden_activation: "gelu_pytorch_tanh",
  hidden_size: 640,
  intermediate_size: 2048,
  max_position_embeddings: 32768,
  num_attention_heads: 4,
  num_hidden_layers: 18,
  num_key_value_heads: 1,
  query_pre_attn_scalar: 256,
  rms_norm_eps: 1e-6,
  rope_local_base_freq: 10000,
  rope_scaling: null,
  rope_theta: 1000000,
  sliding_window: 512,
  use_bidirectional_attention: false,
  vocab_size: 262144,
};

// The linear layers that can carry a LoRA pair, by PEFT's names, and where they sit in a decoder layer. Knows no shapes.

/** The seven linear layers of a decoder layer that can carry a LoRA pair, in the order the layer uses them. */
export const LORA_TARGETS = [
  "q_proj",
  "k_proj",
  "v_proj",
  "o_proj",
  "gate_proj",
  "up_proj",
  "down_proj",
] as const;
export type LoraTarget = (typeof LORA_TARGETS)[number];

/** The target's path inside a decoder layer, as Hugging Face and PEFT spell it: "self_attn.q_proj". */
export const LORA_TARGET_PATH: { readonly [T in LoraTarget]: string } = {
  q_proj: "self_attn.q_proj",
  k_proj: "self_attn.k_proj",
  v_proj: "self_attn.v_proj",
  o_proj: "self_attn.o_proj",
  gate_proj: "mlp.gate_proj",
  up_proj: "mlp.up_proj",
  down_proj: "mlp.down_proj",
};

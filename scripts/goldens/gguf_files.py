"""Small GGUF files: one tensor per type, and tiny-llama as llama.cpp's converter would write it."""

import gguf
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from .output import GOLDENS, SEED, digits9, provenance, write_json
from .tiny import ROPE, logits_of, tiny_configs


def make_quants():
    """One tensor per type that the reader knows; the expected values are those of the gguf package."""
    kinds = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
    random = np.random.default_rng(SEED)
    writer = gguf.GGUFWriter(GOLDENS / "quants.gguf", "llama")
    writer.add_string("general.name", "quants")
    expected = []
    for kind in kinds:
        values = (random.standard_normal((3, 64)) * np.array([[1.0], [0.02], [40.0]])).astype(np.float32)
        values[0, 32:] = 0.0  # a block of zeros: its scale is 0
        values[1, :32] = np.abs(values[1, :32])  # a block with one sign only
        type_ = gguf.GGMLQuantizationType[kind]
        packed = gguf.quants.quantize(values, type_)
        # F32 and F16 must arrive as such: the writer takes raw_dtype for byte arrays only.
        raw = None if kind in ("F32", "F16") else type_
        writer.add_tensor(f"sample.{kind.lower()}", packed, raw_dtype=raw)
        restored = gguf.quants.dequantize(packed, type_).astype(np.float32)
        expected.append({"name": f"sample.{kind.lower()}", "type": kind, "shape": [3, 64], "values": digits9(restored.flatten().tolist())})
    for kind in ["Q4_K", "Q5_K", "Q6_K"]:
        # The package cannot quantize to these. Any bytes are a block, so random ones reach every bit; only the block's own
        # f16 scales are chosen, because random ones would be infinite or no numbers.
        type_ = gguf.GGMLQuantizationType[kind]
        elements, size = gguf.GGML_QUANT_SIZES[type_]
        packed = random.integers(0, 256, (3, size), dtype=np.uint8)
        scales = np.array([[0.0123, -0.321], [0.0, 1.5], [-3.7e-6, 9.0]], dtype=np.float16).view(np.uint8)
        if kind == "Q6_K":
            packed[:, -2:] = scales[:, :2]
        else:
            packed[:, :4] = scales
        writer.add_tensor(f"sample.{kind.lower()}", packed, raw_dtype=type_)
        restored = gguf.quants.dequantize(packed, type_).astype(np.float32)
        expected.append({"name": f"sample.{kind.lower()}", "type": kind, "shape": [3, elements], "values": digits9(restored.flatten().tolist())})
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_json(GOLDENS / "quants.json", {"provenance": provenance(), "tensors": expected})


GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def gguf_name(name):
    for long, short in GGUF_NAMES.items():
        name = name.replace(long, short)
    return name.replace("model.layers.", "blk.")


def permute(weight, heads):
    """Rows as ggml's interleaved RoPE wants them; llama.cpp convert_hf_to_gguf.py, LlamaModel.permute."""
    out, width = weight.shape
    return weight.reshape(heads, 2, out // heads // 2, width).swapaxes(1, 2).reshape(out, width)


def make_tiny_gguf():
    config = tiny_configs()["tiny-llama"]
    writer = gguf.GGUFWriter(GOLDENS / "tiny-llama.gguf", "llama")
    writer.add_type("model")
    writer.add_name("tiny-llama")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(ROPE["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = [chr(code) for code in range(33, 127) if chr(code) not in "~^`\\"]
    tokens = [*control, "Ġ", "Ċ", *letters, "th", "the"]
    assert len(tokens) == config.vocab_size
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in control else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in load_file(GOLDENS / "tiny-llama" / "model.safetensors").items():
        count = next((n for site, n in heads.items() if site in name), None)
        writer.add_tensor(gguf_name(name), weight.numpy() if count is None else permute(weight.numpy(), count))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    tokens = list(range(3, 15))
    read = AutoModelForCausalLM.from_pretrained(GOLDENS, gguf_file="tiny-llama.gguf", dtype=torch.float32)
    original = AutoModelForCausalLM.from_pretrained(GOLDENS / "tiny-llama", dtype=torch.float32)
    assert (logits_of(read, tokens) - logits_of(original, tokens)).abs().max() < 1e-5, "tiny-llama.gguf reads back wrong"

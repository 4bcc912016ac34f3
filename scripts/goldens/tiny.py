"""Five tiny random models with a LoRA adapter each: logits, losses, gradients and ten optimizer steps in float64."""

import json
import math
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, Qwen2Config, Qwen3Config
from transformers.models.gemma3 import modeling_gemma3
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

from .output import GOLDENS, SEED, provenance, write_json

SITES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0}
STEPS, WARMUP, PEAK_LEARNING_RATE, MAX_GRAD_NORM = 10, 2, 1e-3, 1.0
ADAMW = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
SEQUENCE_LENGTHS = [7, 12, 9]
# Gemma's rows are longer than its window of 8 tokens.
GEMMA_SEQUENCE_LENGTHS = [7, 29, 14]

SHAPE = {
    "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, "vocab_size": 97, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64, "rope_theta": 10000.0,
}  # fmt: skip


# Scaled for the layers that see all tokens alone, another base for those with a window.
GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}  # fmt: skip


def tiny_configs():
    llama = SHAPE | {"head_dim": 8, "rms_norm_eps": 1e-5}
    qwen = SHAPE | {"rms_norm_eps": 1e-6, "rope_parameters": ROPE}
    return {
        "tiny-llama": LlamaConfig(**llama, rope_parameters=ROPE, tie_word_embeddings=True),
        "tiny-llama3": LlamaConfig(
            **(llama | {"max_position_embeddings": 512}), rope_parameters=LLAMA3_ROPE, tie_word_embeddings=False
        ),
        "tiny-qwen2": Qwen2Config(**qwen, tie_word_embeddings=True),
        "tiny-qwen3": Qwen3Config(**qwen, head_dim=16, tie_word_embeddings=False),
        "tiny-gemma3": Gemma3TextConfig(
            # 36 is a square: the scale of the embedding is the same number in every precision.
            **(SHAPE | {"hidden_size": 36, "num_hidden_layers": 3}), head_dim=16, query_pre_attn_scalar=9, rms_norm_eps=1e-6,
            sliding_window=8, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters=GEMMA_ROPE, tie_word_embeddings=True,
        ),
    }


def write_older_config(folder):
    """Rewrites config.json the way transformers 4 wrote it, as most published models still have it."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    del config["transformers_version"]
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def randomise(model, generator):
    """Fills a model so that each part shows in the logits: norms around 1, biases that are not zero."""
    tied = model.config.tie_word_embeddings
    center = 0 if model.config.model_type == "gemma3_text" else 1  # Gemma adds the 1 itself
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("bias"):
                weight.copy_(0.3 * noise)
            elif "norm" in name:
                weight.copy_(center + 0.2 * noise)
            elif "embed_tokens" in name:
                weight.copy_((0.3 if tied else 1.0) * noise)
            elif "lm_head" in name:
                weight.copy_(0.3 * noise)
            else:
                weight.copy_(noise * 1.2 / math.sqrt(weight.shape[1]))


def make_tiny_folder(name, config, generator):
    folder = GOLDENS / name
    shutil.rmtree(folder, ignore_errors=True)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    randomise(model, generator)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    if name in ("tiny-llama3", "tiny-qwen2"):
        write_older_config(folder)

    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=SITES, **LORA))
    with torch.no_grad():
        for parameter, weight in sorted(adapted.named_parameters()):
            if "lora_" in parameter:
                scale = 1 / math.sqrt(weight.shape[1]) if "lora_A" in parameter else 0.15
                weight.copy_(scale * torch.randn(weight.shape, generator=generator))
    adapted.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink()
    config_file = folder / "adapter" / "adapter_config.json"
    adapter = json.loads(config_file.read_text())
    # PEFT writes a set, whose order changes from run to run, and the folder's path on this machine.
    adapter |= {"target_modules": sorted(adapter["target_modules"]), "base_model_name_or_path": name}
    config_file.write_text(json.dumps(adapter, indent=2, sort_keys=True) + "\n")
    return folder


def inverse_frequencies(config, layer_type=None):
    """RoPE's angle per position of each pair, float64 [E/2]; llama3 scaling as in transformers' modeling_rope_utils."""
    rope = config.rope_parameters if layer_type is None else config.rope_parameters[layer_type]
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    plain = rope["rope_theta"] ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    if rope["rope_type"] == "default":
        return plain
    if rope["rope_type"] == "linear":
        return plain / rope["factor"]
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    turns = rope["original_max_position_embeddings"] * plain / (2 * math.pi)
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * plain / factor + smooth * plain


def norm_any_dtype(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def gemma_norm_any_dtype(self, x):
    return (1 + self.weight) * self._norm(x)


def rotary_any_dtype(self, x, position_ids, layer_type=None):
    angles = position_ids[..., None].to(x.dtype) * inverse_frequencies(self.config, layer_type).to(x.dtype)
    both = torch.cat((angles, angles), dim=-1)
    return both.cos(), both.sin()


class Float64Maths:
    """Within it, norms and RoPE of the four architectures keep float64; transformers computes them in float32.

    Attention needs no change: the sdpa path stays in the dtype of its inputs.
    """

    classes = [
        (modeling_llama, "Llama", norm_any_dtype),
        (modeling_qwen2, "Qwen2", norm_any_dtype),
        (modeling_qwen3, "Qwen3", norm_any_dtype),
        (modeling_gemma3, "Gemma3", gemma_norm_any_dtype),
    ]

    def __enter__(self):
        self.saved = []
        for module, prefix, norm in self.classes:
            for suffix, forward in [("RMSNorm", norm), ("RotaryEmbedding", rotary_any_dtype)]:
                target = getattr(module, prefix + suffix)
                self.saved.append((target, target.forward))
                target.forward = forward

    def __exit__(self, *_):
        for target, forward in self.saved:
            target.forward = forward


def load_tiny(folder, dtype, adapter):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval()
    if adapter:
        model = PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True).eval()
    return model.to(dtype)


def logits_of(model, tokens):
    return model(input_ids=torch.tensor([tokens])).logits[0]


def batch_loss(model, batch):
    """Nats per supervised token: one sum over all sequences, divided by one count. Token i is predicted at i - 1."""
    total, count = 0, 0
    for row in batch:
        log_probabilities = torch.log_softmax(logits_of(model, row["tokens"]), dim=-1)
        for i, supervised in enumerate(row["mask"]):
            if supervised:
                total, count = total - log_probabilities[i - 1, row["tokens"][i]], count + 1
    return total / count


def learning_rate(step):
    return PEAK_LEARNING_RATE * ((step + 1) / WARMUP if step < WARMUP else (STEPS - step) / (STEPS - WARMUP))


def lora_parameters(model):
    """PEFT's file names -> parameters."""
    named = ((name.replace(".default.", "."), p) for name, p in model.named_parameters())
    return {name: p for name, p in sorted(named) if p.requires_grad}


def train(model, batch):
    parameters = lora_parameters(model)
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.0, **ADAMW)
    losses, norms = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = batch_loss(model, batch)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_GRAD_NORM).item())
        losses.append(loss.item())
        optimizer.param_groups[0]["lr"] = learning_rate(step)
        optimizer.step()
    with torch.no_grad():
        losses.append(batch_loss(model, batch).item())
    return losses, norms


def greedy(model, prompt, count, stop=None):
    """Argmax continuation through the key/value cache, and the smallest lead of the best token over the second."""
    tokens, margin, cache, feed = [], math.inf, None, prompt
    with torch.no_grad():
        while len(tokens) < count and (not tokens or tokens[-1] != stop):
            out = model(input_ids=torch.tensor([feed]), past_key_values=cache, use_cache=True)
            best = out.logits[0, -1].topk(2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            tokens.append(best.indices[0].item())
            cache, feed = out.past_key_values, tokens[-1:]
    return tokens, margin


def make_tiny(name, config, generator):
    folder = make_tiny_folder(name, config, generator)
    batch = []
    for length in GEMMA_SEQUENCE_LENGTHS if name == "tiny-gemma3" else SEQUENCE_LENGTHS:
        tokens = torch.randint(3, SHAPE["vocab_size"], (length,), generator=generator).tolist()
        mask = (torch.rand(length, generator=generator) < 0.6).int().tolist()
        batch.append({"tokens": tokens, "mask": [0, *mask[1:-1], 1]})
    golden = {
        "provenance": provenance(computed_in="float64, norms and RoPE included; one sequence at a time, no padding"),
        "tensors": f"{name}.safetensors: logits.base.N and logits.adapter.N [T,V], gradient.NAME, final.NAME, all F64",
        "batch": batch,
    }
    tensors = {}
    with Float64Maths():
        base, adapted = load_tiny(folder, torch.float64, False), load_tiny(folder, torch.float64, True)
        with torch.no_grad():
            for i, row in enumerate(batch):
                tensors[f"logits.base.{i}"] = logits_of(base, row["tokens"])
                tensors[f"logits.adapter.{i}"] = logits_of(adapted, row["tokens"])
            golden["loss"] = {"base": batch_loss(base, batch).item(), "adapter": batch_loss(adapted, batch).item()}
        batch_loss(adapted, batch).backward()
        tensors |= {f"gradient.{key}": p.grad.clone() for key, p in lora_parameters(adapted).items()}
        if name in ("tiny-llama", "tiny-gemma3"):
            prompt = batch[0]["tokens"]
            golden["greedy"] = [
                dict(zip(("model", "prompt", "tokens", "smallest_margin"), (which, prompt, *greedy(model, prompt, 16))))
                for which, model in (("base", base), ("adapter", adapted))
            ]
        losses, norms = train(adapted, batch)
        tensors |= {f"final.{key}": p.detach() for key, p in lora_parameters(adapted).items()}

    # The same through transformers as it is, in float32: a check of the float64 patches, and a tolerance for others.
    single = load_tiny(folder, torch.float32, True)
    with torch.no_grad():
        for i, row in enumerate(batch):
            difference = (logits_of(single, row["tokens"]) - tensors[f"logits.adapter.{i}"]).abs().max().item()
            assert difference < 2e-5, f"{name}: float32 and float64 logits differ by {difference}"
    spread = torch.cat([tensors[f"logits.base.{i}"] for i in range(len(batch))]).std().item()
    losses32, norms32 = train(single, batch)
    golden["training"] = {
        "lora": LORA,
        "optimizer": "torch.optim.AdamW", **ADAMW,
        "learning_rates": [learning_rate(step) for step in range(STEPS)],
        "max_grad_norm": MAX_GRAD_NORM,
        "losses": losses,
        "gradient_norms_before_clipping": norms,
    }  # fmt: skip
    golden["float32"] = {"losses": losses32, "gradient_norms_before_clipping": norms32}
    write_json(GOLDENS / f"{name}.json", golden)
    save_file({k: v.contiguous() for k, v in tensors.items()}, GOLDENS / f"{name}.safetensors")
    for file in [*folder.rglob("*.safetensors"), GOLDENS / f"{name}.safetensors"]:
        file.chmod(0o644)  # safetensors leaves them unreadable to others
    print(f"{name}: logit std {spread:.2f}, loss {losses[0]:.4f} -> {losses[-1]:.4f}, norms {min(norms):.2f}-{max(norms):.2f}")


def make_all_tiny():
    torch.set_num_threads(1)  # one order of summation, so that the files come out the same everywhere
    generator = torch.Generator().manual_seed(SEED)
    for name, config in tiny_configs().items():
        make_tiny(name, config, generator)

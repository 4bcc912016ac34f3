"""Makes test/goldens/dpo.json and test/goldens/dpo.safetensors: TRL's DPO loss and its gradients on tiny-llama and its adapter.

    python3 -m venv VENV && VENV/bin/pip install -r scripts/requirements-dpo-goldens.txt
    VENV/bin/python scripts/make-dpo-goldens.py

The policy is the adapter of test/goldens/tiny-llama, the reference the model without it, so that no margin is zero. It is
TRL's own trainer that computes: its collator pads, its `compute_loss` is differentiated. All in float32, as TRL works.
"""

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.dont_write_bytecode = True

import torch
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

SEED = 20261126
BETA = 0.1
GOLDENS = Path(__file__).resolve().parent.parent / "test" / "goldens"
FOLDER = GOLDENS / "tiny-llama"
VOCAB = 97
# Tokens of prompt, preferred and other answer of each pair; the last two begin alike.
LENGTHS = [(6, 5, 9), (11, 8, 3), (9, 4, 4)]
SHARED = 7


def draw(count, generator):
    return torch.randint(3, VOCAB, (count,), generator=generator).tolist()


def make_pairs(generator):
    pairs = [dict(zip(("prompt", "chosen", "rejected"), (draw(n, generator) for n in each))) for each in LENGTHS]
    pairs[2]["prompt"][:SHARED] = pairs[1]["prompt"][:SHARED]
    return pairs


def make_tokenizer():
    """One word a token, only because the trainer wants one: every id comes from `make_pairs`."""
    words = models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0", bos_token="w1", eos_token="w2")


def main():
    torch.set_num_threads(1)
    pairs = make_pairs(torch.Generator().manual_seed(SEED))
    load = lambda: AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)  # noqa: E731
    policy = PeftModel.from_pretrained(load(), FOLDER / "adapter", is_trainable=True)
    texts = [{name: " ".join(f"w{i}" for i in ids) for name, ids in pair.items()} for pair in pairs]
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            output_dir=folder, beta=BETA, loss_type="sigmoid", use_cpu=True, report_to=[], disable_dropout=True,
            gradient_checkpointing=False, bf16=False, per_device_train_batch_size=len(pairs), max_length=None,
        )  # fmt: skip
        trainer = DPOTrainer(
            model=policy, ref_model=load(), args=config, train_dataset=Dataset.from_list(texts),
            processing_class=make_tokenizer(),
        )  # fmt: skip
        batch = trainer.data_collator([{f"{name}_ids": ids for name, ids in pair.items()} for pair in pairs])
        assert batch["completion_mask"].sum().item() == sum(chosen + rejected for _, chosen, rejected in LENGTHS)
        trainer.model.train()
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        with torch.no_grad():
            reference = trainer.compute_ref_log_probs(trainer.ref_model, batch)
        metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    gradients = {
        name.replace(".default.", "."): p.grad.contiguous()
        for name, p in sorted(trainer.model.named_parameters())
        if p.requires_grad and p.grad is not None
    }
    assert len(gradients) == 28, f"expected 28 LoRA matrices, found {len(gradients)}"
    wanted = ["rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected"]
    packages = ["trl", "torch", "transformers", "peft", "datasets"]
    golden = {
        "provenance": {
            "script": "scripts/make-dpo-goldens.py",
            "seed": SEED,
            "versions": {name: version(name) for name in packages},
            "computed_in": "float32, by trl.DPOTrainer",
        },
        "tensors": "dpo.safetensors: the gradient of each LoRA matrix by its PEFT name, F32",
        "model": "tiny-llama, with its adapter; the reference is the model without it",
        "beta": BETA,
        "pairs": pairs,
        "loss": loss.item(),
        "metrics": {name: metrics[name] for name in wanted},
        "reference": {"chosen": reference[0].tolist(), "rejected": reference[1].tolist()},
    }
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in golden.items()]
    (GOLDENS / "dpo.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    save_file(gradients, GOLDENS / "dpo.safetensors")
    (GOLDENS / "dpo.safetensors").chmod(0o644)
    print(json.dumps({"loss": loss.item(), **golden["metrics"]}, indent=1))


if __name__ == "__main__":
    main()

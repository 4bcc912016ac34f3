"""Logits of a base model with a LoRA adapter, as transformers and PEFT compute them in float32.

Usage: peft-logits.py < REQUEST, where REQUEST is JSON: a list of {"base": folder, "adapter": folder, "sequences": [[id]]}.
Prints JSON: for each of them a list with one flat list of logits [T * V] per sequence. test/engine/peft.test.ts runs it.
"""

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def logits_of(base, adapter, sequences):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    with torch.no_grad():
        return [model(torch.tensor([ids])).logits.flatten().tolist() for ids in sequences]


if __name__ == "__main__":
    json.dump([logits_of(**case) for case in json.load(sys.stdin)], sys.stdout)

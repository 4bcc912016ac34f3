"""An exported folder as transformers and PEFT load it, in float32.

Usage: load-export.py < REQUEST, where REQUEST is JSON: a list of {"folder": exported folder, "base": base model's folder or null for
a merged one, "sequences": [[id]], "messages": [{role, content}], "prompt": [id], "count": tokens}. Prints JSON: for each of them
{"logits": [[logit of T * V]], "ids": ids of the messages as a prompt, "end": ids that end a generation, "answer": greedy ids after
"prompt"}. test/export/transformers.test.ts runs it.
"""

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def loaded(folder, base, sequences, messages, prompt, count):
    model = AutoModelForCausalLM.from_pretrained(base or folder, dtype=torch.float32)
    end = model.generation_config.eos_token_id
    if base is not None:
        model = PeftModel.from_pretrained(model, folder)
    model = model.eval()
    text = AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    with torch.no_grad():
        logits = [model(torch.tensor([ids])).logits.flatten().tolist() for ids in sequences]
        answer = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=count)[0, len(prompt) :].tolist()
    ids = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
    return {"logits": logits, "ids": ids, "end": end if isinstance(end, list) else [end], "answer": answer}


if __name__ == "__main__":
    json.dump([loaded(**case) for case in json.load(sys.stdin)], sys.stdout)

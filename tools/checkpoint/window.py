# SPDX-License-Identifier: Apache-2.0
"""The one number of an exported model: its served window, written as linear RoPE scaling.

``config`` is the dict of a Hugging Face ``config.json`` throughout. An exported model carries
an ``e2_llm`` block with ``base_window`` (L) and ``train_window`` (R), in tokens; for any other
model L is ``max_position_embeddings`` divided by the linear factor already there.
"""

import copy
from typing import Any

from megatron_patches.errors import UserError
from megatron_patches.positions import scale_for_window

Config = dict[str, Any]


def rope_parameters(config: Config) -> dict[str, Any]:
    """Return ``rope_type``, ``factor`` and ``rope_theta``, from transformers 5 or 4 style keys.

    Raises:
        UserError: the model's RoPE is of a type other than default or linear, or not a single one.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if any(isinstance(value, dict) for value in rope.values()):
        raise UserError("config.json: RoPE differs between layers; use a model with a single one")
    if rope_type not in ("default", "linear"):
        raise UserError(
            f"config.json: rope_type {rope_type!r} cannot be rescaled linearly; "
            "use a model with default or linear RoPE"
        )
    return {
        "rope_type": rope_type,
        "factor": float(rope.get("factor", 1.0)),
        "rope_theta": float(rope.get("rope_theta", config.get("rope_theta", 10000.0))),
    }


def base_window(config: Config) -> int:
    """L, the window of pre-training, in tokens."""
    if "e2_llm" in config:
        return int(config["e2_llm"]["base_window"])
    return round(config["max_position_embeddings"] / rope_parameters(config)["factor"])


def with_scale(config: Config, scale: float, window: int) -> Config:
    """Return a copy of ``config`` that serves ``window`` tokens at the linear scale ``scale``."""
    rope = rope_parameters(config) | {"rope_type": "linear", "factor": float(scale)}
    result = copy.deepcopy(config)
    kept = result.get("rope_parameters") or result.get("rope_scaling") or {}
    kept.pop("type", None)  # the name of "rope_type" before transformers 5
    result.pop("rope_scaling", None)
    result.pop("rope_theta", None)
    result["rope_parameters"] = {**kept, **rope}
    result["max_position_embeddings"] = window
    return result


def with_window(config: Config, window: int) -> Config:
    """Return a copy of ``config`` that serves ``window`` tokens at g = max(1, window / L)."""
    return with_scale(config, scale_for_window(window, base_window(config)), window)

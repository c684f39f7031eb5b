# SPDX-License-Identifier: Apache-2.0
"""How a linear factor is written so that every reader serves the window that config.json states.

vLLM and sglang multiply ``max_position_embeddings`` by the factor of a ``linear`` RoPE once more;
transformers and llama.cpp do not. None of them multiplies it by that of a ``llama3`` RoPE, which
divides the frequencies whose wavelength is above a threshold. No wavelength is below 2π tokens, so
with a threshold of a token or less it divides all of them: the same numbers, read alike by all.
"""

import math
from typing import Any

# What llama.cpp's converter took for the window before it read that of rope_scaling.
_ASSUMED = 8192


def written(rope: dict[str, Any], window: int) -> dict[str, Any]:
    """``rope_parameters`` as an export writes them.

    Args:
        rope: with ``rope_type``; other types than linear, and a factor of 1, stay as they are.
        window: that the factor extends, in tokens.
    """
    if rope.get("rope_type") != "linear" or rope["factor"] <= 1:
        return rope
    turns = float(max(window, _ASSUMED))  # of a wavelength in the window: a token or less
    return {
        **rope,
        "rope_type": "llama3",
        "low_freq_factor": turns,
        "high_freq_factor": 4 * turns,
        "original_max_position_embeddings": window,
    }


def read(rope: dict[str, Any]) -> dict[str, Any]:
    """``rope_parameters`` with what :func:`written` changed undone; others as they are."""
    if rope.get("rope_type", rope.get("type")) != "llama3":
        return rope
    names = ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    low, high, window = (rope.get(name) for name in names)
    numbers = all(isinstance(value, int | float) for value in (low, high, window))
    if not numbers or not 0 < window < 2 * math.pi * low or not low < high:
        return rope
    kept = {name: value for name, value in rope.items() if name not in (*names, "type")}
    return {**kept, "rope_type": "linear"}

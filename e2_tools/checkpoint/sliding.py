# SPDX-License-Identifier: Apache-2.0
"""Sliding windows: whether one is in effect in transformers, and a config.json without any.

Megatron trains full attention here. Within the sliding window both attentions are equal.
"""

from typing import Any

from e2_common.errors import UserError
from e2_tools.checkpoint.families import Family

FULL, SLIDING = "full_attention", "sliding_attention"


def sliding_window(config: dict[str, Any], family: Family, path: object) -> int | None:
    """The sliding window that some layer sees, in tokens; None where all see everything.

    A Mistral slides in every layer where ``sliding_window`` is set. A Qwen slides in the layers
    that ``layer_types`` says, which transformers derives from ``use_sliding_window`` and
    ``max_window_layers`` where it does not stand. A Llama never does, whatever its file says.

    Args:
        config: the dict of config.json, as transformers completes it.
        family: of the model.
        path: of the file, for messages.

    Raises:
        UserError: the layers are of other kinds, or slide without a window.
    """
    window = config.get("sliding_window")
    if "use_sliding_window" in family.config:
        kinds = set(config.get("layer_types") or ())
        if kinds - {FULL, SLIDING}:
            other = ", ".join(sorted(map(str, kinds - {FULL, SLIDING})))
            raise UserError(f"{path}: layer_types names {other}, which Megatron cannot build")
        if SLIDING not in kinds:
            return None
    elif "sliding_window" not in family.config or window is None:
        return None
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        raise UserError(f"{path}: sliding_window is {window!r}, a number of tokens is needed")
    return window


def plain_attention(config: dict[str, Any], family: Family) -> dict[str, Any]:
    """A copy of a config.json of which transformers builds full attention.

    ``sliding_window`` is written even where it was missing: a Mistral without the key slides.
    """
    result = dict(config)
    if "sliding_window" in family.config:
        result["sliding_window"] = None
    if "use_sliding_window" in family.config:
        result["use_sliding_window"] = False
        if config.get("layer_types"):
            result["layer_types"] = [FULL] * len(config["layer_types"])
    return result

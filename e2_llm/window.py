# SPDX-License-Identifier: Apache-2.0
"""The one number of an exported model: its served window, written as RoPE scaling.

``config`` is the dict of a Hugging Face ``config.json`` throughout. An exported model carries an
``e2_llm`` block (:class:`Exported`). For any other model the rule is linear, and L is
``max_position_embeddings`` divided by the linear factor already there.
"""

import copy
import dataclasses
from typing import Any

from e2_common.errors import UserError
from e2_llm.exported import Exported
from e2_llm.frequencies import RULES, Rule
from e2_llm.serving import serving_scale

Config = dict[str, Any]


def rule_of(config: Config) -> Rule:
    """What a scale of the model does to its frequencies."""
    exported = Exported.from_config(config)
    return exported.rule if exported else RULES["linear"]


def frequency_rule(config: Config) -> str:
    """The name of :func:`rule_of`."""
    return rule_of(config).name


def with_rule(config: Config, name: str) -> Config:
    """Return a copy of ``config`` whose scale is from now on applied by another rule.

    Args:
        config: of any model with a default or linear RoPE, trained by E2-LLM or not.
        name: of the rule.

    Raises:
        UserError: the model's RoPE cannot be rescaled.
    """
    exported = Exported.from_config(config) or Exported(
        base_window=base_window(config), rope_theta=rope_parameters(config)["rope_theta"]
    )
    plain = with_scale(config, 1.0, exported.base_window)
    return dataclasses.replace(exported, frequencies=name).to_config(plain)


def rope_parameters(config: Config) -> dict[str, Any]:
    """Return ``rope_type``, ``factor`` (the scale) and the original ``rope_theta``.

    Keys of transformers 5 or 4 style are read.

    Raises:
        UserError: the model's RoPE is of a type that cannot be rescaled, or not a single one.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if any(isinstance(value, dict) for value in rope.values()):
        raise UserError("config.json: RoPE differs between layers; use a model with a single one")
    exported, rule = Exported.from_config(config), rule_of(config)
    if rope_type not in ("default", "linear", rule.name):
        raise UserError(
            f"config.json: rope_type {rope_type!r} cannot be rescaled linearly; "
            "use a model with default or linear RoPE"
        )
    theta = float(rope.get("rope_theta", config.get("rope_theta", 10000.0)))
    if exported and exported.rope_theta is not None and rule.hf_type == "default":
        original = float(exported.rope_theta)  # the base is what the scale changes
    else:
        original = theta
    factor = rule.from_hf({**rope, "rope_theta": theta}, _head_size(config), original)
    own = exported.own_factor if exported else 1.0
    return {"rope_type": rope_type, "factor": factor / own, "rope_theta": original}


def base_window(config: Config) -> int:
    """L, the window of pre-training, in tokens."""
    exported = Exported.from_config(config)
    if exported:
        return exported.base_window
    return round(config["max_position_embeddings"] / rope_parameters(config)["factor"])


def scale_for(config: Config, window: int) -> float:
    """The scale at which the model serves ``window`` tokens.

    That of its training where it knows one only; W / L where it was not trained for any.
    """
    exported = Exported.from_config(config)
    if exported is None:
        return serving_scale(window, base_window(config), whole=False)
    if not exported.serves_any_window:
        return rope_parameters(config)["factor"]
    return exported.serving_scale(window)


def with_scale(config: Config, scale: float, window: int) -> Config:
    """Return a copy of ``config`` that serves ``window`` tokens at ``scale``, by its rule."""
    result = copy.deepcopy(config)
    kept = result.get("rope_parameters") or result.get("rope_scaling") or {}
    written = ("type", "rope_type", "factor", "rope_theta", "original_max_position_embeddings")
    kept = {name: value for name, value in kept.items() if name not in written}
    rope = {**_scaled_rope(config, float(scale)), **kept}
    # Readers of the form before transformers 5 look for these two; transformers 5 prefers
    # rope_scaling where both stand, so both say the same.
    legacy = {name: value for name, value in rope.items() if name != "rope_theta"}
    result |= {
        "rope_parameters": rope,
        "rope_theta": rope["rope_theta"],
        "rope_scaling": None if rope["rope_type"] == "default" else legacy,
        "max_position_embeddings": window,
    }
    return result


def with_window(config: Config, window: int) -> Config:
    """Return a copy of ``config`` that serves ``window`` tokens at the scale they need."""
    return with_scale(config, scale_for(config, window), window)


def window_note(config: Config) -> str | None:
    """Say when a window lies beyond the scales that training drew; None when it does not."""
    exported = Exported.from_config(config)
    largest, scale = exported and exported.max_scale, rope_parameters(config)["factor"]
    if largest is None or scale <= largest:
        return None
    trained = largest * base_window(config)
    return f"factor {scale:g} is beyond the trained scales 1..{largest} (window {trained})"


def factor_note(config: Config) -> str | None:
    """Say when config.json holds another factor than its window needs; None when it does not.

    Evaluation takes the scale that the window needs, a server the factor that is written.
    """
    served, factor = config["max_position_embeddings"], rope_parameters(config)["factor"]
    needed = scale_for(config, served)
    if abs(factor - needed) < 1e-6 * needed:
        return None
    return (
        f"config.json serves {served} tokens at factor {factor:g}, its training asks for "
        f"{needed:g}, which --scale auto takes; `set_window.py --window {served}` writes it"
    )


def _scaled_rope(config: Config, scale: float) -> dict[str, Any]:
    """``rope_parameters`` with which transformers computes the rule's frequencies."""
    theta = rope_parameters(config)["rope_theta"]
    exported = Exported.from_config(config)
    own = exported.own_factor if exported else 1.0
    return rule_of(config).to_hf(_head_size(config), theta, scale * own, base_window(config))


def _head_size(config: Config) -> int:
    """d; 0 where config.json lacks what only rules that need d look at."""
    heads = config.get("num_attention_heads")
    return config.get("head_dim") or (config["hidden_size"] // heads if heads else 0)

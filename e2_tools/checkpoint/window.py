# SPDX-License-Identifier: Apache-2.0
"""The one number of an exported model: its served window, written as RoPE scaling.

``config`` is the dict of a Hugging Face ``config.json`` throughout. An exported model carries an
``e2_llm`` block with ``base_window`` (L) and ``train_window`` (R), in tokens, ``frequencies``, the
rule that turns a scale into frequencies, and the original ``rope_theta``. For any other model the
rule is linear, and L is ``max_position_embeddings`` divided by the linear factor already there.
"""

import copy
from typing import Any

from e2_common.errors import UserError
from e2_llm.frequencies import ntk_theta
from e2_llm.positions import scale_for_window

Config = dict[str, Any]


def frequency_rule(config: Config) -> str:
    """Which of ``e2_llm.frequencies.FREQUENCY_RULES`` the model is scaled by."""
    return (config.get("e2_llm") or {}).get("frequencies", "linear")


def with_rule(config: Config, rule: str) -> Config:
    """Return a copy of ``config`` whose scale is from now on applied by ``rule``.

    Args:
        config: of any model with a default or linear RoPE, trained by E2-LLM or not.
        rule: a name in ``e2_llm.frequencies.FREQUENCY_RULES``.

    Raises:
        UserError: the model's RoPE cannot be rescaled.
    """
    block = {
        "base_window": base_window(config),
        "rope_theta": rope_parameters(config)["rope_theta"],
        **(config.get("e2_llm") or {}),
        "frequencies": rule,
    }
    return {**with_scale(config, 1.0, block["base_window"]), "e2_llm": block}


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
    rule = frequency_rule(config)
    if rope_type not in ("default", "linear", rule):
        raise UserError(
            f"config.json: rope_type {rope_type!r} cannot be rescaled linearly; "
            "use a model with default or linear RoPE"
        )
    block = config.get("e2_llm") or {}
    theta = float(rope.get("rope_theta", config.get("rope_theta", 10000.0)))
    factor = float(rope.get("factor", 1.0)) / _own_factor(config)
    if rule == "ntk":  # all of the scale is in the changed base
        theta = float(block["rope_theta"])
        factor = scale_for_window(config["max_position_embeddings"], block["base_window"])
    return {"rope_type": rope_type, "factor": factor, "rope_theta": theta}


def _own_factor(config: Config) -> float:
    """The linear factor that the model had before E2, with which every scale is multiplied."""
    return float((config.get("e2_llm") or {}).get("own_factor", 1.0))


def base_window(config: Config) -> int:
    """L, the window of pre-training, in tokens."""
    if "e2_llm" in config:
        return int(config["e2_llm"]["base_window"])
    return round(config["max_position_embeddings"] / rope_parameters(config)["factor"])


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


def _scaled_rope(config: Config, scale: float) -> dict[str, Any]:
    """``rope_parameters`` with which transformers computes the rule's frequencies."""
    theta = rope_parameters(config)["rope_theta"]
    rule = frequency_rule(config)
    if rule == "ntk":
        heads = config["num_attention_heads"]
        dim = config.get("head_dim") or config["hidden_size"] // heads
        return {"rope_type": "default", "rope_theta": ntk_theta(dim, theta, scale)}
    scaled = {"rope_type": rule, "factor": scale * _own_factor(config), "rope_theta": theta}
    if rule in ("yarn", "llama3"):
        scaled["original_max_position_embeddings"] = base_window(config)
    if rule == "llama3":
        scaled |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return scaled


def with_window(config: Config, window: int) -> Config:
    """Return a copy of ``config`` that serves ``window`` tokens at g = max(1, window / L)."""
    return with_scale(config, scale_for_window(window, base_window(config)), window)

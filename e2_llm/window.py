# SPDX-License-Identifier: Apache-2.0
"""The one number of an exported model: its served window, written as RoPE scaling.

``config`` is the dict of a Hugging Face ``config.json`` throughout. An exported model carries an
``e2_llm`` block (:class:`Exported`). For any other model the rule is linear, a linear or llama3
scaling that it has is its own RoPE, which stays under every scale, and L is the window that it
serves with that (:mod:`e2_llm.native_window`). Whatever is written gets a block, which remembers L.

RoPE is read as transformers 5 does: ``rope_scaling``, where it stands and is not empty, hides
``rope_parameters`` and the base in them.
"""

import copy
import dataclasses
import math
from typing import Any

from e2_common.errors import UserError
from e2_llm.exported import Exported
from e2_llm.frequencies import RULES, Llama3Scaling, OwnRope, Rule, spelling
from e2_llm.frequencies.rule import LISTS, WRITTEN
from e2_llm.native_window import native_window, scaling_factor
from e2_llm.serving import serving_scale
from e2_llm.window_keys import with_config_window

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
        config: of any model whose RoPE can be rescaled, trained by E2-LLM or not.
        name: of the rule, one that depends on the scale alone.

    Raises:
        UserError: the model's RoPE cannot be rescaled.
    """
    remembered, rope = _remembered(config), _rope(config)
    rope = {key: value for key, value in rope.items() if key not in WRITTEN}
    rope["rope_theta"] = own_rope(config).theta
    plain = {**config, "rope_parameters": rope, "rope_scaling": None}
    changed = dataclasses.replace(remembered, frequencies=name, rule_settings=None)
    return with_scale(changed.to_config(plain), 1.0, remembered.base_window)


def rope_parameters(config: Config) -> dict[str, Any]:
    """Return ``rope_type``, ``factor`` (the scale g = W / L) and the original ``rope_theta``.

    Keys of transformers 5 or 4 style are read.

    Raises:
        UserError: the model's RoPE is of a type that cannot be rescaled, or not a single one.
    """
    rope, own, exported = _rope(config), own_rope(config), Exported.from_config(config)
    rule = exported.rule if exported else RULES["linear"]
    factor = rule.from_hf(rope, _head_size(config), own)
    if factor is None:  # the window alone says it
        window = config["max_position_embeddings"]
        fixed = not exported.serves_any_window
        factor = window / exported.base_window if fixed else exported.serving_scale(window)
    return {"rope_type": rope["rope_type"], "factor": factor, "rope_theta": own.theta}


def own_rope(config: Config) -> OwnRope:
    """The RoPE of the model before any scale.

    Raises:
        UserError: see :func:`rope_parameters`.
    """
    rope, exported = _rope(config), Exported.from_config(config)
    if exported:
        return exported.own(rope["rope_theta"])
    llama3 = Llama3Scaling.from_hf(rope) if rope["rope_type"] == "llama3" else None
    factor = scaling_factor(rope) if rope["rope_type"] == "linear" else 1.0
    return OwnRope(rope["rope_theta"], factor, llama3)


def standing_rope(config: Config) -> dict[str, Any]:
    """The RoPE parameters that transformers 5 follows, with ``rope_type``.

    Raises:
        UserError: they are none, or differ between layers.
    """
    rope = _plain(config.get("rope_scaling") or config.get("rope_parameters") or {})
    if any(isinstance(value, dict) for value in rope.values()):
        raise UserError("config.json: RoPE differs between layers; use a model with a single one")
    return {**rope, "rope_type": _kind(rope)}


def _plain(rope: Any) -> dict[str, Any]:
    """RoPE parameters without what is null, a linear factor as one however it is spelled."""
    if not isinstance(rope, dict):
        raise UserError(f"config.json: the RoPE parameters are {rope!r}, an object is needed")
    return spelling.read({name: value for name, value in rope.items() if value is not None})


def _kind(rope: Config) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")


def standing_theta(config: Config) -> float | None:
    """The base that transformers 5 follows; None where config.json leaves it to the model type.

    Raises:
        UserError: it is no positive number.
    """
    theta = standing_rope(config).get("rope_theta", config.get("rope_theta"))
    if theta is None:
        return None
    if isinstance(theta, bool) or not isinstance(theta, int | float) or not 0 < theta < math.inf:
        raise UserError(f"config.json: rope_theta is {theta!r}, a positive number is needed")
    return float(theta)


def _rope(config: Config) -> dict[str, Any]:
    """The parameters as they stand, with ``rope_type`` and ``rope_theta``, of a known type."""
    rope, exported = standing_rope(config), Exported.from_config(config)
    known, kinds = {"default", "linear", "llama3"}, {rope["rope_type"]}
    if exported:
        known = {"default", "linear", LISTS, exported.rule.hf_type}
        known |= {"llama3"} if exported.own_scaling else set()
        kinds.add(_kind(_plain(config.get("rope_parameters") or {})))  # an export writes both alike
    if kinds - known:
        raise UserError(
            f"config.json: rope_type {min(kinds - known)!r} cannot be rescaled linearly; "
            "use a model with default, linear or llama3 RoPE"
        )
    return {**rope, "rope_theta": standing_theta(config) or 10000.0}


def _remembered(config: Config) -> Exported:
    """The block of an exported model, or what it would be of any other."""
    exported = Exported.from_config(config)
    return exported or Exported.untrained(own_rope(config), base_window(config))


def base_window(config: Config) -> int:
    """L, the window of pre-training, in tokens."""
    exported = Exported.from_config(config)
    return exported.base_window if exported else native_window(config, _rope(config), {}).window


def remembered(config: Config, base_window: int) -> Config:
    """Return a copy of a config.json whose ``e2_llm`` block says L, if it has no block yet.

    Args:
        config: of any model whose RoPE can be rescaled.
        base_window: L, in tokens; that of a block that stands goes before.
    """
    if Exported.from_config(config) is not None:
        return config
    return Exported.untrained(own_rope(config), base_window).to_config(config)


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
    result = with_config_window(copy.deepcopy(config), window)
    kept = standing_rope(result)
    kept = {name: value for name, value in kept.items() if name not in WRITTEN}
    rope = {**spelling.written(_scaled_rope(config, float(scale)), base_window(config)), **kept}
    # Readers of the form before transformers 5 look for these two; transformers 5 prefers
    # rope_scaling where both stand, so both say the same.
    legacy = {name: value for name, value in rope.items() if name != "rope_theta"}
    result |= {
        "rope_parameters": rope,
        "rope_theta": rope["rope_theta"],
        "rope_scaling": None if rope["rope_type"] == "default" else legacy,
    }
    if Exported.from_config(config) is None:
        result = _remembered(config).to_config(result)  # nothing else would remember L
    return result


def with_window(config: Config, window: int) -> Config:
    """Return a copy of ``config`` that serves ``window`` tokens at the scale they need."""
    return with_scale(config, scale_for(config, window), window)


def as_trained(
    config: Config, exported: Exported, trained_scale: float | None, window: int | None = None
) -> Config:
    """Return a copy of a model's ``config.json`` that says how it was trained and what it serves.

    Args:
        config: at the pre-trained window, with the model's own RoPE or none of it.
        exported: what training knew.
        trained_scale: the one g that was trained, None if many were.
        window: to serve, in tokens. By default the pre-trained L; with a single trained scale g,
            g * L.

    Raises:
        UserError: the model was trained at one factor and ``window`` asks for another.
    """
    config = exported.to_config(config)
    config = with_scale(config, 1.0, exported.base_window)
    trained = round((trained_scale or 1.0) * exported.base_window)
    if not exported.serves_any_window:
        if window not in (None, trained):
            raise UserError(
                f"--window {window}: this model was trained by --position-method "
                f"{exported.method} at factor {trained_scale:g} and knows no other scale; "
                f"its window is {trained}"
            )
        return with_scale(config, trained_scale, trained)
    if window is None and trained_scale is not None:
        return with_scale(config, trained_scale, trained)
    return with_window(config, trained if window is None else window)


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
    own, window = own_rope(config), base_window(config)
    return rule_of(config).to_hf(_head_size(config), own, scale, window)


def _head_size(config: Config) -> int:
    """d; 0 where config.json lacks what only rules that need d look at."""
    head, heads = config.get("head_dim"), config.get("num_attention_heads")
    size = head or (config.get("hidden_size", 0) if heads else 0)
    if not isinstance(size, int) or not isinstance(heads or 1, int) or size < 0:
        raise UserError(f"config.json: sizes of heads are no numbers: {size!r} over {heads!r}")
    return size if head else size // (heads or 1)

# SPDX-License-Identifier: Apache-2.0
"""What the RoPE of a Hugging Face model means for the run that starts from it.

A run needs one base θ, the pre-trained window L, and at most one linear factor that the model
already has (its positions are m / f; E2's scale then composes to f · g). Other scalings cannot
compose; the user says what to do with them.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from e2_common.errors import UserError
from e2_llm.exported import Exported
from e2_llm.frequencies import PLAIN, RULES

CHOICES = ("original", "keep")
# Rules that transformers knows by a name of their own, and that a run can train with as they are.
KEEPABLE = {
    rule.hf_type: rule
    for rule in RULES.values()
    if rule.hf_type not in (PLAIN.hf_type, RULES["linear"].hf_type)
}


@dataclass(frozen=True)
class SourceRope:
    """The RoPE that a run starts from.

    Attributes:
        theta: the base.
        window: L, the pre-trained window in tokens.
        own_factor: the linear factor f of the pre-trained model, 1 without one.
        method: position method that reproduces the model: ``none``, ``llama3`` or ``yarn``.
        factor: the fixed factor of ``method``, 1 for ``none``.
    """

    theta: float
    window: int
    own_factor: float = 1.0
    method: str = "none"
    factor: float = 1.0


def source_rope(config: dict[str, Any], choice: str | None, path: object) -> SourceRope:
    """Read the RoPE of a complete config.json.

    Args:
        config: as transformers completes it: with ``rope_parameters``.
        choice: ``--rope-scaling``: ``original`` undoes a llama3 or yarn scaling, L is then the
            window before it; ``keep`` has the run train with it at its fixed factor.
        path: of the config.json, for messages.

    Raises:
        UserError: the scaling is unknown, or needs a choice.
    """
    rope = dict(config.get("rope_parameters") or {})
    if any(isinstance(value, dict) for value in rope.values()):
        raise UserError(f"{path}: RoPE differs between layers, which Megatron cannot build")
    window = config["max_position_embeddings"]
    exported = Exported.from_config(config)
    if exported:  # back to where its training was
        return _of_exported(exported, rope)
    kind, theta = rope.get("rope_type", "default"), float(rope.get("rope_theta", 10000.0))
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(f"{path}: only a part of each head is rotated, which is not supported")
    if kind == "default":
        return SourceRope(theta, window)
    factor = float(rope.get("factor", 1.0))
    if kind == "linear":
        return SourceRope(theta, window, own_factor=factor)
    if kind not in KEEPABLE:
        raise UserError(
            f"{path}: rope_type {kind!r} is not supported; there are: default, linear, "
            + ", ".join(sorted(KEEPABLE))
        )
    before = rope.get("original_max_position_embeddings")
    if not isinstance(before, int):
        before = round(window / factor)
    if choice is None:
        raise UserError(
            f"{path}: its RoPE is already scaled ({kind}, factor {factor:g} over {before} tokens); "
            "say by --rope-scaling what to do: original (undo it, L is the window before it) "
            f"or keep (train and serve at this fixed factor: --position-method {kind})"
        )
    if choice == "original":
        return SourceRope(theta, before)
    rule = KEEPABLE[kind]
    other = rule.other_settings(rope)
    if other:
        raise UserError(
            f"{path}: --rope-scaling keep: --position-method {kind} has no {', '.join(other)}; "
            "use --rope-scaling original"
        )
    return SourceRope(theta, before, method=rule.name, factor=factor)


def _of_exported(exported: Exported, rope: dict[str, Any]) -> SourceRope:
    theta = exported.rope_theta
    base = SourceRope(
        theta=float(rope.get("rope_theta", 10000.0) if theta is None else theta),
        window=exported.base_window,
        own_factor=exported.own_factor,
    )
    if exported.method in KEEPABLE:
        factor = float(rope["factor"])
        return dataclasses.replace(base, method=exported.method, factor=factor)
    return base  # E2 and the others train from plain RoPE again

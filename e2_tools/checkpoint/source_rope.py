# SPDX-License-Identifier: Apache-2.0
"""What the RoPE of a Hugging Face model means for the run that starts from it.

A run needs the model's own RoPE, which E2's scale then acts on (:class:`OwnRope`), and the
pre-trained window L. What Megatron cannot build itself, or what extends a smaller window, is
trained with at a fixed factor or undone; the user says which.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from e2_common.errors import UserError
from e2_llm.exported import Exported
from e2_llm.frequencies import RULES, Llama3Scaling, OwnRope, Rule
from e2_llm.native_window import scaling_factor
from e2_llm.registry import method_class
from e2_llm.window import rope_parameters, standing_rope, standing_theta
from e2_tools.checkpoint.pretrained_window import check_base_window, window_of

CHOICES = ("original", "keep")


@dataclass(frozen=True)
class SourceRope:
    """The RoPE that a run starts from.

    Attributes:
        own: of the model.
        window: L, the pre-trained window in tokens.
        positions: flags of the position method that reproduces the model, where its own RoPE
            alone does not; with ``position-method`` if any.
        note: how L was read, where the model leaves it open.
    """

    own: OwnRope
    window: int
    positions: dict[str, Any] = field(default_factory=dict)
    note: str | None = None

    def within(self, sliding: int, path: object) -> Self:
        """The same for a model that was pre-trained with a sliding window, in tokens.

        Raises:
            UserError: L is part of frequencies that are kept, and larger.
        """
        if self.window <= sliding:
            return self
        if self.positions:
            raise UserError(
                f"{path}: sliding_window {sliding} is below the {self.window} tokens before its "
                "scaling, which can then not be kept; use --rope-scaling original"
            )
        return replace(self, window=sliding)


def source_rope(
    config: dict[str, Any], choice: str | None, path: Path, base_window: int | None = None
) -> SourceRope:
    """Read the RoPE of a complete config.json.

    Args:
        config: as transformers completes it: with ``rope_parameters``.
        choice: ``--rope-scaling``: ``original`` undoes a llama3 or yarn scaling, L is then the
            window before it; ``keep`` has the run train with it at its fixed factor. Without a
            choice the llama3 scaling of Llama 3.1 to 3.3 is the model's own.
        path: of the config.json, beside which other files may say the window.
        base_window: ``--base-window``: L, in tokens, whatever the files say.

    Raises:
        UserError: the scaling is unknown, or needs a choice; L cannot be decided.
    """
    rope = standing_rope(config)
    exported = Exported.from_config(config)
    check_base_window(base_window, exported)
    if exported:  # back to where its training was
        return _of_exported(exported, config, rope)
    kind, own = rope["rope_type"], OwnRope(standing_theta(config) or 10000.0)
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(f"{path}: only a part of each head is rotated, which is not supported")
    factor = scaling_factor(rope)
    if kind in ("default", "linear"):
        found = window_of(config, path.parent, base_window)
        own = own.changed(factor=factor) if kind == "linear" else own
        return SourceRope(own, found.window, note=found.note)
    if kind not in _keepable():
        raise UserError(
            f"{path}: rope_type {kind!r} is not supported; there are: default, linear, "
            + ", ".join(sorted(_keepable()))
        )
    before = rope.get("original_max_position_embeddings")
    if not isinstance(before, int):
        before = round(config["max_position_embeddings"] / factor)
    if choice == "original":
        return SourceRope(own, before if base_window is None else base_window)
    if choice == "keep":
        if base_window not in (None, before):
            raise UserError(
                f"--base-window {base_window}: the scaling counts from {before} tokens; leave it "
                "out, or use --rope-scaling original"
            )
        rule = _rule_of(rope, path)
        return SourceRope(own, before, {"position-method": rule.name, "e2-factor": factor})
    if kind == "llama3":
        llama3 = Llama3Scaling.from_hf(rope)
        if llama3 == Llama3Scaling(llama3.factor):  # the constants that Megatron has built in
            found = window_of(config, path.parent, base_window)
            return SourceRope(own.changed(llama3=llama3), found.window, note=found.note)
    raise UserError(
        f"{path}: its RoPE is already scaled ({kind}, factor {factor:g} over {before} tokens); "
        "say by --rope-scaling what to do: original (undo it, L is the window before it) "
        f"or keep (train and serve at this fixed factor: --position-method {kind})"
    )


def _keepable() -> dict[str, list[Rule]]:
    """Rules that a run can train with as they are, by the name that transformers has for them."""
    found: dict[str, list[Rule]] = {}
    for rule in RULES.values():
        if rule.hf_type not in (None, "default", "linear"):
            found.setdefault(rule.hf_type, []).append(rule)
    return found


def _rule_of(rope: dict[str, Any], path: object) -> Rule:
    """The rule that computes ``rope_parameters``."""
    rules = _keepable()[rope["rope_type"]]
    for rule in rules:
        if not rule.other_settings(rope):
            return rule
    other = ", ".join(rules[0].other_settings(rope))
    raise UserError(
        f"{path}: --rope-scaling keep: --position-method {rules[0].name} has no {other}; "
        "use --rope-scaling original"
    )


def _of_exported(exported: Exported, config: dict[str, Any], rope: dict[str, Any]) -> SourceRope:
    own = exported.own(rope.get("rope_theta", 10000.0))
    base = SourceRope(own, exported.base_window)
    if exported.serves_any_window:
        return base  # E2 trains from the model's own RoPE again
    method = method_class(exported.method)
    positions = {"position-method": method.name, "e2-factor": rope_parameters(config)["factor"]}
    if "frequencies" in method.reads:
        positions["e2-frequencies"] = exported.frequencies
    positions |= exported.rule.flags()
    return SourceRope(own, exported.base_window, positions)

# SPDX-License-Identifier: Apache-2.0
"""What a RoPE rule is, and how any of them is written as factor lists."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from e2_common.errors import UserError
from e2_llm.frequencies.own import OwnRope, rope

if TYPE_CHECKING:
    from torch import Tensor

# Divides a frequency that is zero: JSON has no infinity. At a million tokens the angle is 1e-14,
# whose cosine is 1 and whose sine no fp32 sum notices.
NEVER = 1e20
LISTS = "longrope"  # the rope_type that takes a factor for every frequency


class Frequencies(NamedTuple):
    """Inverse frequencies [d / 2], fp32 on the CPU, radians per token, and the attention factor m.

    Cosines and sines are multiplied by m, so that scores grow by m².
    """

    inverse: "Tensor"
    attention_factor: float = 1.0


class Rule:
    """A RoPE rule.

    A subclass says in :meth:`scaled` what a scale does. It acts on the own frequencies of the
    model: each of them is multiplied by a number, and what counts turns within L counts theirs.
    A rule that depends on more than the scale is a frozen dataclass with a field for each of
    :attr:`reads`.

    Attributes:
        name: as ``--e2-frequencies`` and the ``e2_llm`` block of config.json call it.
        title: for people, with its source.
        hf_type: the ``rope_type`` of transformers that computes it for a model of plain RoPE; None
            for a rule that is written as factor lists.
        hf_settings: keys of ``rope_parameters`` beside the factor, with the values that this rule
            computes; a model with other values follows another rule.
        has_attention_factor: whether m differs from 1.
        original_at_one: whether g = 1 leaves the model's own frequencies as they are.
        exportable: whether what it computes can be written into a config.json.
        reads: fields of the configuration that it needs beside the scale.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    hf_type: ClassVar[str | None] = None
    hf_settings: ClassVar[dict[str, Any]] = {}
    has_attention_factor: ClassVar[bool] = False
    original_at_one: ClassVar[bool] = True
    exportable: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ()

    def configured(self, config: Any) -> Self:
        """This rule with the fields that it :attr:`reads`, from a configuration."""
        if not self.reads:
            return self
        return dataclasses.replace(self, **{name: getattr(config, name) for name in self.reads})

    def settings(self) -> dict[str, Any]:
        """The fields that it :attr:`reads`, as JSON has them."""
        return {name: getattr(self, name) for name in self.reads}

    def flags(self) -> dict[str, Any]:
        """The flags, without dashes in front, that give a run its :meth:`settings`."""
        return {f"e2-{name.replace('_', '-')}": getattr(self, name) for name in self.reads}

    def with_settings(self, settings: dict[str, Any]) -> Self:
        """This rule with :meth:`settings` read back.

        Raises:
            UserError: one is missing, unknown or out of range.
        """
        if set(settings) != set(self.reads):
            raise UserError(
                f"frequencies {self.name}: the settings are {', '.join(settings) or 'none'}, "
                f"needed are {', '.join(self.reads) or 'none'}"
            )
        changed = dataclasses.replace(self, **settings) if self.reads else self
        changed.check()
        return changed

    def check(self) -> None:
        """Refuse settings that are missing or out of range.

        Raises:
            UserError: naming the flag.
        """
        for name in self.reads:
            if getattr(self, name) is None:
                raise UserError(
                    f"--e2-{name.replace('_', '-')} is missing: the frequencies {self.name} need it"
                )

    def frequencies(
        self, dim: int, theta: float | OwnRope, scale: float, base_window: int
    ) -> Frequencies:
        """The frequencies at a scale.

        Args:
            dim: d, the head size.
            theta: θ, the base, or the whole RoPE of a model that has more than a base.
            scale: g = W / L.
            base_window: L, in tokens.
        """
        return self.scaled(OwnRope.of(theta), dim, scale, base_window)

    def scaled(self, own: OwnRope, dim: int, scale: float, base_window: int) -> Frequencies:
        """:meth:`frequencies` of a model whose RoPE is ``own``."""
        raise NotImplementedError

    # --- Hugging Face ---

    def is_native(self, own: OwnRope) -> bool:
        """Whether transformers has a type for this rule on a model whose RoPE is ``own``."""
        return own.is_plain and self.hf_type is not None

    def to_native(self, own: OwnRope, dim: int, scale: float, base_window: int) -> dict[str, Any]:
        """``rope_parameters`` of :attr:`hf_type`."""
        return {"rope_type": self.hf_type, "factor": scale, "rope_theta": own.theta}

    def from_native(self, rope: dict[str, Any], own: OwnRope, dim: int) -> float | None:
        """The scale in what :meth:`to_native` made; None if it is the same for every scale."""
        return float(rope.get("factor", 1.0))

    def to_hf(
        self, dim: int, theta: float | OwnRope, scale: float, base_window: int
    ) -> dict[str, Any]:
        """``rope_parameters`` with which transformers computes :meth:`frequencies`.

        The rule's own type where there is one, the model's own RoPE at g = 1, else factor lists.
        """
        own = OwnRope.of(theta)
        if self.is_native(own):
            return self.to_native(own, dim, scale, base_window)
        unchanged = own.to_hf() if scale == 1 and self.original_at_one else None
        return unchanged or self._lists(own, dim, scale, base_window)

    def from_hf(self, rope: dict[str, Any], dim: int, theta: float | OwnRope) -> float | None:
        """The scale that ``rope_parameters`` hold; None if they are the same for every scale.

        Args:
            rope: what :meth:`to_hf` made, or the model's own.
            dim: d, the head size.
            theta: of the model before any scale, as in :meth:`to_hf`.
        """
        own = OwnRope.of(theta)
        if rope.get("rope_type") == LISTS:
            return float(rope.get("factor", 1.0))
        return self.from_native(rope, own, dim) if self.is_native(own) else 1.0

    def _lists(self, own: OwnRope, dim: int, scale: float, base_window: int) -> dict[str, Any]:
        """A factor for every frequency, which expresses any rule.

        Both lists are the same: a text no longer than L is read at the same frequencies, as in
        training. transformers takes m from ``attention_factor``, vLLM from the two ``mscale``.
        """
        inverse, attention_factor = self.scaled(own, dim, scale, base_window)
        plain = rope(dim, own.theta)
        factors = [
            min(float(f"{before / after:.9g}"), NEVER) if after > 0 else NEVER
            for before, after in zip(plain.tolist(), inverse.tolist(), strict=True)
        ]
        return {
            "rope_type": LISTS,
            "factor": scale,
            "rope_theta": own.theta,
            "original_max_position_embeddings": base_window,
            "short_factor": factors,
            "long_factor": factors,
            "attention_factor": attention_factor,
            "short_mscale": attention_factor,
            "long_mscale": attention_factor,
        }

    def other_settings(self, rope: dict[str, Any]) -> list[str]:
        """Settings in ``rope_parameters`` that make it another rule than this, as ``key=value``."""
        return [
            f"{name}={rope[name]}"
            for name, value in self.hf_settings.items()
            if rope.get(name) is not None and rope[name] != value
        ]


# Keys of rope_parameters that a rule writes: with another scale they go, or are written anew.
WRITTEN = (
    *("type", "rope_type", "factor", "rope_theta", "original_max_position_embeddings"),
    *("low_freq_factor", "high_freq_factor", "truncate"),
    *("short_factor", "long_factor", "attention_factor", "short_mscale", "long_mscale"),
)

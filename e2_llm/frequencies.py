# SPDX-License-Identifier: Apache-2.0
"""RoPE rules: what a scale does to the rotary frequencies, and how Hugging Face writes it.

A rule is one class and a line in :data:`RULES`. Its numbers equal those of transformers'
``ROPE_INIT_FUNCTIONS``, so that what is trained can be served. At g = 1 every rule is the original
RoPE.
"""

import math
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Frequencies(NamedTuple):
    """Inverse frequencies [d / 2], fp32 on the CPU, radians per token, and the attention factor m.

    Cosines and sines are multiplied by m, so that scores grow by m².
    """

    inverse: "Tensor"
    attention_factor: float = 1.0


def rope(dim: int, theta: float) -> "Tensor":
    """The original frequencies θ^(-2i/d), i = 0 .. d/2 - 1 (RoFormer, arXiv 2104.09864, Eq 15)."""
    import torch

    return 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)


class Rule:
    """A RoPE rule.

    Attributes:
        name: as ``--e2-frequencies`` and the ``e2_llm`` block of config.json call it.
        title: for people, with its source.
        hf_type: the ``rope_type`` of transformers that computes it.
        hf_settings: keys of ``rope_parameters`` beside the factor, with the values that this rule
            computes; a model with other values follows another rule.
        has_attention_factor: whether m differs from 1.
        composes_with_linear: whether a linear factor that the pre-trained model has already
            multiplies the scale.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    hf_type: ClassVar[str]
    hf_settings: ClassVar[dict[str, Any]] = {}
    has_attention_factor: ClassVar[bool] = False
    composes_with_linear: ClassVar[bool] = False

    def frequencies(self, dim: int, theta: float, scale: float, base_window: int) -> Frequencies:
        """The frequencies at a scale.

        Args:
            dim: d, the head size.
            theta: θ, the base.
            scale: g = W / L.
            base_window: L, in tokens.
        """
        raise NotImplementedError

    def to_hf(self, dim: int, theta: float, scale: float, base_window: int) -> dict[str, Any]:
        """``rope_parameters`` with which transformers computes :meth:`frequencies`."""
        return {"rope_type": self.hf_type, "factor": scale, "rope_theta": theta}

    def from_hf(self, rope: dict[str, Any], dim: int, theta: float) -> float:
        """The scale that ``rope_parameters`` hold.

        Args:
            rope: what :meth:`to_hf` made, or a model without scaling.
            dim: d, the head size.
            theta: the base before any scaling.
        """
        return float(rope.get("factor", 1.0))

    def other_settings(self, rope: dict[str, Any]) -> list[str]:
        """Settings in ``rope_parameters`` that make it another rule than this, as ``key=value``."""
        return [
            f"{name}={rope[name]}"
            for name, value in self.hf_settings.items()
            if rope.get(name) is not None and rope[name] != value
        ]


class Plain(Rule):
    """The original RoPE: a scale does nothing."""

    name, title, hf_type = "none", "plain RoPE", "default"
    composes_with_linear = True

    def frequencies(self, dim: int, theta: float, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.frequencies`."""
        return Frequencies(rope(dim, theta))


class Linear(Rule):
    """Position interpolation: every frequency divided by g (arXiv 2306.15595, Eq 4)."""

    name, title, hf_type = "linear", "position interpolation (arXiv 2306.15595)", "linear"
    composes_with_linear = True

    def frequencies(self, dim: int, theta: float, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.frequencies`."""
        return Frequencies(rope(dim, theta) / scale)


class NTK(Rule):
    """NTK-aware scaling: a larger base (bloc97, 2023; YaRN, arXiv 2309.00071, section 3.1).

    With the base θ g^(d/(d-2)) the lowest frequency is that of linear interpolation.
    """

    name, title, hf_type = "ntk", "NTK-aware base (arXiv 2309.00071)", "default"

    def theta(self, dim: int, theta: float, scale: float) -> float:
        """The base at a scale."""
        return theta * scale ** (dim / (dim - 2))

    def frequencies(self, dim: int, theta: float, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.frequencies`."""
        return Frequencies(rope(dim, self.theta(dim, theta, scale)))

    def to_hf(self, dim: int, theta: float, scale: float, base_window: int) -> dict[str, Any]:
        """All of the scale is in the base."""
        return {"rope_type": self.hf_type, "rope_theta": self.theta(dim, theta, scale)}

    def from_hf(self, rope: dict[str, Any], dim: int, theta: float) -> float:
        """Undo :meth:`theta`; drawn scales have six decimals."""
        changed = float(rope.get("rope_theta", theta))
        return round((changed / theta) ** ((dim - 2) / dim), 6)


class YaRN(Rule):
    """YaRN: NTK-by-parts with attention temperature (arXiv 2309.00071, sections 3.2 and 3.4).

    Dimensions that turn more than ``beta_fast`` times within L keep their frequency, those that
    turn less than ``beta_slow`` times are interpolated linearly, a ramp lies between (Eq 13; as
    in transformers, its ends are rounded outwards). m = 0.1 ln g + 1 (Eq 15).
    """

    name, title, hf_type = "yarn", "YaRN (arXiv 2309.00071)", "yarn"
    hf_settings: ClassVar[dict[str, Any]] = {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "attention_factor": None,
        "mscale": None,
        "mscale_all_dim": None,
        "truncate": True,
    }
    has_attention_factor = True

    def frequencies(self, dim: int, theta: float, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.frequencies`."""
        import torch

        fast, slow = self.hf_settings["beta_fast"], self.hf_settings["beta_slow"]
        original = rope(dim, theta)
        low = max(math.floor(_dimension_turning(fast, dim, theta, base_window)), 0)
        high = min(math.ceil(_dimension_turning(slow, dim, theta, base_window)), dim - 1)
        width = max(high - low, 0.001)
        ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / width).clamp(0, 1)
        blended = original / scale * ramp + original * (1 - ramp)
        return Frequencies(blended, 0.1 * math.log(scale) + 1.0)

    def to_hf(self, dim: int, theta: float, scale: float, base_window: int) -> dict[str, Any]:
        """The rule needs L, too."""
        plain = super().to_hf(dim, theta, scale, base_window)
        return {**plain, "original_max_position_embeddings": base_window}


def _dimension_turning(turns: float, dim: int, theta: float, window: int) -> float:
    """The (real) index of the dimension whose angle makes ``turns`` turns within a window."""
    return dim * math.log(window / (turns * 2 * math.pi)) / (2 * math.log(theta))


class Llama3(Rule):
    """Llama 3.1's scaling: wavelengths above L / low are interpolated, below L / high kept.

    Between the two a blend, linear in L / wavelength (transformers, ``llama3``).
    """

    name, title, hf_type = "llama3", "Llama 3's frequency scaling", "llama3"
    hf_settings: ClassVar[dict[str, Any]] = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}

    def frequencies(self, dim: int, theta: float, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.frequencies`."""
        low, high = self.hf_settings["low_freq_factor"], self.hf_settings["high_freq_factor"]
        original = rope(dim, theta)
        turns = base_window * original / (2 * math.pi)  # L / wavelength
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        return Frequencies(original * (kept + (1 - kept) / scale))

    def to_hf(self, dim: int, theta: float, scale: float, base_window: int) -> dict[str, Any]:
        """The rule needs L and both factors, too."""
        plain = super().to_hf(dim, theta, scale, base_window)
        return {**plain, "original_max_position_embeddings": base_window, **self.hf_settings}


PLAIN = Plain()
RULES: dict[str, Rule] = {rule.name: rule for rule in (Linear(), NTK(), YaRN(), Llama3())}

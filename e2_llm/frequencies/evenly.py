# SPDX-License-Identifier: Apache-2.0
"""Rules that treat all dimensions alike: by one factor, or by the base."""

from dataclasses import dataclass
from typing import Any

from e2_common.errors import UserError
from e2_llm.frequencies.own import OwnRope
from e2_llm.frequencies.rule import Frequencies, Rule


class Plain(Rule):
    """The RoPE that the model has: a scale does nothing."""

    name, title, hf_type = "none", "plain RoPE", "default"

    def scaled(self, own: OwnRope, dim: int, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.scaled`."""
        return Frequencies(own.inverse(dim))


class Linear(Rule):
    """Position interpolation: every frequency divided by g (arXiv 2306.15595, Eq 4)."""

    name, title, hf_type = "linear", "position interpolation (arXiv 2306.15595)", "linear"

    def scaled(self, own: OwnRope, dim: int, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.scaled`."""
        return Frequencies(own.inverse(dim) / scale)

    def is_native(self, own: OwnRope) -> bool:
        """Linear factors multiply."""
        return own.llama3 is None

    def to_native(self, own: OwnRope, dim: int, scale: float, base_window: int) -> dict[str, Any]:
        """The scale times the model's own factor."""
        return super().to_native(own, dim, scale * own.factor, base_window)

    def from_native(self, rope: dict[str, Any], own: OwnRope, dim: int) -> float | None:
        """The scale without the model's own factor."""
        return float(rope.get("factor", own.factor)) / own.factor


class NTK(Rule):
    """NTK-aware scaling: a larger base (bloc97, 2023; YaRN, arXiv 2309.00071, section 3.1).

    With the base θ g^(d/(d-2)) the lowest frequency is that of linear interpolation.
    """

    name, title, hf_type = "ntk", "NTK-aware base (arXiv 2309.00071)", "default"

    def theta(self, dim: int, theta: float, scale: float) -> float:
        """The base at a scale."""
        return theta * self.alpha(scale) ** (dim / (dim - 2))

    def alpha(self, scale: float) -> float:
        """What the lowest frequency is divided by."""
        return scale

    def scale(self, alpha: float) -> float:
        """Undo :meth:`alpha`."""
        return alpha

    def scaled(self, own: OwnRope, dim: int, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.scaled`."""
        return Frequencies(own.with_theta(dim, self.theta(dim, own.theta, scale)))

    def to_native(self, own: OwnRope, dim: int, scale: float, base_window: int) -> dict[str, Any]:
        """All of the scale is in the base."""
        return {"rope_type": self.hf_type, "rope_theta": self.theta(dim, own.theta, scale)}

    def from_native(self, rope: dict[str, Any], own: OwnRope, dim: int) -> float | None:
        """Undo :meth:`theta`; drawn scales have six decimals."""
        changed = float(rope.get("rope_theta", own.theta))
        return round(self.scale((changed / own.theta) ** ((dim - 2) / dim)), 6)


class DoubleNTK(NTK):
    """The NTK-aware base at 2 g - 1, which CLEX's learned frequencies start from.

    Source: arXiv 2310.16450; DAMO-NLP-SG/CLEX, ``clex_layer.py``.
    """

    name, title = "ntk-2g", "NTK-aware base at 2 g - 1 (CLEX, arXiv 2310.16450)"

    def alpha(self, scale: float) -> float:
        """See :meth:`NTK.alpha`."""
        return 2 * scale - 1

    def scale(self, alpha: float) -> float:
        """See :meth:`NTK.scale`."""
        return (alpha + 1) / 2


@dataclass(frozen=True)
class ABF(Rule):
    """Adjusted base frequency: another base, the same at every scale (arXiv 2309.16039).

    A scale says only how far the positions of training reach, and which window is served.

    Attributes:
        theta: the base that training goes on with.
    """

    theta: float | None = None

    name, title, hf_type = "abf", "adjusted base frequency (arXiv 2309.16039)", "default"
    original_at_one = False
    reads = ("theta",)

    def check(self) -> None:
        """See :meth:`Rule.check`."""
        super().check()
        if not isinstance(self.theta, int | float) or not 1 < self.theta < float("inf"):
            raise UserError(f"--e2-theta {self.theta}: a base of RoPE must be above 1")

    def scaled(self, own: OwnRope, dim: int, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.scaled`."""
        return Frequencies(own.with_theta(dim, self.theta))

    def to_native(self, own: OwnRope, dim: int, scale: float, base_window: int) -> dict[str, Any]:
        """The base alone."""
        return {"rope_type": self.hf_type, "rope_theta": self.theta}

    def from_native(self, rope: dict[str, Any], own: OwnRope, dim: int) -> float | None:
        """It is the same at every scale."""
        return None

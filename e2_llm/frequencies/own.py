# SPDX-License-Identifier: Apache-2.0
"""The RoPE that a pre-trained model has itself, before any scale of ours."""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from e2_common.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def rope(dim: int, theta: float) -> "Tensor":
    """The original frequencies θ^(-2i/d), i = 0 .. d/2 - 1 (RoFormer, arXiv 2104.09864, Eq 15)."""
    import torch

    return 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)


@dataclass(frozen=True)
class Llama3Scaling:
    """The scaling of Llama 3.1 to 3.3: of low frequencies, by how often they turn in a window.

    The defaults are what Megatron's ``--use-rope-scaling`` has built in.

    Attributes:
        factor: by which frequencies of less than ``low`` turns are divided.
        low: turns.
        high: turns from which on frequencies are kept; between both a blend, linear in the turns.
        window: in which turns are counted, in tokens.
    """

    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    window: int = 8192

    def scaled(self, inverse: "Tensor") -> "Tensor":
        """Frequencies [d / 2] under the scaling (transformers, ``llama3``)."""
        turns = self.window * inverse / (2 * math.pi)  # window / wavelength
        kept = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return inverse * (kept + (1 - kept) / self.factor)

    def unscaled(self, reach: float) -> float:
        """The 1 / frequency that becomes ``reach`` under the scaling, both in tokens per radian."""
        radians = self.window / (2 * math.pi)
        if self.factor == 1 or reach <= radians / self.high:
            return reach
        if reach >= self.factor * radians / self.low:
            return reach / self.factor
        # For a frequency p in the blend kept is (radians p - low) / (high - low), which makes
        # p (kept + (1 - kept) / factor) = 1 / reach a quadratic equation.
        rest, width = 1 - 1 / self.factor, self.high - self.low
        a, b = rest * radians / width, 1 / self.factor - rest * self.low / width
        return 2 * a / (math.sqrt(b * b + 4 * a / reach) - b)

    def to_hf(self) -> dict[str, Any]:
        """Keys of ``rope_parameters``."""
        return {
            "rope_type": "llama3",
            "factor": self.factor,
            "original_max_position_embeddings": self.window,
            "low_freq_factor": self.low,
            "high_freq_factor": self.high,
        }

    @classmethod
    def from_hf(cls, rope: dict[str, Any]) -> Self:
        """Read ``rope_parameters`` of type ``llama3``.

        Raises:
            UserError: a key is missing or no number.
        """
        keys = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        values = [rope.get(key) for key in keys]
        for key, value in zip(keys, values, strict=True):
            if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
                raise UserError(f"config.json: llama3 RoPE: {key} is {value!r}, a number is needed")
        factor, low, high, window = values
        if factor < 1 or high <= low:
            raise UserError(
                f"config.json: llama3 RoPE: factor {factor} must be at least 1, and "
                f"high_freq_factor {high} above low_freq_factor {low}"
            )
        return cls(float(factor), float(low), float(high), int(window))


@dataclass(frozen=True)
class OwnRope:
    """The RoPE of a pre-trained model.

    Attributes:
        theta: θ, the base.
        factor: a linear factor that divides all frequencies, 1 without one.
        llama3: a scaling as Llama 3.1 has, None without one.
    """

    theta: float
    factor: float = 1.0
    llama3: Llama3Scaling | None = None

    @classmethod
    def of(cls, theta: "float | Self") -> Self:
        """Plain RoPE of a base; what is one already stays."""
        return theta if isinstance(theta, cls) else cls(float(theta))

    @property
    def is_plain(self) -> bool:
        """Whether it is the original RoPE of its base."""
        return self.factor == 1 and self.llama3 is None

    def inverse(self, dim: int) -> "Tensor":
        """Frequencies [d / 2], fp32 on the CPU, radians per token."""
        inverse = rope(dim, self.theta)
        if self.llama3 is not None:
            inverse = self.llama3.scaled(inverse)
        return inverse / self.factor

    def with_theta(self, dim: int, theta: float) -> "Tensor":
        """Frequencies [d / 2] of another base.

        Where the model has a scaling, each keeps its part of it: the change of the base multiplies
        the own frequency of the dimension.
        """
        changed = rope(dim, theta)
        return changed if self.is_plain else self.inverse(dim) * (changed / rope(dim, self.theta))

    def index_turning(self, turns: float, dim: int, window: int) -> float:
        """The (real) index of the dimension whose angle makes ``turns`` turns within a window.

        Args:
            turns: how many.
            dim: d, the head size.
            window: in tokens.
        """
        reach = window / (turns * 2 * math.pi) / self.factor  # 1 / frequency, without the factor
        if self.llama3 is not None:
            reach = self.llama3.unscaled(reach)
        return dim * math.log(reach) / (2 * math.log(self.theta))

    def to_hf(self) -> dict[str, Any] | None:
        """``rope_parameters`` of the model as it is; None if transformers has no type for it."""
        if self.llama3 is not None:
            rope = None if self.factor != 1 else self.llama3.to_hf()
        elif self.factor != 1:
            rope = {"rope_type": "linear", "factor": self.factor}
        else:
            rope = {"rope_type": "default"}
        return rope and {**rope, "rope_theta": self.theta}

    def scaling(self) -> str:
        """What it has beside its base, for people; empty if nothing."""
        parts = [f"linear factor {self.factor:g}"] if self.factor != 1 else []
        if self.llama3 is not None:
            parts.append(f"llama3 scaling of factor {self.llama3.factor:g}")
        return " and ".join(parts)

    def changed(self, **values: Any) -> Self:
        """A copy with other values."""
        return dataclasses.replace(self, **values)

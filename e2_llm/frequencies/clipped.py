# SPDX-License-Identifier: Apache-2.0
"""Rules that take low frequencies, or all of them, away."""

import math
from typing import ClassVar

from e2_llm.frequencies.evenly import NTK
from e2_llm.frequencies.own import OwnRope
from e2_llm.frequencies.rule import Frequencies, Rule


class CoPE(Rule):
    """CoPE's soft clip: the lowest 20 of 64 frequencies fade to zero (arXiv 2602.05258).

    They are multiplied by half a cosine from 1 to 0, at every scale. The paper clips a model of a
    larger base; here the base of a scale is NTK-aware.
    """

    name, title = "cope", "CoPE's soft clip of an NTK-aware base (arXiv 2602.05258)"
    original_at_one = False
    share: ClassVar[float] = 20 / 64

    def scaled(self, own: OwnRope, dim: int, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.scaled`."""
        import torch

        inverse = own.with_theta(dim, NTK().theta(dim, own.theta, scale))
        clipped = round(self.share * len(inverse))
        fading = 0.5 * (1 + torch.cos(torch.linspace(0, math.pi, clipped)))
        kept = torch.ones(len(inverse) - clipped)
        return Frequencies(inverse * torch.cat((kept, fading)))


class DroPE(Rule):
    """DroPE: no positions at all, every frequency is zero (arXiv 2512.12167)."""

    name, title = "drope", "DroPE, no rotation (arXiv 2512.12167)"
    original_at_one = False

    def scaled(self, own: OwnRope, dim: int, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.scaled`."""
        import torch

        return Frequencies(torch.zeros(dim // 2))

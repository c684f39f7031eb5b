# SPDX-License-Identifier: Apache-2.0
"""Randomized positions (arXiv 2305.16843)."""

from typing import TYPE_CHECKING

from e2_llm.methods.base import PositionMethod
from e2_llm.positions import rotary_positions
from e2_llm.registry import register
from e2_llm.sampler import Draw, random_subset, random_words

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@register
class RandPosMethod(PositionMethod):
    """R of the W positions, sorted, without repetition.

    Frequencies are those of the fixed factor W / L.
    """

    name, title = "randpos", "randomized positions (arXiv 2305.16843)"
    help = "sorted random positions, up to --e2-factor times L"
    reads = ("frequencies", "factor", "draw_per")

    def draw(self, seed: int, index: int) -> Draw:
        """The word that seeds the choice; validation has offset 0 and plain positions."""
        return Draw(self.config.factor, 1, random_words(seed, index)[0])

    def tokens(self, draw: Draw, length: int, device: "torch.device | None" = None) -> "Tensor":
        """Places of a window of ``length`` tokens, fp32 [length]."""
        if draw.offset == 0:
            return rotary_positions(length, device=device)
        import torch

        window = round(draw.scale * self.config.base_window)
        chosen = random_subset(draw.word, length, window)  # [length], sorted
        return torch.from_numpy(chosen).to(device=device, dtype=torch.float32)

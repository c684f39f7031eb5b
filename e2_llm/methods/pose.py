# SPDX-License-Identifier: Apache-2.0
"""PoSE (arXiv 2309.10400)."""

from typing import TYPE_CHECKING

from e2_llm.methods.base import PositionMethod
from e2_llm.positions import max_offset, rotary_positions
from e2_llm.registry import register
from e2_llm.sampler import Draw, below, random_words

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@register
class PoSEMethod(PositionMethod):
    """Two chunks, a random skip between them, up to the target window.

    The first chunk has 1 .. (R + 1) / 2 tokens, the second is moved by u in {0 .. W - R}, both
    uniform. Frequencies are those of the fixed factor W / L.
    """

    name, title = "pose", "PoSE (arXiv 2309.10400)"
    help = "two chunks with a random skip, up to --e2-factor times L"
    reads = ("frequencies", "factor", "draw_per")

    def draw(self, seed: int, index: int) -> Draw:
        """The skip as offset, the word for where the window is cut."""
        cut, skip, _, _ = random_words(seed, index)
        config = self.config
        room = max_offset(config.factor, config.base_window, config.train_window)
        return Draw(config.factor, below(skip, room + 1), cut)

    def tokens(self, draw: Draw, length: int, device: "torch.device | None" = None) -> "Tensor":
        """Places of a window of ``length`` tokens, fp32 [length]."""
        first_chunk = 1 + below(draw.word, (length + 1) // 2)
        return rotary_positions(length, 1.0, draw.offset, first_chunk, device)

    def describe(self, draw: Draw) -> str:
        """Scale and skip."""
        return f"g = {draw.scale:g}, t = {draw.offset}"

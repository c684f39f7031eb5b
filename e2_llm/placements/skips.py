# SPDX-License-Identifier: Apache-2.0
"""Continuous chunks with gaps between them."""

from typing import TYPE_CHECKING

from e2_llm.placements.base import Placement
from e2_llm.positions import rotary_positions
from e2_llm.sampler import Draw, below, random_subset, random_words

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Skip(Placement):
    """PoSE (arXiv 2309.10400): two chunks, the second moved by t ~ U{0..g L - R}.

    The first chunk has 1 .. (R + 1) / 2 tokens, uniform. PoSE's own code also skips text between
    the chunks; here a window is continuous text.
    """

    name, title = "skip", "two chunks (PoSE, arXiv 2309.10400)"
    help = "one cut in the first half of the window, a random skip there (PoSE's)"

    def places(
        self, draw: Draw, length: int, device: "torch.device | str | None" = None
    ) -> "Tensor":
        """See :meth:`Placement.places`."""
        first_chunk = 1 + below(draw.word, (length + 1) // 2)
        return rotary_positions(length, 1.0, draw.offset, first_chunk, device)


class Skips(Placement):
    """Up to N cuts anywhere in the window, with t ~ U{0..g L - R} shared out among them.

    The number of cuts is uniform in {1..N}, every set of that many places alike, and so is every
    way to share t out. Tokens of a chunk stay neighbours; tokens of different chunks are trained at
    any distance up to g L.
    """

    name, title = "skips", "up to N skips between chunks"
    help = "up to --e2-skips cuts anywhere, the skipped room shared out among them"
    reads = ("skips",)

    def places(
        self, draw: Draw, length: int, device: "torch.device | str | None" = None
    ) -> "Tensor":
        """See :meth:`Placement.places`."""
        import numpy as np
        import torch

        places = np.arange(length, dtype=np.float32)
        for cut, moved in zip(*self._chunks(draw, length), strict=True):
            places[cut:] = np.arange(cut, length) + moved
        return torch.from_numpy(places).to(device)

    def _chunks(self, draw: Draw, length: int) -> tuple[list[int], list[int]]:
        """First tokens of all chunks but the first, and by how much each is moved; both sorted."""
        most = min(self.settings.skips, length - 1)
        if most < 1:
            return [], []
        count_word, cut_word, *words = random_words(draw.word, 0, 2 + most)
        count = 1 + below(count_word, most)
        cuts = random_subset(cut_word, count, length - 1) + 1
        moved = sorted(below(word, draw.offset + 1) for word in words[: count - 1])
        return cuts.tolist(), [*moved, draw.offset]

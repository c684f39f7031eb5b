# SPDX-License-Identifier: Apache-2.0
"""Continuous chunks with gaps between them."""

from collections.abc import Sequence
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
        self,
        draw: Draw,
        length: int,
        device: "torch.device | str | None" = None,
        joints: Sequence[int] = (),
    ) -> "Tensor":
        """See :meth:`Placement.places`."""
        first_chunk = 1 + below(draw.word, (length + 1) // 2)
        return rotary_positions(length, 1.0, draw.offset, first_chunk, device)


class Skips(Placement):
    """Up to N cuts anywhere in the window; every chunk is moved by itself.

    The number k of cuts is uniform in {1..N}, and every set of k places alike. The last chunk is
    moved by t, the largest of k numbers from U{0..g L - R}; the others by numbers from U{0..t},
    sorted. One cut is PoSE's skip with the cut anywhere. Tokens of a chunk stay neighbours; tokens
    of different chunks are trained at any distance up to g L.
    """

    name, title = "skips", "up to N skips between chunks"
    help = "up to --e2-skips cuts anywhere, a random skip at each"
    reads = ("skips",)

    def draw(self, scale: float, room: int, offset_word: int, word: int) -> Draw:
        """See :meth:`Placement.draw`."""
        count, _, largest, _ = self._words(word)
        offset = max(below(each, room + 1) for each in (offset_word, *largest[: count - 1]))
        return Draw(scale, offset, word, self.name)

    def places(
        self,
        draw: Draw,
        length: int,
        device: "torch.device | str | None" = None,
        joints: Sequence[int] = (),
    ) -> "Tensor":
        """See :meth:`Placement.places`."""
        import numpy as np
        import torch

        count, cut_word, _, others = self._words(draw.word)
        count = min(count, length - 1)
        places = np.arange(length, dtype=np.float32)
        if count > 0:
            moved = sorted(below(each, draw.offset + 1) for each in others[: count - 1])
            cuts = random_subset(cut_word, count, length - 1) + 1
            for cut, shift in zip(cuts, [*moved, draw.offset], strict=True):
                places[cut:] = np.arange(cut, length) + shift
        return torch.from_numpy(places).to(device)

    def _words(self, word: int) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
        """k, a word for the cuts, and N - 1 words each for the largest shift and the others."""
        most = self.settings.skips
        count_word, cut_word, *words = random_words(word, 0, 2 * most)
        return (
            1 + below(count_word, most),
            cut_word,
            tuple(words[: most - 1]),
            tuple(words[most - 1 :]),
        )

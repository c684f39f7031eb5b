# SPDX-License-Identifier: Apache-2.0
"""Tokens scattered over the extended window: no two of them need be neighbours."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from e2_llm.placements.base import Placement
from e2_llm.sampler import Draw, random_fractions, random_subset

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


class Scattered(Placement):
    """What the scattered placements share: the whole room is used, the word chooses."""

    def draw(self, scale: float, room: int, offset_word: int, word: int) -> Draw:
        """See :meth:`Placement.draw`; the offset is the farthest that the last token can be."""
        return Draw(scale, room, word, self.name)

    def places(
        self,
        draw: Draw,
        length: int,
        device: "torch.device | str | None" = None,
        joints: Sequence[int] = (),
    ) -> "Tensor":
        """See :meth:`Placement.places`.

        RoPE sees distances only, so the smallest place is taken off.
        """
        import numpy as np
        import torch

        places = self._chosen(draw, length, length + draw.offset)
        return torch.from_numpy((places - places[0]).astype(np.float32)).to(device)

    def _chosen(self, draw: Draw, length: int, window: int) -> "np.ndarray":
        """Sorted places [length] in 0 .. window - 1."""
        raise NotImplementedError

    def describe(self, draw: Draw) -> str:
        """The scale."""
        return f"g = {draw.scale:g}"


class Random(Scattered):
    """R of the g L places, every set alike (arXiv 2305.16843, section 3)."""

    name, title = "random", "random places (arXiv 2305.16843)"
    help = "R of the g L places, sorted (randomized positions)"

    def _chosen(self, draw: Draw, length: int, window: int) -> "np.ndarray":
        return random_subset(draw.word, length, window)


class RandomWithEnds(Scattered):
    """Random places, the first 0 and the last g L - 1.

    The sampling of CLEX (arXiv 2310.16450; DAMO-NLP-SG/CLEX, ``clex_layer.py``).
    """

    name, title = "random-ends", "random places with both ends (CLEX, arXiv 2310.16450)"
    help = "as random, with the first and the last place always taken (CLEX's)"

    def _chosen(self, draw: Draw, length: int, window: int) -> "np.ndarray":
        import numpy as np

        if length < 3:
            return np.linspace(0, window - 1, length)
        inner = random_subset(draw.word, length - 2, window - 2) + 1
        return np.concatenate(([0], inner, [window - 1]))


class Float(Scattered):
    """R real places, uniform in [0, g L), sorted (random float sampling, arXiv 2602.14050)."""

    name, title = "float", "real places (random float sampling, arXiv 2602.14050)"
    help = "R real places in [0, g L), sorted (random float sampling)"

    def _chosen(self, draw: Draw, length: int, window: int) -> "np.ndarray":
        import numpy as np

        # Without room the tokens stay where they are, as with every placement.
        if draw.offset == 0:
            return np.arange(length)
        reals = np.sort(random_fractions(draw.word, length)) * window
        return np.minimum(reals, np.nextafter(np.float32(window), np.float32(0)))  # fp32 rounds up

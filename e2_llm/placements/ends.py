# SPDX-License-Identifier: Apache-2.0
"""Placements that hold the end of the extended window fast."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from e2_llm.placements.base import Placement
from e2_llm.positions import rotary_positions
from e2_llm.sampler import Draw, below, fraction, random_words

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TAIL = 20  # tokens at the end: about the prompt that EndPrompt appends
SIGMA = 3.0  # of CREAM's Gaussian, in half windows
_GRID = 1000  # points of CREAM's table of the Gaussian


class Tail(Placement):
    """EndPrompt (arXiv 2605.14589): all places plain but the last 20, which end at g L - 1.

    The paper appends a prompt of about that length; here it is the window's own last tokens.
    """

    name, title = "tail", "the end moved to the end (EndPrompt, arXiv 2605.14589)"
    help = f"the last {TAIL} tokens lie at the end of the extended window (EndPrompt's)"
    repeats = True

    def draw(self, scale: float, room: int, offset_word: int, word: int) -> Draw:
        """See :meth:`Placement.draw`; nothing is random."""
        return Draw(scale, room, 0, self.name)

    def places(
        self,
        draw: Draw,
        length: int,
        device: "torch.device | str | None" = None,
        joints: Sequence[int] = (),
    ) -> "Tensor":
        """See :meth:`Placement.places`."""
        return rotary_positions(length, 1.0, draw.offset, max(1, length - TAIL), device)


class HeadMiddleTail(Placement):
    """CREAM (arXiv 2406.07138, section 3; bigai-nlco/CREAM, ``train.py``): three chunks.

    Head and tail are fixed, both R / 3 or both 4 g tokens by a coin. The middle chunk ends at a
    place that is uniform below k half windows, with k from a Gaussian about the middle of the
    extended window, truncated to 2 .. 2 g.
    """

    name, title = "cream", "head, middle, tail (CREAM, arXiv 2406.07138)"
    help = "fixed head and tail, the middle drawn about the middle (CREAM's)"

    def draw(self, scale: float, room: int, offset_word: int, word: int) -> Draw:
        """See :meth:`Placement.draw`; the tail always lies at the end."""
        return Draw(scale, room, word, self.name)

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

        if draw.offset == 0 or length < 3:  # too short for three chunks
            return rotary_positions(length, device=device)
        coin, half_windows, place, _ = random_words(draw.word, 0)
        scale = (length + draw.offset) / length  # that of the window that is used
        head = length // 3
        if below(coin, 2) == 1:
            head = max(1, min(4 * round(scale), head))
        middle = length - 2 * head
        first = self._middle_end(scale, length, head, middle, half_windows, place) - middle + 1
        places = np.arange(length, dtype=np.float32)
        places[head : head + middle] = np.arange(first, first + middle)
        places[head + middle :] += draw.offset
        return torch.from_numpy(places).to(device)

    @staticmethod
    def _middle_end(
        scale: float, length: int, head: int, middle: int, half_windows: int, place: int
    ) -> int:
        """The last place of the middle chunk."""
        import numpy as np

        grid = np.linspace(2, 2 * scale, _GRID)
        below_it = [(point - 1 - scale) / (SIGMA * math.sqrt(2)) for point in grid]
        cumulative = [0.5 * (1 + math.erf(value)) for value in below_it]
        drawn = int(np.interp(fraction(half_windows), cumulative, grid))  # 2 .. 2 g
        first = int(head + (middle - 1) * drawn / 2)
        last = int(drawn / 2 * length) - head - 1
        return first + below(place, max(1, last - first + 1))

# SPDX-License-Identifier: Apache-2.0
"""No placement, and the paper's: one offset for all tokens but the first few."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from e2_llm.placements.base import Placement
from e2_llm.positions import rotary_positions
from e2_llm.sampler import Draw

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Plain(Placement):
    """Tokens stay where they are: an ablation, and the placement of other methods."""

    name, title = "plain", "plain positions"
    help = "tokens stay where they are"
    repeats = True

    def draw(self, scale: float, room: int, offset_word: int, word: int) -> Draw:
        """See :meth:`Placement.draw`."""
        return Draw(scale, 0, 0, self.name)

    def places(
        self,
        draw: Draw,
        length: int,
        device: "torch.device | str | None" = None,
        joints: Sequence[int] = (),
    ) -> "Tensor":
        """See :meth:`Placement.places`."""
        return rotary_positions(length, device=device)


class Offset(Placement):
    """t ~ U{0..g L - R} moves all but the first four tokens (arXiv 2401.06951, Eq 7).

    Only scores with those four change: of two other tokens none is farther apart than R.
    """

    name, title = "offset", "one offset (arXiv 2401.06951)"
    help = "all but the first --e2-keep-first tokens are moved by one offset (the paper)"
    reads = ("keep_first",)
    repeats = True

    def places(
        self,
        draw: Draw,
        length: int,
        device: "torch.device | str | None" = None,
        joints: Sequence[int] = (),
    ) -> "Tensor":
        """See :meth:`Placement.places`."""
        return rotary_positions(length, 1.0, draw.offset, self.settings.keep_first, device)

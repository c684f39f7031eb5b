# SPDX-License-Identifier: Apache-2.0
"""Other methods that draw the scale, each with its own distribution, frequencies and placement.

Their own code trains windows of R = L, and of R = k L as well.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from e2_llm.methods.sampled import SampledScaleMethod
from e2_llm.positions import max_offset
from e2_llm.registry import register
from e2_llm.sampler import Draw

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@register
class GeNEMethod(SampledScaleMethod):
    """GeNE (Findings of ACL 2024): a whole scale, a quarter at either end; no offset.

    Frequency i is divided by g^w, w rising from 0 to 1 up to the first dimension that turns fewer
    than three times within L. A window of R > L tokens needs k = ceil(R / L), and g is k times a
    number from 1 to G_max / k.
    """

    name, title = "gene", "GeNE (Findings of ACL 2024; LhLi-QED/GeNE)"
    help = "the scale is drawn, mostly the smallest and the largest; geometric ramp (GeNE)"
    reads = ("max_scale", "draw_per")
    distribution_name, rule_name, placement_name = "ends-heavy", "gene", "plain"

    @property
    def smallest_scale(self) -> float:
        """That of the training window, k; all others are its multiples."""
        return self.serving_scale(self.config.train_window)

    @property
    def largest_scale(self) -> float:
        """The largest multiple of k up to G_max; G_max itself where that holds no window."""
        smallest = int(self.smallest_scale)
        return self.config.max_scale // smallest * smallest or self.config.max_scale

    def draw_scale(self, word: int, share_word: int) -> float:
        """See :meth:`SampledScaleMethod.draw_scale`."""
        smallest = int(self.smallest_scale)
        return smallest * self.distribution.draw(word, 1.0, self.config.max_scale // smallest)


@register
class CLEXMethod(SampledScaleMethod):
    """CLEX (arXiv 2310.16450) without its learned part: a whole scale, random places with ends.

    The frequencies are those of the NTK-aware base at 2 g - 1, which CLEX's learned ones start
    from. With R = k L the places are whole multiples of 1 / k, so that at g = 1 a window of R
    tokens fills the L places.
    """

    name, title = "clex", "CLEX's sampling, without its learned frequencies (arXiv 2310.16450)"
    help = "the scale is drawn, and random places; NTK-aware base at 2 g - 1 (CLEX's sampling)"
    reads = ("max_scale", "draw_per")
    distribution_name, rule_name, placement_name = "uniform-integer", "ntk-2g", "random-ends"

    @property
    def smallest_window(self) -> float:
        """See :attr:`PositionMethod.smallest_window`; places may lie 1 / k apart."""
        return self._places_per_token * super().smallest_window

    def tokens(
        self,
        draw: Draw,
        length: int,
        device: "torch.device | None" = None,
        joints: Sequence[int] = (),
    ) -> "Tensor":
        """See :meth:`PositionMethod.tokens`."""
        dense = self._places_per_token
        if draw.placement != self.placement_name or dense == 1:
            return super().tokens(draw, length, device, joints)
        room = max_offset(dense * draw.scale, self.config.base_window, length)
        return super().tokens(draw._replace(offset=room), length, device, joints) / dense

    @property
    def _places_per_token(self) -> int:
        """How many places there are between two neighbouring tokens of L: k, R / L rounded down."""
        return max(1, self.config.train_window // self.config.base_window)

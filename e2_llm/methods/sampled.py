# SPDX-License-Identifier: Apache-2.0
"""Methods that draw the scale itself, so that one checkpoint serves any window."""

from functools import cached_property
from typing import ClassVar

from e2_llm.methods.base import PositionMethod
from e2_llm.placements import Share, choose, parse_mixture
from e2_llm.sampler import Draw, fraction, random_words
from e2_llm.scales import DISTRIBUTIONS, Distribution


class SampledScaleMethod(PositionMethod):
    """g is drawn, then a placement, then places; see the fields of E2Config for the choices.

    A subclass that fixes a choice says so in ``distribution_name`` or ``placement_name``, and
    leaves the field out of ``reads``.

    Attributes:
        distribution_name: of the scales; None: as configured.
        placement_name: where tokens are placed; None: as configured.
    """

    serves_any_window = True
    distribution_name: ClassVar[str | None] = None
    placement_name: ClassVar[str | None] = None

    @property
    def distribution(self) -> Distribution:
        """How a scale is drawn."""
        return DISTRIBUTIONS[self.distribution_name or self.config.scale_distribution]

    @cached_property  # asked for every draw
    def mixture(self) -> tuple[Share, ...]:
        """Where tokens are placed."""
        return parse_mixture(self.placement_name or self.config.placement)

    @property
    def placements(self) -> tuple[str, ...]:
        """Those of the mixture."""
        return tuple(part.name for part in self.mixture)

    @property
    def smallest_scale(self) -> float:
        """With whole scales ``--e2-min-scale`` rounded up."""
        smallest = self.config.min_scale
        return float(-(-smallest // 1)) if self.distribution.whole else smallest

    @property
    def largest_scale(self) -> float:
        """G_max."""
        return self.config.max_scale

    @property
    def flag_of_largest_scale(self) -> str:
        """The flag that sets :attr:`largest_scale`."""
        return "--e2-max-scale"

    @property
    def trained_scale(self) -> float | None:
        """None: training meets many scales."""
        return None

    @property
    def whole_scales(self) -> bool:
        """As the distribution."""
        return self.distribution.whole

    def draw(self, seed: int, index: int) -> Draw:
        """The draw of the sample with number ``index``: scale, placement, places."""
        # The order of the words must never change: a run has to resume with the same draws.
        scale_word, offset_word, share_word, placement_word, word, *_ = random_words(seed, index, 8)
        scale = self.draw_scale(scale_word, share_word)
        placement = self.placement(choose(self.mixture, placement_word))
        room = placement.room(scale, self.reach(index))
        return placement.draw(scale, room, offset_word, word)

    def draw_scale(self, word: int, share_word: int) -> float:
        """Map two 64-bit words to a scale.

        Args:
            word: for the distribution.
            share_word: for whether the smallest scale is taken instead.
        """
        if fraction(share_word) < self.config.base_share:
            return self.smallest_scale
        return self.distribution.draw(word, self.smallest_scale, self.config.max_scale)

    def validation_draw(self) -> Draw:
        """t = 0 at the smallest scale of training that holds a training window."""
        return Draw(max(self.smallest_scale, self.serving_scale(self.config.train_window)), 0)

    def summary(self) -> str:
        """The windows, and the scales."""
        return f"{super().summary()}, {self.scales()}"

    def scales(self) -> str:
        """The scales that are drawn, in a few words."""
        top = int(self.largest_scale)
        return f"g up to {top} ({top * self.config.base_window:,} tokens)"

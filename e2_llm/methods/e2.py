# SPDX-License-Identifier: Apache-2.0
"""E2-LLM (arXiv 2401.06951), with any rule for the frequencies and three ways to draw a scale."""

import math
from typing import TYPE_CHECKING

from e2_common.errors import UserError
from e2_llm.frequencies import PLAIN, Frequencies, OwnRope
from e2_llm.methods.base import PositionMethod
from e2_llm.positions import max_offset, rotary_positions
from e2_llm.registry import register
from e2_llm.sampler import Draw, below, fraction, random_words

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WHOLE = "uniform-integer"  # the one distribution of whole scales, the paper's


@register
class E2Method(PositionMethod):
    """Scale g and offset t are drawn, t leaves the first tokens alone.

    The paper's frequencies are linear: positions m / g, (m + t) / g (Eq 5 and 7). With another
    rule the positions are m, m + t and g sets the window of that rule.
    """

    name = "e2"
    title = (
        "E2-LLM: scale g and position offset t drawn anew for every {unit} "
        "([arXiv 2401.06951](https://arxiv.org/abs/2401.06951))"
    )
    help = "scale and offset are drawn while training (E2-LLM)"
    reads = (
        "frequencies",
        "max_scale",
        "min_scale",
        "scale_distribution",
        "base_share",
        "keep_first",
        "no_offset",
        "fixed_scale",
        "draw_per",
    )
    serves_any_window = True

    def check(self) -> None:
        """Refuse an empty range of scales, and a range beside a fixed scale."""
        config = self.config
        if math.ceil(config.min_scale) > config.max_scale:
            raise UserError(
                f"--e2-min-scale {config.min_scale:g} is above --e2-max-scale {config.max_scale}"
            )
        if config.fixed_scale:
            for name in ("max_scale", "min_scale", "scale_distribution", "base_share"):
                if config.is_given(name):
                    flag = f"--e2-{name.replace('_', '-')}"
                    raise UserError(f"{flag} and --e2-fixed-scale exclude each other")

    @property
    def smallest_scale(self) -> float:
        """With whole scales ``--e2-min-scale`` rounded up."""
        config = self.config
        if config.fixed_scale:
            return config.fixed_scale
        whole = config.scale_distribution == WHOLE
        return float(math.ceil(config.min_scale)) if whole else config.min_scale

    @property
    def largest_scale(self) -> float:
        """G_max, or the one scale of the ablation."""
        return self.config.fixed_scale or self.config.max_scale

    @property
    def flag_of_largest_scale(self) -> str:
        """The flag that sets :attr:`largest_scale`."""
        return "--e2-fixed-scale" if self.config.fixed_scale else "--e2-max-scale"

    @property
    def trained_scale(self) -> float | None:
        """That of the ablation without augmentation on g."""
        return self.config.fixed_scale

    def draw(self, seed: int, index: int) -> Draw:
        """Scale uniform over {1..G_max} (Eq 6) or as configured, t over {0..g L - R} (Eq 7)."""
        scale_word, offset_word, share_word, _ = random_words(seed, index)
        scale = self._scale(scale_word, share_word)
        if self.config.no_offset:
            return Draw(scale, 0)
        room = max_offset(scale, self.config.base_window, self.config.train_window)
        return Draw(scale, below(offset_word, room + 1))

    def _scale(self, word: int, share_word: int) -> float:
        config = self.config
        if config.fixed_scale:
            return config.fixed_scale
        smallest, largest = self.smallest_scale, config.max_scale
        if fraction(share_word) < config.base_share:
            return smallest
        if config.scale_distribution == "uniform":
            scale = smallest + (largest - smallest) * fraction(word)
        elif config.scale_distribution == "log-uniform":
            scale = smallest * (largest / smallest) ** fraction(word)
        else:
            integers = range(int(smallest), largest + 1)
            return float(integers[below(word, len(integers))])
        # Six decimals: the last bits of pow() differ between machines, the draw must not.
        return round(scale, 6)

    def validation_draw(self) -> Draw:
        """t = 0 at the smallest scale of training that holds a training window."""
        fitting = self.serving_scale(self.config.train_window)
        return Draw(self.config.fixed_scale or max(self.smallest_scale, fitting), 0)

    def tokens(self, draw: Draw, length: int, device: "torch.device | None" = None) -> "Tensor":
        """Places m of the kept tokens, m + t of the others, fp32 [length]."""
        return rotary_positions(length, 1.0, draw.offset, self.config.keep_first, device)

    def positions(self, draw: Draw, length: int, device: "torch.device | None" = None) -> "Tensor":
        """Positions of a window of ``length`` tokens, fp32 [length]."""
        tokens = self.tokens(draw, length, device)
        return tokens / draw.scale if self._divides() else tokens

    def frequencies(self, draw: Draw, dim: int, theta: float | OwnRope) -> Frequencies:
        """Frequencies [d / 2]; for the linear rule the positions carry the scale already."""
        if self._divides():
            return PLAIN.frequencies(dim, theta, draw.scale, self.config.base_window)
        return super().frequencies(draw, dim, theta)

    def _divides(self) -> bool:
        """Whether g divides positions, as the paper writes it, instead of frequencies."""
        return self.rule.name == "linear"

    @property
    def whole_scales(self) -> bool:
        """As the distribution, or the one scale of the ablation."""
        fixed = self.config.fixed_scale
        return float(fixed).is_integer() if fixed else self.config.scale_distribution == WHOLE

    def describe(self, draw: Draw) -> str:
        """Scale and offset."""
        return f"g = {draw.scale:g}, t = {draw.offset}"

    def summary(self) -> str:
        """The windows, and the scales that are drawn."""
        if self.config.fixed_scale:
            return f"{super().summary()}, g fixed at {self.config.fixed_scale:g}"
        top = self.config.max_scale
        return f"{super().summary()}, g up to {top} ({top * self.config.base_window:,} tokens)"

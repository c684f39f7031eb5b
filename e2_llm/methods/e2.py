# SPDX-License-Identifier: Apache-2.0
"""E2-LLM (arXiv 2401.06951), with any rule for the frequencies, distribution and placement."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from e2_common.errors import UserError
from e2_llm.config import flag_name
from e2_llm.frequencies import PLAIN, Frequencies, OwnRope
from e2_llm.methods.sampled import SampledScaleMethod
from e2_llm.placements import PLACEMENTS, READ_BY_PLACEMENTS, Share, parse_mixture
from e2_llm.registry import register
from e2_llm.sampler import Draw

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STAY = (Share("plain", 1.0),)


@register
class E2Method(SampledScaleMethod):
    """Three independent choices: how g is drawn, what it does to the frequencies, where tokens lie.

    The paper's are uniform integers, linear frequencies and one offset: positions m / g and
    (m + t) / g (Eq 5 and 7). With another rule the positions are m, m + t and g sets the window of
    that rule.
    """

    name = "e2"
    title = (
        "E2-LLM: scale g and places of the tokens drawn anew for every {unit} "
        "([arXiv 2401.06951](https://arxiv.org/abs/2401.06951))"
    )
    help = "scale and places are drawn while training (E2-LLM)"
    reads = (
        "frequencies",
        "max_scale",
        "min_scale",
        "scale_distribution",
        "base_share",
        "placement",
        "skips",
        "keep_first",
        "sentence_ends",
        "curriculum",
        "no_offset",
        "fixed_scale",
        "draw_per",
    )

    def check(self) -> None:
        """Refuse an empty range of scales, and choices that exclude each other."""
        config = self.config
        if math.ceil(config.min_scale) > config.max_scale:
            raise UserError(
                f"--e2-min-scale {config.min_scale:g} is above --e2-max-scale {config.max_scale}"
            )
        if config.fixed_scale:
            for name in ("max_scale", "min_scale", "scale_distribution", "base_share"):
                if config.is_given(name):
                    raise UserError(f"{flag_name(name)} and --e2-fixed-scale exclude each other")
        if config.no_offset:
            for name in ("placement", *READ_BY_PLACEMENTS, "curriculum"):
                if config.is_given(name):
                    raise UserError(f"{flag_name(name)} and --e2-no-offset exclude each other")
        placements = [PLACEMENTS[part.name] for part in self.mixture]
        for name in READ_BY_PLACEMENTS:
            if config.is_given(name) and not any(name in part.reads for part in placements):
                readers = [part.name for part in PLACEMENTS.values() if name in part.reads]
                raise UserError(
                    f"{flag_name(name)} is only for --e2-placement {', '.join(readers)}, "
                    f"not {config.placement}"
                )

    @cached_property
    def mixture(self) -> tuple[Share, ...]:
        """As configured; without an offset the tokens stay where they are."""
        return STAY if self.config.no_offset else parse_mixture(self.config.placement)

    @property
    def smallest_scale(self) -> float:
        """That of the distribution, or the one scale of the ablation."""
        return self.config.fixed_scale or super().smallest_scale

    @property
    def largest_scale(self) -> float:
        """G_max, or the one scale of the ablation."""
        return self.config.fixed_scale or super().largest_scale

    @property
    def flag_of_largest_scale(self) -> str:
        """The flag that sets :attr:`largest_scale`."""
        return "--e2-fixed-scale" if self.config.fixed_scale else super().flag_of_largest_scale

    @property
    def trained_scale(self) -> float | None:
        """That of the ablation without augmentation on g."""
        return self.config.fixed_scale

    def draw_scale(self, word: int, share_word: int) -> float:
        """As the distribution, or the one scale of the ablation."""
        return self.config.fixed_scale or super().draw_scale(word, share_word)

    def validation_draw(self) -> Draw:
        """t = 0 at the smallest scale of training that holds a training window."""
        fixed = self.config.fixed_scale
        return Draw(fixed, 0) if fixed else super().validation_draw()

    def positions(
        self,
        draw: Draw,
        length: int,
        device: "torch.device | None" = None,
        joints: Sequence[int] = (),
    ) -> "Tensor":
        """Positions of a window of ``length`` tokens, fp32 [length]."""
        tokens = self.tokens(draw, length, device, joints)
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
    def kept_tokens(self) -> int | None:
        """With the paper's placement, perhaps among others."""
        offset = any(part.name == "offset" for part in self.mixture)
        return self.config.keep_first if offset else None

    @property
    def placed(self) -> str | None:
        """As configured."""
        config = self.config
        if config.no_offset:
            return None
        up_to = f" (up to {config.skips} skips)" if "skips" in config.placement else ""
        return config.placement + up_to

    @property
    def whole_scales(self) -> bool:
        """As the distribution, or the one scale of the ablation."""
        fixed = self.config.fixed_scale
        return float(fixed).is_integer() if fixed else super().whole_scales

    def summary(self) -> str:
        """The windows, the scales, and the placement."""
        return super().summary() + (f", placement {self.placed}" if self.placed else "")

    def scales(self) -> str:
        """Those that are drawn, or the one of the ablation."""
        fixed = self.config.fixed_scale
        return f"g fixed at {fixed:g}" if fixed else super().scales()

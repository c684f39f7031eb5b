# SPDX-License-Identifier: Apache-2.0
"""What a position method is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from e2_llm.config import E2Config
from e2_llm.frequencies import RULES, Frequencies, OwnRope, Rule
from e2_llm.placements import PLACEMENTS, Placement, Settings
from e2_llm.sampler import Draw
from e2_llm.serving import serving_scale

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class PositionMethod:
    """What is drawn for a training window, where its tokens lie, and at which frequencies.

    This class itself is plain positions at the frequencies of one fixed factor: what is served is
    what is trained. A subclass changes what differs.

    Attributes:
        name: as ``--position-method`` takes it.
        title: for the model card, with its source; ``{unit}`` is what shares a draw.
        help: for ``--help``, a few words.
        reads: fields of the configuration that the method reads beside the windows; giving
            another's is refused.
        serves_any_window: whether a trained model serves windows at other scales than one.
        rule_name: the rule of the frequencies; None: as configured.
        stages: of the curriculum, where ``--e2-curriculum`` is not given.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    help: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ("factor",)
    serves_any_window: ClassVar[bool] = False
    rule_name: ClassVar[str | None] = None
    stages: ClassVar[tuple[float, ...]] = ()

    def __init__(self, config: E2Config) -> None:
        self.config = config

    @classmethod
    def draws(cls) -> bool:
        """Whether anything is random: the method then reads what shares a draw."""
        return "draw_per" in cls.reads

    @classmethod
    def draws_scale(cls) -> bool:
        """Whether the scale itself can be drawn."""
        return "max_scale" in cls.reads

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            UserError: naming the flag.
        """

    @property
    def rule(self) -> Rule:
        """What a scale does to the frequencies."""
        return RULES[self.rule_name or self.config.frequencies].configured(self.config)

    @property
    def smallest_scale(self) -> float:
        """The smallest scale that training meets."""
        return self.config.factor

    @property
    def largest_scale(self) -> float:
        """The largest scale that training meets."""
        return self.config.factor

    @property
    def flag_of_largest_scale(self) -> str:
        """The flag that sets :attr:`largest_scale`."""
        return "--e2-factor"

    @property
    def trained_scale(self) -> float | None:
        """The one scale of training, None if it meets many."""
        return self.config.factor

    @property
    def largest_window(self) -> float:
        """The longest window in tokens that a scale makes room for."""
        return int(self.largest_scale * self.config.base_window)

    @property
    def smallest_window(self) -> float:
        """The longest window in tokens that every scale of training makes room for."""
        return self.smallest_scale * self.config.base_window

    def draw(self, seed: int, index: int) -> Draw:
        """The draw of the sample with number ``index``."""
        return self.validation_draw()

    def validation_draw(self) -> Draw:
        """The draw of validation on training windows: t = 0, and the scale that they need."""
        return Draw(self.serving_scale(self.config.train_window), 0)

    def tokens(
        self,
        draw: Draw,
        length: int,
        device: "torch.device | None" = None,
        joints: Sequence[int] = (),
    ) -> "Tensor":
        """Places of a training window's tokens in the extended window.

        Args:
            draw: of this method.
            length: tokens of the window.
            device: where to put the result.
            joints: of the window, of the kind that the drawn placement needs.

        Returns:
            fp32 [length], sorted, the first 0.
        """
        return self.placement(draw.placement).places(draw, length, device, joints)

    def positions(
        self,
        draw: Draw,
        length: int,
        device: "torch.device | None" = None,
        joints: Sequence[int] = (),
    ) -> "Tensor":
        """Positions, fp32 [length], that are multiplied by :meth:`frequencies`.

        The arguments are those of :meth:`tokens`.
        """
        return self.tokens(draw, length, device, joints)

    def frequencies(self, draw: Draw, dim: int, theta: float | OwnRope) -> Frequencies:
        """Frequencies [d / 2] of a model.

        Args:
            draw: its scale counts.
            dim: d, the head size.
            theta: the base, or the whole RoPE of a model that has more than a base.
        """
        return self.rule.frequencies(dim, theta, draw.scale, self.config.base_window)

    @property
    def placements(self) -> tuple[str, ...]:
        """The placements that :meth:`draw` chooses from, by name."""
        return ()

    @property
    def joints(self) -> tuple[str, ...]:
        """The kinds of joints that its placements need, which a run has to find in its text."""
        kinds = {PLACEMENTS[name].joints for name in self.placements}
        return tuple(sorted(kind for kind in kinds if kind))

    def example_joints(self, draw: Draw, length: int) -> list[int]:
        """Joints of a made-up window, of the kind that the drawn placement needs."""
        return self.placement(draw.placement).example_joints(length, draw.word)

    def placement(self, name: str) -> Placement:
        """A placement by name, for the windows of this run."""
        config = self.config
        settings = Settings(
            config.base_window, config.train_window, config.keep_first, config.skips
        )
        return PLACEMENTS[name](settings)

    def reach(self, index: int) -> float:
        """The share of the extended window that the sample with number ``index`` may use.

        A curriculum divides the planned samples of the run into equal stages.
        """
        stages = self.config.curriculum or self.stages
        if not stages or not self.config.planned_samples:
            return 1.0
        done = min(index, self.config.planned_samples - 1)
        return stages[done * len(stages) // self.config.planned_samples]

    @property
    def kept_tokens(self) -> int | None:
        """How many leading tokens an offset leaves alone; None if there is none."""
        return None

    @property
    def placed(self) -> str | None:
        """Where tokens are placed, as ``--e2-placement`` says it; None if that is no choice."""
        return None

    @property
    def whole_scales(self) -> bool:
        """Whether windows are served at whole scales, since training met no others."""
        return False

    def serving_scale(self, window: int) -> float:
        """The scale at which a window of ``window`` tokens is served.

        The trained one, or what the window needs if the model serves any.
        """
        if not self.serves_any_window:
            return self.config.factor
        return serving_scale(window, self.config.base_window, whole=self.whole_scales)

    def describe(self, draw: Draw) -> str:
        """A draw in a few characters, for pictures."""
        drawn = self.placement(draw.placement)
        return drawn.describe(draw) if self.draws() else f"g = {draw.scale:g}"

    def summary(self) -> str:
        """The method and its windows in one line, for the start of a run."""
        return f"{self.name}, L = {self.config.base_window}, R = {self.config.train_window}"

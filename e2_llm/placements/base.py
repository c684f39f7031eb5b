# SPDX-License-Identifier: Apache-2.0
"""What a placement is: where the tokens of a training window lie in the extended one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from e2_llm.positions import max_offset
from e2_llm.sampler import Draw, below

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Settings(NamedTuple):
    """What placements are made from; windows in tokens.

    Attributes:
        base_window: L.
        train_window: R.
        keep_first: leading tokens that an offset leaves alone.
        skips: N, the most cuts of a window.
    """

    base_window: int
    train_window: int
    keep_first: int = 4
    skips: int = 8


class Placement:
    """A way to place the R tokens of a window among the g L of the extended one.

    Places are sorted, the first is 0 and the last is below g L. Since RoPE is relative, only the
    distances between places matter: a placement decides which of them training meets.

    Attributes:
        name: as ``--e2-placement`` takes it.
        title: for the model card, with its source.
        help: for ``--help``, a few words.
        reads: fields of the configuration that it reads beside the windows.
        repeats: whether two windows with one scale and offset are alike.
        joints: the kind of joints that it cuts a window at, which a run has to find in its text;
            None: it needs none. A joint is a token that begins a piece of the text, by its number.
        apart: tokens between two such joints, about, where no text is at hand.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    help: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()
    repeats: ClassVar[bool] = False
    joints: ClassVar[str | None] = None
    apart: ClassVar[int] = 0

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def room(self, scale: float, reach: float = 1.0) -> int:
        """How far the last token can be moved: g L - R, or less of it.

        Args:
            scale: g.
            reach: the share of the extended window that may be used.
        """
        return max_offset(scale * reach, self.settings.base_window, self.settings.train_window)

    def draw(self, scale: float, room: int, offset_word: int, word: int) -> Draw:
        """Choose what :meth:`places` needs.

        Args:
            scale: g, drawn already.
            room: how far the last token can be moved at most, in tokens.
            offset_word: 64 uniform bits for how far it is moved.
            word: 64 uniform bits for anything else.

        Returns:
            A draw whose ``offset`` says how far the last token is moved, at most.
        """
        offset = below(offset_word, room + 1)
        return Draw(scale, offset, 0 if self.repeats else word, self.name)

    def places(
        self,
        draw: Draw,
        length: int,
        device: "torch.device | str | None" = None,
        joints: Sequence[int] = (),
    ) -> "Tensor":
        """Places of a window's tokens in the extended one.

        Args:
            draw: of :meth:`draw`.
            length: tokens of the window.
            device: where to put the result.
            joints: of that very window, ascending, of the kind :attr:`joints`.

        Returns:
            fp32 [length], sorted, the first 0.
        """
        raise NotImplementedError

    def example_joints(self, length: int, word: int) -> list[int]:
        """Joints of a made-up window, for reports and pictures; none if it needs none.

        Args:
            length: tokens of the window.
            word: 64 bits to draw them from.
        """
        return []

    def describe(self, draw: Draw) -> str:
        """A draw in a few characters, for pictures."""
        return f"g = {draw.scale:g}, t = {draw.offset}"

# SPDX-License-Identifier: Apache-2.0
"""What is measured of a model on windows of one length."""

from typing import NamedTuple


class WindowLoss(NamedTuple):
    """Mean losses of a token, over all windows of a length.

    Attributes:
        mean: of all tokens.
        last: of the last quarter of each window, within the whole window.
        alone: of the same tokens, without the window's first half; None if it is not measured.
    """

    mean: float
    last: float
    alone: float | None

    @property
    def gain(self) -> float | None:
        """What the first half gives the last quarter, in nats a token."""
        return None if self.alone is None else self.alone - self.last

# SPDX-License-Identifier: Apache-2.0
"""The published protocols of sliding-window perplexity: what is read, and what the mean is over.

"Perplexity at window W" is a different number under each of them; docs/perplexity.md compares.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from e2_tools.evaluation.perplexity.windows import (
    Window,
    overlapping_windows,
    sliding_windows,
    strided_windows,
    whole_window,
)


@dataclass(frozen=True)
class Protocol:
    """How documents become windows, and the windows' losses a perplexity.

    The loss is sum(w * nll) / sum(w) over the scored tokens of all windows, where w is 1 or, with
    ``per_window``, 1 / (tokens scored in the window). The perplexity is ``base ** loss``.

    Attributes:
        average: what the loss is the mean of, in words, for the result file.
        bos: where a BOS stands: before every document, before every window, or nowhere.
        cut: (length, room, stride, first) -> windows, see :func:`sliding_windows`.
        joined: all documents are one stream, and windows cross their ends.
        per_window: the mean of the windows' means; else every scored token weighs the same.
        full_context: every token is scored once, with W - S tokens or more before it where its
            document has so many: a second perplexity over just those means something.
        slides: it has a stride.
        base: of the power.
    """

    average: str
    bos: Literal["document", "window", "nowhere"]
    cut: Callable[[int, int, int, int], list[Window]]
    joined: bool = False
    per_window: bool = False
    full_context: bool = False
    slides: bool = True
    base: float = math.e

    def windows(self, length: int, window: int, stride: int, prefix: int) -> list[Window]:
        """Return the windows of a stream.

        Args:
            length: of the stream, in tokens.
            window: W, in tokens, what is put before the window's own included.
            stride: S, in tokens.
            prefix: how many tokens (0, or 1 for a BOS) are put before every window.
        """
        return self.cut(length, window - prefix, stride, 1 - prefix)

    def perplexity(self, nll: float) -> float:
        """Return the perplexity of a loss in nats."""
        return math.exp(nll * math.log(self.base))


# A new protocol is a line here.
PROTOCOLS = {
    # Press et al., arXiv 2108.12409, appendix B, as in PI, arXiv 2306.15595
    "press": Protocol(
        average="tokens: every token of every document once, but its first",
        bos="document",
        cut=sliding_windows,
        full_context=True,
    ),
    # jquesnelle/yarn, eval/perplexity.py, without and with --truncate
    "yarn": Protocol(
        average="windows, unweighted: of each the mean over the tokens no window before it scored",
        bos="window",
        cut=strided_windows,
        per_window=True,
    ),
    "yarn-truncate": Protocol(
        average="documents, unweighted: of each the mean over its first window",
        bos="window",
        cut=whole_window,
        per_window=True,
        slides=False,
    ),
    # dvlab-research/LongLoRA, eval.py; its mean is over batches, which is this one if all are full
    "longlora": Protocol(
        average="windows, equally long: of each the mean over all its tokens but the first",
        bos="nowhere",
        cut=overlapping_windows,
        joined=True,
        base=2.71828,  # as written there
    ),
}

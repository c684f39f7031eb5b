# SPDX-License-Identifier: Apache-2.0
"""Which windows a protocol cuts a document into, and which tokens each of them scores.

Pure arithmetic on token indices. Index 0 is a document's first token (its BOS where there is
one): it has no context and is never scored.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from e2_common.errors import UserError

DEFAULT_STRIDE = 256  # Press et al. (2022), PI and E2-LLM


class Window(NamedTuple):
    """One forward pass over the tokens ``begin <= i < end``; it scores ``first_scored <= i``."""

    begin: int
    first_scored: int
    end: int


def step_between(window: int, stride: int) -> int:
    """How far the next window begins after this one, in tokens: the stride, but below the window.

    A window has to overlap the one before by a token at least: the first token it scores needs a
    context. So ``stride = window``, disjoint windows, steps by ``window - 1``.
    """
    return min(stride, window - 1)


def sliding_windows(length: int, room: int, stride: int, first: int = 1) -> list[Window]:
    """Return the sliding windows of Press et al. (2022, arXiv 2108.12409), appendix B.

    Windows begin at 0, S, 2S, ... and end at min(begin + W, n), up to the first that reaches n.
    Each scores only the tokens no window before it has scored, so that every token 1 .. n - 1 is
    scored exactly once whatever W is: perplexities at different windows are over the same tokens.
    Token i sees min(i, W - S) to W - 1 tokens before it.

    Args:
        length: n, tokens of the document.
        room: how many of its tokens a window holds: W >= 2, or W - 1 behind a BOS.
        stride: S, 1 <= S <= W, in tokens.
        first: index of the first token scored: 1, or 0 if a BOS stands before every window.
    """
    windows: list[Window] = []
    first_scored, begin = first, 0
    while first_scored < length:
        end = min(begin + room, length)
        windows.append(Window(begin, first_scored, end))
        first_scored = end
        begin += min(stride, room - first)
    return windows


def strided_windows(length: int, room: int, stride: int, first: int = 1) -> list[Window]:
    """Return windows at 0, S, 2S, ... up to the first that reaches n, as YaRN's eval/perplexity.py.

    These are :func:`sliding_windows` as long as S < W. At S = W they still step by all of S, and
    one token between two windows is never scored: with a BOS the windows hold W - 1 tokens, without
    it the first token of each has no context. A window that has nothing to score is left out, where
    that code's mean is not a number.

    Arguments are those of :func:`sliding_windows`.
    """
    windows: list[Window] = []
    done = 0
    for begin in range(0, length, stride):
        end = min(begin + room, length)
        first_scored = max(done, begin + first)
        if first_scored < end:
            windows.append(Window(begin, first_scored, end))
        done = end
        if end == length:
            break
    return windows


def whole_window(length: int, room: int, stride: int | None, first: int = 1) -> list[Window]:
    """Return one window at a document's beginning, which scores all its tokens; no sliding.

    Arguments are those of :func:`sliding_windows`; there is no stride.
    """
    end = min(room, length)
    return [Window(0, first, end)] if end > first else []


def overlapping_windows(length: int, room: int, stride: int, first: int = 1) -> list[Window]:
    """Return windows at 0, S, 2S, ... that score all their tokens, as LongLoRA's eval.py.

    Only whole windows, and as there, those that begin at n - W or later and the last of the others
    are left out. A token is scored by every window that holds it, W / S of them but at the ends.

    Arguments are those of :func:`sliding_windows`.
    """
    begins = range(0, length - room, stride)[:-1]
    return [Window(begin, begin + first, begin + room) for begin in begins]


def full_context_from(windows: Iterable[int], stride: int) -> int:
    """Return the first index whose token has a full context at every window of the run.

    A sliding window's tokens have W - S to W - 1 tokens before them, except at a document's
    beginning, where token i has only i. "Full context" is thus i >= W - S. The number returned
    is the largest of these bounds, so that the second perplexity too is over the same tokens at
    every window, and none of them is held back by a document's beginning.

    Args:
        windows: all windows of the run, in tokens.
        stride: S, in tokens.
    """
    return max(max(1, window - step_between(window, stride)) for window in windows)


def check_windows(
    windows: Sequence[int], stride: int | None, *, slides: bool = True
) -> tuple[list[int], int | None]:
    """Return the windows without duplicates and the stride, the default one if it is None.

    Args:
        windows: in tokens.
        stride: in tokens, or None.
        slides: whether the protocol has a stride; else the one returned is None.

    Raises:
        UserError: a window below 2 tokens, a stride below 1 or above the smallest window.
    """
    smallest = min(windows)
    if smallest < 2:
        raise UserError(f"--windows {smallest}: a window has at least 2 tokens")
    windows = list(dict.fromkeys(windows))
    if not slides:
        return windows, None
    if stride is None and smallest < DEFAULT_STRIDE:
        raise UserError(
            f"--windows {smallest}: smaller than the default stride {DEFAULT_STRIDE}; "
            f"set --stride to at most {smallest}"
        )
    stride = DEFAULT_STRIDE if stride is None else stride
    if not 1 <= stride <= smallest:
        raise UserError(
            f"--stride {stride}: has to be at least 1 and at most the smallest window, {smallest}"
        )
    return windows, stride

# SPDX-License-Identifier: Apache-2.0
"""Intervals of shares, and numbers that rounding does not turn into others."""

import math
from collections.abc import Sequence

_Z = 1.959963984540054  # of the standard normal distribution, 97.5 % lie below
_MOST = 6  # decimals


def share_interval(correct: float, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a share (Wilson 1927), without continuity correction.

    Of none and of all right answers it is not empty, as a standard error would make it. Scores
    from 0 to 1 vary less than right and wrong of the same mean, and so do means over tasks of as
    many questions each: of these the interval is too wide rather than too narrow.

    Args:
        correct: right answers, or the sum of scores from 0 to 1.
        trials: how many were asked, at least one.

    Returns:
        the lower and the upper end, from 0 to 1.
    """
    share, weight = correct / trials, _Z**2 / trials
    middle = (share + weight / 2) / (1 + weight)
    reach = _Z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    low = 0.0 if correct == 0 else max(0.0, middle - reach)
    return low, 1.0 if correct == trials else min(1.0, middle + reach)


def told_percent(share: float, decimals: int = 1, marks: Sequence[float] = (0.0, 100.0)) -> str:
    """Return a share as a number of percent.

    It has more decimals where it would round to a mark that it does not have: 2,999 of 3,000 are
    not 100.0 %.

    Args:
        share: from 0 to 1.
        decimals: of the number.
        marks: in percent.
    """
    value = 100 * share
    while decimals < _MOST and any(
        math.isclose(round(value, decimals), mark, abs_tol=1e-9)
        and not math.isclose(value, mark, abs_tol=1e-9)
        for mark in marks
    ):
        decimals += 1
    return f"{value:.{decimals}f}"


def told_value(value: float) -> str:
    """Return a perplexity with two decimals, beyond a million with its power of ten.

    A value so near to zero that two decimals would show nothing has three digits.
    """
    if abs(value) >= 1e6:
        return f"{value:.3g}"
    return f"{value:.3g}" if 0 < abs(value) < 0.01 else f"{value:,.2f}"

# SPDX-License-Identifier: Apache-2.0
"""Intervals of shares against scipy's; rounding that would change what a number says."""

import pytest

from e2_tools.evaluation.intervals import share_interval, told_percent, told_value


@pytest.mark.parametrize("trials", [1, 2, 5, 20, 137, 10_000])
def test_intervals_are_wilsons(trials):
    stats = pytest.importorskip("scipy.stats")
    for correct in sorted({0, 1, trials // 3, trials // 2, trials - 1, trials}):
        test = stats.binomtest(correct, trials)
        theirs = test.proportion_ci(0.95, method="wilson")
        assert share_interval(correct, trials) == pytest.approx(tuple(theirs), abs=1e-12)


def test_an_interval_of_scores_is_wider_than_of_their_spread():
    """As many halves as there are vary less than right and wrong."""
    low, high = share_interval(10.0, 20)
    assert low < 0.5 < high
    assert share_interval(0, 4)[1] > 0.4
    assert share_interval(4, 4) == (pytest.approx(1 - share_interval(0, 4)[1]), 1.0)


@pytest.mark.parametrize(
    ("share", "decimals", "told"),
    [
        (1.0, 1, "100.0"),
        (2999 / 3000, 1, "99.97"),
        (1 / 3000, 1, "0.03"),
        (1e-9, 1, "0.000000"),  # six decimals are enough
        (0.0, 1, "0.0"),
        (0.5, 0, "50"),
        (0.999, 0, "99.9"),
        (0.856, 1, "85.6"),
        (0.85604, 1, "85.604"),
    ],
)
def test_shares_do_not_round_to_what_they_are_not(share, decimals, told):
    assert told_percent(share, decimals, (0.0, 85.6, 100.0)) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (49.053, "49.05"),
        (1234.56, "1,234.56"),
        (3.2e9, "3.2e+09"),
        (0.00012, "0.00012"),
        (0.0, "0.00"),
    ]
    + [(-0.001, "-0.001"), (999.999, "1,000.00")],
)
def test_values_keep_their_digits(value, told):
    assert told_value(value) == told

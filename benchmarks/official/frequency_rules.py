# SPDX-License-Identifier: Apache-2.0
"""The grid on which rules for frequencies are compared."""

from collections.abc import Callable, Iterable

import numpy as np

from benchmarks.official.findings import Finding, closely
from e2_llm.frequencies import RULES, Frequencies

# d, θ, g, L
GRID = [
    (dim, theta, scale, window)
    for dim in (32, 64, 128)
    for theta in (10000.0, 500000.0)
    for scale in (1.0, 2.0, 3.7, 16.0, 64.0)
    for window in (128, 4096, 8192)
]


def on_grid(
    rule: str,
    theirs: Callable[[int, float, float, int], Frequencies],
    grid: Iterable[tuple[int, float, float, int]] = GRID,
) -> Finding:
    """Frequencies and attention factors of a rule of ours, and of a function of theirs."""
    mine, their = [], []
    for case in grid:
        for numbers, (inverse, factor) in (
            (mine, RULES[rule].frequencies(*case)),
            (their, theirs(*case)),
        ):
            numbers += [np.asarray(inverse, np.float64), [factor]]
    cases = len(mine) // 2
    what = f"`{rule}`" + (f", {cases} shapes and scales" if cases > 1 else "")
    return closely(what, np.concatenate(mine), np.concatenate(their))

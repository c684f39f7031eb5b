# SPDX-License-Identifier: Apache-2.0
"""What a comparison of ours with an author's code finds."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import chi2_contingency

from e2_llm.sampler import below

FP32 = 1e-6  # relative, of frequencies that two formulas round differently
LEAST_P = 1e-3  # of a test for two samples of one distribution
BINS = 20


class Finding(NamedTuple):
    """One comparison.

    Attributes:
        compared: what, in a few words.
        result: what came out, in a few words.
        agrees: whether ours is theirs.
    """

    compared: str
    result: str
    agrees: bool


def exactly(compared: str, ours: Sequence[Any], theirs: Sequence[Any]) -> Finding:
    """Whether two lists of equally many arrays are the same, number by number."""
    pairs = list(zip(map(np.asarray, ours), map(np.asarray, theirs), strict=True))
    wrong = sum(not np.array_equal(mine, their) for mine, their in pairs)
    result = f"{wrong:,} of {len(pairs):,} differ" if wrong else f"equal in all {len(pairs):,}"
    return Finding(compared, result, not wrong)


def closely(compared: str, ours: Any, theirs: Any, most: float = FP32) -> Finding:
    """Whether numbers [n] agree within ``most`` of the larger one of each pair."""
    mine, their = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if mine.shape != their.shape:
        return Finding(compared, f"shapes {mine.shape} and {their.shape}", False)
    larger = np.maximum(abs(mine), abs(their))
    # Two zeros agree.
    off = float((abs(mine - their) / np.where(larger > 0, larger, 1)).max())
    return Finding(compared, f"within {off:.1e}, relative", off <= most)


def absolutely(compared: str, ours: Any, theirs: Any, most: float) -> Finding:
    """Whether cosines, sines or shares agree within ``most``."""
    off = float(abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).max())
    return Finding(compared, f"within {off:.1e}", off <= most)


def alike(compared: str, ours: Sequence[float], theirs: Sequence[float]) -> Finding:
    """Whether two samples have one distribution, by chi-square over bins that hold alike many."""
    mine, their = np.asarray(ours, float), np.asarray(theirs, float)
    both = np.concatenate((mine, their))
    edges = np.unique(np.quantile(both, np.linspace(0, 1, BINS + 1), method="nearest"))
    edges = np.append(edges, edges[-1] + 1)  # the largest value is a bin of its own
    counts = [np.histogram(sample, edges)[0] for sample in (mine, their)]
    table = np.array(counts)[:, np.sum(counts, axis=0) > 0]
    p = float(chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0
    return Finding(compared, f"chi-square p = {p:.2f}, {len(mine):,} draws each", p > LEAST_P)


class Replay:
    """Stands in for Python's ``random``: whole numbers from given 64-bit words, one after another.

    Bounds that are whole floats are taken, as Python did before 3.12.
    """

    def __init__(self) -> None:
        self._words: Iterator[int] = iter(())

    def feed(self, *words: int) -> None:
        """Give the words of the next draw."""
        self._words = iter(words)

    def next_word(self) -> int:
        """The next of them."""
        return next(self._words)

    def randint(self, low: float, high: float) -> int:
        """A number from ``low`` to ``high``, both included."""
        assert low == int(low)
        assert high == int(high)
        return int(low) + below(self.next_word(), int(high) - int(low) + 1)


class Changed:
    """A module with some of its names replaced."""

    def __init__(self, module: Any, **names: Any) -> None:
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

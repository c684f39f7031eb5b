# SPDX-License-Identifier: Apache-2.0
"""Long rows of attention made short: pooled for a picture, or as the shares of two places."""

import numpy as np

from e2_tools.evaluation.attention.by_window import FIRST, LAST

POOLS = {"max": np.maximum.reduceat, "mean": np.add.reduceat}


def pooled(rows: np.ndarray, bins: int, pool: str) -> np.ndarray:
    """Pool rows along the input.

    Args:
        rows: [generated, input].
        bins: at most so many columns are left, of equal width up to a token.
        pool: ``max`` keeps thin bright stripes, ``mean`` keeps the shares of bins.

    Returns:
        [generated, min(bins, input)].
    """
    length = rows.shape[1]
    edges = bin_edges(length, bins)
    result = POOLS[pool](rows, edges[:-1], axis=1)
    return result / np.diff(edges) if pool == "mean" else result


def bin_edges(length: int, bins: int) -> np.ndarray:
    """Return the first tokens of the bins, and ``length``: [min(bins, length) + 1]."""
    return np.linspace(0, length, min(bins, length) + 1).round().astype(int)


def share_of_first(rows: np.ndarray, first: int = FIRST) -> float:
    """Return the share of the attention on the first tokens, the mean of rows [generated, keys]."""
    return float(rows[:, :first].sum(axis=1).mean())


def share_of_last(rows: np.ndarray, keys: int, last: int = LAST) -> float:
    """Return the share of the attention on the tokens just before, its own included.

    Args:
        rows: [generated, keys + generated - 1]; the last token of row n is keys + n - 1.
        keys: of the first row.
        last: how many tokens.
    """
    ends = range(keys, keys + len(rows))
    near = [row[max(0, end - last) : end].sum() for row, end in zip(rows, ends, strict=True)]
    return float(np.mean(near))

# SPDX-License-Identifier: Apache-2.0
"""Long rows of attention made short enough for a picture."""

import numpy as np

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

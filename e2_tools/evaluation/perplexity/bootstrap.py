# SPDX-License-Identifier: Apache-2.0
"""How much a mean depends on which documents were scored."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95
_AT_ONCE = 2**22  # numbers drawn at once


def interval_over_documents(
    sums: Sequence[float], counts: Sequence[float]
) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of sum(sums) / sum(counts).

    Documents are drawn with replacement, as many as there are, 10,000 times with a fixed seed: the
    interval says how the mean would vary had other documents of the same kind been scored. It does
    not say how two models differ on the same documents; that is known far better, see
    :func:`interval_of_difference`.

    Args:
        sums: of each document.
        counts: what each document's sum is over; documents without any take no part.

    Returns:
        the lower and the upper end; None of fewer than two documents.
    """
    pairs = np.array([sums, counts], dtype=np.float64)  # [2, documents]
    pairs = pairs[:, pairs[1] > 0]
    documents = pairs.shape[1]
    if documents < 2:
        return None
    random = np.random.Generator(np.random.Philox(SEED))
    rows = max(1, _AT_ONCE // documents)
    means = []
    for begin in range(0, RESAMPLES, rows):
        drawn = random.integers(documents, size=(min(rows, RESAMPLES - begin), documents))
        total = pairs[:, drawn].sum(axis=-1)  # [2, resamples]
        means.append(total[0] / total[1])
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return float(low), float(high)


def interval_of_difference(
    before: Sequence[float], after: Sequence[float], counts: Sequence[float]
) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of sum(after - before) / sum(counts).

    Each resample takes the same documents of both, so what makes a document hard for either does
    not count. It is :func:`interval_over_documents` of the documents' own differences.

    Args:
        before: the sum of each document's losses, in nats.
        after: the same of another model, in the same order.
        counts: what each document's sums are over, the same for both.

    Returns:
        the lower and the upper end, in nats; None of fewer than two documents with a count.
    """
    return interval_over_documents(np.subtract(after, before).tolist(), counts)

# SPDX-License-Identifier: Apache-2.0
"""RULER's metrics, and the effective window that they give (arXiv 2404.06654, sections 3 and 4)."""

import re
from collections.abc import Callable, Mapping, Sequence

THRESHOLD = 85.6  # percent: Llama-2-7B's mean at its own window of 4k, which RULER asks to exceed


def cleaned(answer: str) -> str:
    """Return an answer as RULER compares it: control characters are line breaks, ends are bare."""
    return re.sub(r"[\x00-\x1f]", "\n", answer.strip()).strip()


def string_match_all(answer: str, references: Sequence[str]) -> float:
    """Return the share of the references that occur in an answer, whatever their case."""
    return sum(each.lower() in answer.lower() for each in references) / len(references)


def string_match_part(answer: str, references: Sequence[str]) -> float:
    """Return 1 if any reference occurs in an answer, whatever its case, else 0."""
    return float(any(each.lower() in answer.lower() for each in references))


METRICS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "string_match_all": string_match_all,
    "string_match_part": string_match_part,
}


def percent(scores: Sequence[float]) -> float:
    """Return RULER's score of a task in percent, rounded as RULER rounds it."""
    return round(sum(scores) / len(scores) * 100, 2)


def effective_window(means: Mapping[int, float]) -> int | None:
    """Return the largest window up to which every mean exceeds :data:`THRESHOLD`.

    Args:
        means: window in tokens -> mean over the tasks, in percent.

    Returns:
        the window in tokens; None if the smallest does not exceed it.
    """
    effective = None
    for window, mean in sorted(means.items()):
        if mean <= THRESHOLD:
            break
        effective = window
    return effective

# SPDX-License-Identifier: Apache-2.0
"""Our side of the comparisons: draws and places of a method."""

from collections.abc import Iterator

import numpy as np

from e2_llm.config import E2Config
from e2_llm.methods import PositionMethod, method_for
from e2_llm.sampler import Draw

SEED = 20240106  # of our draws


def method(name: str, base: int, train: int, **options: float) -> PositionMethod:
    """A position method for L = ``base`` and R = ``train`` tokens."""
    config = E2Config(position_method=name, base_window=base, train_window=train, **options)
    return method_for(config)


def windows(it: PositionMethod, count: int) -> Iterator[tuple[Draw, np.ndarray]]:
    """The first draws of a method, and the places [R] of their tokens."""
    for index in range(count):
        draw = it.draw(SEED, index)
        yield draw, it.tokens(draw, it.config.train_window).numpy()


def cut_and_skip(places: np.ndarray) -> tuple[int, int]:
    """Tokens before the first gap between two chunks, 0 without one, and places skipped there."""
    gaps = np.diff(places)
    first = int(np.argmax(gaps > 1))
    return (first + 1, int(gaps[first]) - 1) if gaps[first] > 1 else (0, 0)

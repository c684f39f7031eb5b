# SPDX-License-Identifier: Apache-2.0
"""CREAM's head, middle and tail (arXiv 2406.07138)."""

import random
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.special
import torch

from benchmarks.official.clones import Clone
from benchmarks.official.findings import Changed, Finding, Replay, alike, exactly
from benchmarks.official.ours import cut_and_skip, method, windows
from e2_llm.sampler import fraction, random_words

SIGMA = 3.0  # the default of their command
WINDOWS = ((128, 2.0), (512, 4.0), (512, 16.0), (4096, 8.0))  # R = L, factor


class Integers:
    """Python's ``random`` for bounds that are whole floats, which it took before 3.12."""

    def __init__(self) -> None:
        self._generator = random.Random(1)

    def randint(self, low: float, high: float) -> int:
        """A number from ``low`` to ``high``, both included."""
        assert high == int(high)
        return self._generator.randint(int(low), int(high))


def compare(clone: Clone, draws: int) -> Iterator[Finding]:
    """Places from the same random numbers, then coin and middle as distributions."""
    generator, gaussian = Replay(), Replay()
    theirs = official(clone, generator, lambda: fraction(gaussian.next_word()))
    mine, their = [], []
    for train, factor in WINDOWS:
        for draw, places in windows(method("cream", train, train, factor=factor), draws // 20):
            coin, half_windows, place, _ = random_words(draw.word, 0)
            generator.feed(coin, place)
            gaussian.feed(half_windows)
            mine.append(places)
            their.append(theirs(train, int(train * factor)))
    yield exactly("places from the same random numbers", mine, their)
    theirs = official(clone, Integers(), np.random.default_rng(1).random)
    ours = [places for _, places in windows(method("cream", 512, 512, factor=8.0), draws)]
    theirs_too = [theirs(512, 4096) for _ in range(draws)]
    heads = [[cut_and_skip(places)[0] for places in it] for it in (ours, theirs_too)]
    yield alike("length of the head", *heads)
    middles = [[places[len(places) // 2] for places in it] for it in (ours, theirs_too)]
    yield alike("place of the middle token", *middles)


def official(
    clone: Clone, generator: Any, uniform: Callable[[], float]
) -> Callable[[int, int], np.ndarray]:
    """Their positions [R] of one text, by R = L and W."""
    drawing = Changed(np, random=SimpleNamespace(rand=uniform))
    given = {"random": generator, "np": drawing, "sp": scipy.special, "torch": torch}
    function = clone.run("src/train.py", "CREAM", **given).CREAM

    def positions(train: int, window: int) -> np.ndarray:
        made = function(
            {"input_ids": [[0] * window]},
            scaled_max_position_embeddings=window,
            model_max_position_embeddings=train,
            sigma=SIGMA,
        )
        return np.array(made["position_ids"][0])

    return positions

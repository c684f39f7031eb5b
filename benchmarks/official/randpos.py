# SPDX-License-Identifier: Apache-2.0
"""Randomized positions (arXiv 2305.16843); numpy stands in for their JAX."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.official.clones import Clone
from benchmarks.official.findings import Changed, Finding, absolutely, alike, exactly
from benchmarks.official.ours import method, windows
from e2_llm.frequencies import rope
from e2_llm.sampler import random_subset

HEAD, TRAIN, FACTOR = 32, 64, 4.0  # d, R = L, W / L
WINDOW = int(TRAIN * FACTOR)


def compare(clone: Clone, draws: int) -> Iterator[Finding]:
    """Their rotation at our places, then the places as distributions."""
    # RoPE sees distances, so ours take the smallest place off; here it is put back.
    replayed = Subsets()
    theirs = official(clone, replayed)
    it = method("randpos", TRAIN, TRAIN, factor=FACTOR)
    mine, their, angles, rotated = [], [], [], []
    for draw, places in windows(it, draws // 20):
        replayed.subset = random_subset(draw.word, TRAIN, WINDOW)
        cosine, sine = theirs()
        at = places[:, None] + float(replayed.subset[0])
        angle = at * rope(HEAD, 10000.0).numpy()
        angles.append((np.cos(angle), np.sin(angle)))
        rotated.append((cosine, sine))
        mine.append(places)
        their.append(replayed.subset - replayed.subset[0])
    yield exactly("places of the same subset", mine, their)
    yield absolutely("rotation at them, d = 32", angles, rotated, 2e-5)
    ours = [places for _, places in windows(it, draws)]
    places = official_places(clone)
    theirs_too = [places() for _ in range(draws)]
    theirs_too = [it - it[0] for it in theirs_too]
    for name, of in STATISTICS.items():
        yield alike(name, [of(it) for it in ours], [of(it) for it in theirs_too])


STATISTICS: dict[str, Callable[[np.ndarray], float]] = {
    "distance of the ends": lambda it: it[-1] - it[0],
    "distance of two neighbours": lambda it: it[len(it) // 2] - it[len(it) // 2 - 1],
    "distance of the first and the middle token": lambda it: it[len(it) // 2] - it[0],
}


class Subsets:
    """Stands in for ``jax.random``: the choice without repetition gives a subset, out of order."""

    subset: np.ndarray

    def choice(self, rng: Any, a: np.ndarray, shape: tuple[int], replace: bool) -> np.ndarray:
        """The subset; it has to be asked for as such."""
        assert not replace
        assert (len(a), shape) == (WINDOW, (TRAIN,))
        return a[self.subset[::-1]]


class Chosen:
    """Stands in for ``jax.random`` with numpy's own choice without repetition."""

    def __init__(self) -> None:
        self._generator = np.random.default_rng(1)

    def choice(self, rng: Any, a: np.ndarray, shape: tuple[int], replace: bool) -> np.ndarray:
        """See ``numpy.random.Generator.choice``."""
        return self._generator.choice(a, shape, replace=replace)


PATH = "models/positional_encodings.py"
NAMES = ("noisy_fixed_positional_encodings", "apply_rotary_encoding", "_rope_kernel")


def official(clone: Clone, choice: Any) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """Cosines and sines [R, d / 2] of their rotation: that of pairs (1, 0)."""
    theirs = clone.run(PATH, *NAMES, jnp=Changed(np), np=np, jrandom=choice)
    pairs = np.tile(np.array([1, 0], np.float32), (1, TRAIN, 1, HEAD // 2))

    def rotated() -> tuple[np.ndarray, np.ndarray]:
        places = np.arange(WINDOW)[None, :]
        out = theirs.apply_rotary_encoding(pairs, places, noisy=True, rng=0)[0, :, 0]
        return out[:, 0::2], out[:, 1::2]

    return rotated


def official_places(clone: Clone) -> Callable[[], np.ndarray]:
    """Their sorted places [R]: those that they choose encodings for."""
    theirs = clone.run(PATH, NAMES[0], jnp=np, jrandom=Chosen())
    function = getattr(theirs, NAMES[0])
    return lambda: function(np.arange(WINDOW)[:, None], TRAIN, rng=0)[:, 0]

# SPDX-License-Identifier: Apache-2.0
"""How RULER fills a window: a search for the number of units, and fewer where a sample is long.

Every probe draws a whole sample, from the same stream of random numbers as those that are asked.
So the search has to go the way that RULER's scripts go, or other samples would follow.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from e2_common.errors import UserError

TRIES = 100  # RULER's scripts would try for ever


class Sample(NamedTuple):
    """A prompt up to where the model goes on, and what the answer should name."""

    prompt: str
    answers: list[str]


Make = Callable[[int], Sample]  # a sample with so many units around


@dataclass
class Room:
    """What the samples of one task and window have in common.

    Attributes:
        seed: RULER's ``--random_seed``.
        window: of prompt and answer, in tokens, without a BOS.
        tokens: the length of a text in tokens.
        chat: what stands before and behind a question, by the chat template; empty without one.
        draws: Python's generator under that seed.
        numbers: numpy's old generator under that seed.
    """

    seed: int
    window: int
    tokens: Callable[[str], int]
    chat: tuple[str, str] = ("", "")
    draws: random.Random = field(init=False)
    numbers: np.random.RandomState = field(init=False)

    def __post_init__(self) -> None:
        self.draws = random.Random(self.seed)
        try:
            self.numbers = np.random.RandomState(self.seed)
        except ValueError as error:
            raise UserError(f"--seed {self.seed}: RULER takes 0 to 4294967295") from error

    def prompt(self, question: str, answer_prefix: str) -> str:
        """Return a question as the model reads it, and the beginning of its answer."""
        before, behind = self.chat
        return before + question + behind + answer_prefix

    def shuffle(self, items: list) -> None:
        """Shuffle in place, always in the same way: RULER begins its stream anew for it."""
        random.Random(self.seed).shuffle(items)

    def largest(
        self, make: Make, limit: int, *, probe: int, step: int, bound: Callable[[float], int]
    ) -> int:
        """Return the number of units at which a prompt fills the window.

        Args:
            make: draws a sample.
            limit: of a prompt, in tokens.
            probe: units of the first sample, which tells what a unit takes.
            step: the least number of units.
            bound: tokens of a unit -> the largest number to try.
        """
        per_unit = self.tokens(_drawn(make, probe).prompt) / probe
        low, high = step, max(bound(per_unit), 2 * step)
        best = step
        while low <= high:
            middle = (low + high) // 2
            if self.tokens(_drawn(make, middle).prompt) <= limit:
                best, low = middle, middle + 1
            else:
                high = middle - 1
        return best

    def fitting(self, make: Make, limit: int, size: int, step: int) -> Sample:
        """Return the next sample that fits, with ``step`` units fewer after each that does not.

        Raises:
            UserError: the window is too small.
        """
        tries = 0
        while tries < TRIES:
            try:
                sample = make(size)
                if self.tokens(sample.prompt) <= limit:
                    return sample
            except (ValueError, IndexError):  # more places than units, or a name drawn twice
                pass
            if size > step:
                size -= step
            else:
                tries += 1
        raise UserError(f"--windows {self.window}: too small for this task; use a larger one")


def _drawn(make: Make, size: int) -> Sample:
    """A sample of the search. RULER's script would end at a name that is drawn twice."""
    for _ in range(TRIES):
        try:
            return make(size)
        except IndexError:
            continue
    return make(size)

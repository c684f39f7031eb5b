# SPDX-License-Identifier: Apache-2.0
"""The words that RULER draws from: those of the package wonderwords."""

import random
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import version
from itertools import accumulate
from typing import overload

from e2_common.errors import UserError

DIGITS = 7  # of a number


def draw_magic(source: random.Random, kind: str) -> str:
    """Draw what is hidden, as RULER draws it: one of ``words``, ``numbers`` or ``uuids``."""
    if kind == "words":
        return source.choice(adjective_nouns())
    if kind == "uuids":
        return str(uuid.UUID(int=source.getrandbits(128), version=4))
    return str(source.randint(10 ** (DIGITS - 1), 10**DIGITS - 1))


@cache
def word_list(kind: str) -> tuple[str, ...]:
    """Return all words of a kind, ascending, each once.

    Args:
        kind: ``noun``, ``adjective`` or ``verb``.

    Raises:
        UserError: the package wonderwords is missing.
    """
    try:
        from wonderwords import RandomWord
    except ImportError as error:
        raise UserError("the package wonderwords is missing; pip install wonderwords") from error
    return tuple(sorted(set(RandomWord().filter(include_categories=[kind]))))


def words_version() -> str:
    """Return which wonderwords is installed: other releases have other words."""
    return f"wonderwords {version('wonderwords')}"


@cache
def adjective_nouns() -> "Pairs":
    """Return RULER's keys: every adjective with every noun."""
    return Pairs(word_list("adjective"), word_list("noun"))


class Pairs(Sequence[str]):
    """``sorted({f"{a}-{n}" for a in adjectives for n in nouns})``, six million words never built.

    All pairs of an adjective stand together, in the order of its nouns, unless another adjective
    with its hyphen begins with this one and its hyphen. The pairs of such a few are sorted.

    Args:
        adjectives: the first words.
        nouns: the second ones.
    """

    def __init__(self, adjectives: Iterable[str], nouns: Iterable[str]) -> None:
        ordered = sorted(set(nouns))
        groups: list[list[str]] = []
        for head in sorted({f"{adjective}-" for adjective in adjectives}):
            if groups and head.startswith(groups[-1][0]):
                groups[-1].append(head)
            else:
                groups.append([head])
        self._blocks = [
            (group[0], ordered)
            if len(group) == 1
            else ("", sorted({head + noun for head in group for noun in ordered}))
            for group in groups
        ]
        self._ends = list(accumulate(len(tails) for _, tails in self._blocks))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        number = bisect_right(self._ends, place)
        head, tails = self._blocks[number]
        return head + tails[place - self._ends[number]]  # from the block's end

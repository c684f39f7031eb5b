# SPDX-License-Identifier: Apache-2.0
"""RULER's aggregation: the commonest words of a list, ``cwe``, and of a coded text, ``fwe``.

The draws are those of scripts/data/synthetic/common_words_extraction.py and
freq_words_extraction.py.
"""

import math
import string
from collections.abc import Iterator, Sequence

import numpy as np

from e2_common.errors import UserError
from e2_tools.evaluation.ruler.sizing import Room, Sample
from e2_tools.evaluation.ruler.tasks import CWE, FWE
from e2_tools.evaluation.ruler.words import word_list

COMMON = 10  # words to name
CODED_LETTERS = 6
ALPHA = 2.0  # of the zeta distribution, whose sum is zeta(2)
ZETA = math.pi**2 / 6


def common_words(room: Room, english: Sequence[str] | None = None) -> Iterator[Sample]:
    """Yield the samples of ``cwe``, without end: a numbered list of words after a solved one.

    Args:
        room: what to fill.
        english: more words, for windows that need more than the package has.

    Raises:
        UserError: the window is too small, or needs more words.
    """
    words = sorted({*word_list("noun"), *word_list("adjective"), *word_list("verb")})
    room.shuffle(words)
    long = room.window >= 4096

    def numbered(size: int, common: int, uncommon: int) -> tuple[str, list[str]]:
        drawn = room.draws.sample(_enough(room, words, english, size), size)
        often, seldom = drawn[:COMMON], drawn[COMMON:]
        listed = often * common + seldom * uncommon
        room.shuffle(listed)
        return _list(listed), often

    def make(size: int) -> Sample:
        solved, shown = numbered(40, 10, 3) if long else numbered(20, 3, 1)
        asked, often = numbered(size, 30, 3) if long else numbered(size, 6, 1)
        ask = [
            room.prompt(CWE.template.format(context=context), CWE.answer_prefix)
            for context in (solved, asked)
        ]
        return Sample(f"{ask[0]} {_list(shown)}\n{ask[1]}", often)

    step, limit = 10, room.window - CWE.max_new_tokens
    size = room.largest(
        make, limit, probe=4096, step=step, bound=lambda unit: int(room.window // unit) * 2
    )
    while True:
        yield room.fitting(make, limit, size, step)


def _enough(
    room: Room, words: list[str], english: Sequence[str] | None, size: int
) -> Sequence[str]:
    if size <= len(words):
        return words
    if english is None or size > len(english):
        raise UserError(
            f"--windows {room.window}: cwe tries {size} different words; give RULER's "
            "english_words.json as --english-words, or leave cwe out of --tasks"
        )
    return english


def _list(words: list[str]) -> str:
    return " ".join(f"{number}. {word}" for number, word in enumerate(words, 1))


def coded_words(room: Room) -> Iterator[Sample]:
    """Yield the samples of ``fwe``, without end: made-up words, by a zeta distribution.

    Raises:
        UserError: the window is too small.
    """
    limit = room.window - FWE.max_new_tokens
    vocabulary, step = limit // 50, limit // 32
    if vocabulary < 4:
        raise UserError(f"--windows {room.window}: too small for this task; use a larger one")

    def draw() -> list[str]:
        def coded() -> str:
            return "".join(room.draws.choices(string.ascii_lowercase, k=CODED_LETTERS))

        drawn = [coded() for _ in range(vocabulary)]
        while len(set(drawn)) < vocabulary:
            drawn.append(coded())
        words = sorted(set(drawn))
        room.shuffle(words)
        return ["...", *words[1:]]  # the commonest is noise

    def text(words: list[str], size: int) -> str:
        counts = size * (np.arange(1, len(words) + 1) ** -ALPHA) / ZETA
        shown = [
            word
            for word, count in zip(words, counts.astype(int), strict=True)
            for _ in range(count)
        ]
        room.shuffle(shown)
        return room.prompt(FWE.template.format(context=" ".join(shown)), FWE.answer_prefix)

    words, size = draw(), limit // CODED_LETTERS
    while room.tokens(text(words, size)) < limit:
        size += step
    size -= step
    while True:
        words, fits = draw(), size
        while room.tokens(prompt := text(words, fits)) > limit:
            fits -= step
            if fits < -step:
                raise UserError(
                    f"--windows {room.window}: too small for this task; use a larger one"
                )
        yield Sample(prompt, words[1:4])

# SPDX-License-Identifier: Apache-2.0
"""The made-up language of span recall: windows to train on, and the words of its test.

A window is a row of slots of four words. Most hold meaningless words; a span of four others stands
in two slots, and its second showing can be continued by whoever finds the first: by matching its
words and by looking at what followed there. That is what a needle asks, in miniature. A pair of one
key and one value is not enough: models solve it at any window by scaling alone.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

SPAN = 4  # words of a span, and of a slot
NOISE = tuple(f"n{number:02}" for number in range(16))
CONTENT = tuple(f"w{number:02}" for number in range(64))
WORDS = (*NOISE, *CONTENT)
# Share of the training windows, by into how many pieces that know nothing of each other each falls:
# near repetitions are learnt first and teach the far ones.
PIECES = {4: 0.2, 2: 0.2, 1: 0.6}


class Window(NamedTuple):
    """A training window.

    Attributes:
        text: its words, separated by blanks.
        learnt: [begin, end) in characters, ascending: what a reader of the window can know.
    """

    text: str
    learnt: list[list[int]]


def training_windows(length: int, count: int, seed: int) -> Iterator[Window]:
    """Windows of ``length`` words.

    Args:
        length: a multiple of 16.
        count: how many.
        seed: of all of them.
    """
    generator = random.Random(seed)
    pieces, shares = tuple(PIECES), tuple(PIECES.values())
    for _ in range(count):
        parts = generator.choices(pieces, shares)[0]
        words, known = [], []
        for _ in range(parts):
            piece = _piece(generator, length // parts)
            known += [(len(words) + begin, len(words) + end) for begin, end in piece[1]]
            words += piece[0]
        width = len(words[0]) + 1  # all words are alike long
        learnt = [[begin * width, end * width - 1] for begin, end in sorted(known)]
        yield Window(" ".join(words), learnt)


def _piece(generator: random.Random, length: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Words, and [begin, end) of those that can be known: a second showing less its first word."""
    slots = length // SPAN + 1  # one more, since the piece is cut at any place
    pairs = max(1, min((slots - 1) // 2, len(CONTENT) // SPAN))
    content = generator.sample(CONTENT, pairs * SPAN)
    places = generator.sample(range(slots), 2 * pairs)
    words, known = generator.choices(NOISE, k=slots * SPAN), []
    for pair in range(pairs):
        span = content[pair * SPAN : (pair + 1) * SPAN]
        first, second = sorted(places[2 * pair : 2 * pair + 2])
        for slot in (first, second):
            words[slot * SPAN : (slot + 1) * SPAN] = span
        known.append((second * SPAN + 1, (second + 1) * SPAN))
    cut = generator.randrange(SPAN)
    inside = [(max(begin - cut, 0), min(end - cut, length)) for begin, end in known]
    return words[cut : cut + length], [(begin, end) for begin, end in inside if begin < end]

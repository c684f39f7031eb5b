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
        length: at least 12.
        count: how many.
        seed: of all of them.
    """
    generator = random.Random(f"{seed}/{length}")
    slots = length // SPAN + 1  # one more, since the window is cut at any place
    pairs = min((slots - 1) // 2, len(CONTENT) // SPAN)
    for _ in range(count):
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
        inside = [(max(begin - cut, 0), min(end - cut, length)) for begin, end in sorted(known)]
        width = len(words[0]) + 1  # all words are alike long
        learnt = [[begin * width, end * width - 1] for begin, end in inside if begin < end]
        yield Window(" ".join(words[cut : cut + length]), learnt)

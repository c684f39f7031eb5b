# SPDX-License-Identifier: Apache-2.0
"""BABILong's samples: the facts of a story between the sentences of other texts.

The draws are those of babilong/babilong_utils.py and data/create_tasks.py, where these have seeds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from nltk.tokenize.punkt import PunktSentenceTokenizer

from e2_common.errors import UserError
from e2_tools.evaluation.babilong.facts import Story

SHORTEST = 10  # tokens of a sentence of the background
PER_TOKEN = 10  # characters of a text that are looked at, for each token that is missing
ROW = 8  # tokens that a fact takes, about: stories with more facts than fit are left out
TRIES = 200  # texts in a row that give no sentence


class Background:
    """Sentences of texts, from a drawn place of a drawn text on.

    Args:
        texts: to draw from.
        tokenizer: the model's.
        seed: of the draws.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Any, seed: int) -> None:
        self._texts, self._tokenizer = texts, tokenizer
        self._draws = np.random.default_rng(seed)
        self._split = PunktSentenceTokenizer()  # knows no abbreviations, as there
        self._left: list[str] = []

    def take(self, size: int) -> list[list[int]]:
        """Return sentences of ``size`` tokens together, the last one cut.

        Raises:
            UserError: the texts have no sentences.
        """
        taken: list[list[int]] = []
        missing, empty = size, 0
        while True:
            for place, sentence in enumerate(self._left, 1):
                ids = tokens(self._tokenizer, sentence)
                if len(ids) < SHORTEST:
                    continue
                taken.append(ids[:missing])
                missing, empty = missing - len(ids), 0
                if missing <= 0:
                    self._left = self._left[place:]
                    return taken
            self._left, empty = self._next(size), empty + 1
            if empty > TRIES:
                raise UserError(
                    f"--haystack: hardly has sentences of {SHORTEST} tokens; name longer texts"
                )

    def _next(self, size: int) -> list[str]:
        text = self._texts[int(self._draws.choice(len(self._texts)))]
        if not text:
            return []
        begin = self._draws.choice(len(text))
        return self._split.tokenize(text[begin : begin + PER_TOKEN * size])[1:-1]


def tokens(tokenizer: Any, sentence: str) -> list[int]:
    """Return the token ids of a sentence behind another."""
    return tokenizer(f" {sentence}", add_special_tokens=False).input_ids


class Mixer:
    """Puts facts into a background of a given length.

    Args:
        background: gives the sentences.
        tokenizer: the model's.
        seed: of the places.
    """

    def __init__(self, background: Background, tokenizer: Any, seed: int) -> None:
        self._background, self._tokenizer = background, tokenizer
        self._draws = np.random.default_rng(seed)

    def context(self, story: Story, size: int) -> str | None:
        """Return a text of ``size`` tokens; None if the facts alone take as many."""
        facts = [tokens(self._tokenizer, fact) for fact in story.facts]
        room = size - sum(map(len, facts))
        if room <= 0:
            return None
        parts = self._background.take(room)
        places = np.sort(self._draws.choice(range(len(parts) + 1), len(facts)))
        for place, fact in reversed(list(zip(places, facts, strict=True))):
            parts.insert(place, fact)
        return self._tokenizer.decode([token for part in parts for token in part])


def order(stories: Sequence[Story], size: int, seed: int) -> list[Story]:
    """Return the stories that may fit into ``size`` tokens, in the order in which they are asked.

    The last one is never asked, as there.
    """
    fitting = [story for story in stories if len(story.facts) + 1 <= size // ROW]
    numbers = list(range(len(fitting) - 1))
    np.random.RandomState(seed).shuffle(numbers)
    return [fitting[number] for number in numbers]

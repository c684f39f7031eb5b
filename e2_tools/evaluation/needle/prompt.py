# SPDX-License-Identifier: Apache-2.0
"""RULER's needle prompt: a sentence with a magic number in a haystack, and a question for it.

Template, needle, answer prefix and metric are those of NVIDIA/RULER's ``niah_single_1`` to ``_3``,
to the character.
"""

import random
import uuid
from functools import cache
from typing import Any

from e2_common.errors import UserError
from e2_tools.evaluation.needle.haystack import Haystack
from e2_tools.evaluation.retrieval.question import Question

# Below, values is the plural that RULER's sentence has even where there is a single needle.
NEEDLE = "One of the special magic {values} for {key} is: {value}."
PROMPT = (
    "A special magic {kind} is hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {kind} afterwards.\n"
    "{context}\n"
    "What is the special magic {kind} for {key} mentioned in the provided text? "
    "The special magic {kind} for {key} mentioned in the provided text is"
)
VALUES = ("numbers", "uuids")  # of niah_single_1 and _2, and of niah_single_3
DIGITS = 7


class Needle:
    """The test, see :class:`e2_tools.evaluation.retrieval.question.Retrieval`.

    Args:
        seed: of keys and values.
        haystack: around the needle; its unit is the test's.
        values: ``numbers`` of seven digits, or ``uuids``.
    """

    schema = "e2-llm/needle/1"
    max_new_tokens = 128
    spare_tokens = 0

    def __init__(self, seed: int, haystack: Haystack, values: str) -> None:
        self.seed, self.haystack, self.values = seed, haystack, values
        self.settings = {**haystack.settings, "values": values}
        _words()  # so that a missing package is told before a model is loaded

    def sample(self, size: int) -> str:
        """See :class:`e2_tools.evaluation.retrieval.question.Retrieval`."""
        return self.question(size, 0, 50, 0).prompt

    def question(self, size: int, window: int, depth: float, trial: int) -> Question:
        """See :class:`e2_tools.evaluation.retrieval.question.Retrieval`."""
        key, value = draw_needle(self.seed, window, depth, trial, self.values)
        needle = NEEDLE.format(values=self.values, key=key, value=value)
        context = self.haystack.around(needle, size, depth)
        kind = self.values.removesuffix("s")
        prompt = PROMPT.format(kind=kind, context=context, key=key)
        return Question(prompt, {"key": key, "value": value})

    def is_right(self, answer: str, hidden: dict[str, Any]) -> bool:
        """RULER's ``string_match_all`` of a single reference: it occurs, whatever its case."""
        return hidden["value"].lower() in answer.lower()


def draw_needle(seed: int, window: int, depth: float, trial: int, values: str) -> tuple[str, str]:
    """Draw a key (adjective-noun) and a value that depend on nothing but these arguments."""
    source = random.Random(f"{seed}/{window}/{depth:g}/{trial}/{values}")
    adjectives, nouns = _words()
    key = f"{source.choice(adjectives)}-{source.choice(nouns)}"
    if values == "uuids":
        return key, str(uuid.UUID(int=source.getrandbits(128), version=4))
    return key, str(source.randint(10 ** (DIGITS - 1), 10**DIGITS - 1))


@cache
def _words() -> tuple[list[str], list[str]]:
    """Adjectives and nouns of RULER's source."""
    try:
        from wonderwords import RandomWord
    except ImportError as error:
        raise UserError("the package wonderwords is missing; pip install wonderwords") from error
    words = RandomWord()
    kinds = (words.filter(include_categories=[kind]) for kind in ("adjective", "noun"))
    adjectives, nouns = (sorted(set(kind)) for kind in kinds)
    return adjectives, nouns

# SPDX-License-Identifier: Apache-2.0
"""RULER's needle prompt: a sentence with a magic number in a haystack, and a question for it.

Template, needle, answer prefix and metric are those of ``niah_single_1`` to ``_3``, see
:mod:`e2_tools.evaluation.ruler.tasks`; the needle's depth is the user's.
"""

import random
from typing import Any

from e2_tools.evaluation.needle.haystack import Haystack
from e2_tools.evaluation.retrieval.question import Question
from e2_tools.evaluation.ruler.score import string_match_all
from e2_tools.evaluation.ruler.tasks import NEEDLE, NIAH, for_one
from e2_tools.evaluation.ruler.words import draw_magic, word_list

TEMPLATE, ANSWER_PREFIX = for_one(NIAH.template), for_one(NIAH.answer_prefix)
VALUES = ("numbers", "uuids")  # of niah_single_1 and _2, and of niah_single_3


class Needle:
    """The test, see :class:`e2_tools.evaluation.retrieval.question.Retrieval`.

    Args:
        seed: of keys and values.
        haystack: around the needle; its unit is the test's.
        values: ``numbers`` of seven digits, or ``uuids``.
    """

    schema = "e2-llm/needle/1"
    max_new_tokens = NIAH.max_new_tokens
    spare_tokens = 0

    def __init__(self, seed: int, haystack: Haystack, values: str) -> None:
        self.seed, self.haystack, self.values = seed, haystack, values
        self.settings = {**haystack.settings, "values": values}
        word_list("noun")  # so that a missing package is told before a model is loaded

    def sample(self, size: int) -> Question:
        """See :class:`e2_tools.evaluation.retrieval.question.Retrieval`."""
        return self.question(size, 0, 50, 0)

    def question(self, size: int, window: int, depth: float, trial: int) -> Question:
        """See :class:`e2_tools.evaluation.retrieval.question.Retrieval`."""
        key, value = draw_needle(self.seed, window, depth, trial, self.values)
        needle = NEEDLE.format(values=self.values, key=key, value=value)
        context = self.haystack.around(needle, size, depth)
        kind = self.values.removesuffix("s")
        text = TEMPLATE.format(kind=kind, context=context, key=key)
        prefix = ANSWER_PREFIX.format(kind=kind, key=key)
        return Question(text, {"key": key, "value": value}, prefix)

    def is_right(self, answer: str, hidden: dict[str, Any]) -> bool:
        """RULER's ``string_match_all`` of a single reference: it occurs, whatever its case."""
        return string_match_all(answer, [hidden["value"]]) == 1


def draw_needle(seed: int, window: int, depth: float, trial: int, values: str) -> tuple[str, str]:
    """Draw a key (adjective-noun) and a value that depend on nothing but these arguments."""
    source = random.Random(f"{seed}/{window}/{depth:g}/{trial}/{values}")
    key = f"{source.choice(word_list('adjective'))}-{source.choice(word_list('noun'))}"
    return key, draw_magic(source, values)

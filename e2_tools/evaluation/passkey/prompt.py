# SPDX-License-Identifier: Apache-2.0
"""The passkey prompt: a number told once in a long meaningless text, asked for at its end.

The wording is that of Mohtashami and Jaggi (2023, arXiv 2305.16300), appendix, to the character.
"""

import random
import re
from typing import Any

from e2_tools.evaluation.retrieval.question import Question

TASK = (
    "There is an important info hidden inside a lot of irrelevant text. "
    "Find it and memorize them. I will quiz you about the important information there."
)
FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
KEY = "The pass key is {key}. Remember it. {key} is the pass key."
QUESTION = "What is the pass key?"
ANSWER_PREFIX = " The pass key is"
LARGEST_KEY = 50_000


class Passkey:
    """The test, a :class:`e2_tools.evaluation.retrieval.question.Retrieval` in characters."""

    schema = "e2-llm/passkey/1"
    max_new_tokens = 10
    spare_tokens = 8  # a filler cut elsewhere, or another key, may take a few tokens more

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.settings: dict[str, Any] = {}

    def sample(self, size: int) -> Question:
        """See :class:`e2_tools.evaluation.retrieval.question.Retrieval`."""
        return Question(build_question(size, 50, LARGEST_KEY), {}, ANSWER_PREFIX)

    def question(self, size: int, window: int, depth: float, trial: int) -> Question:
        """See :class:`e2_tools.evaluation.retrieval.question.Retrieval`."""
        key = draw_key(self.seed, window, depth, trial)
        return Question(build_question(size, depth, key), {"key": key}, ANSWER_PREFIX)

    def is_right(self, answer: str, hidden: dict[str, Any]) -> bool:
        """Whether the first number of an answer is the key."""
        number = re.search(r"\d+", answer)
        return number is not None and int(number[0]) == hidden["key"]


def build_question(filler_length: int, depth: float, key: int) -> str:
    """Return the question: five lines, of which the second and fourth are filler.

    Args:
        filler_length: characters of both fillers together.
        depth: which share of them stands before the key, in percent.
        key: the number to find.
    """
    before = round(filler_length * depth / 100)
    lines = (
        TASK,
        _filler(before),
        KEY.format(key=key),
        _filler(filler_length - before),
        QUESTION,
    )
    return "\n".join(lines)


def draw_key(seed: int, window: int, depth: float, trial: int) -> int:
    """Draw a key, 1 to 50,000, that depends on nothing but these four numbers."""
    return random.Random(f"{seed}/{window}/{depth:g}/{trial}").randint(1, LARGEST_KEY)


def _filler(length: int) -> str:
    repeated = f"{FILLER} " * (length // len(FILLER) + 1)
    return repeated[:length]

# SPDX-License-Identifier: Apache-2.0
"""The prompt of span recall: a long window, and the first word of a span that stands in it."""

import random
from typing import Any

from e2_tools.evaluation.recall.words import CONTENT, NOISE, SPAN
from e2_tools.evaluation.retrieval.question import Question

AMONG = ("noise", "spans")


class Recall:
    """The test, a :class:`e2_tools.evaluation.retrieval.question.Retrieval` in words.

    Args:
        seed: of the questions.
        among: ``noise``, the span stands alone among meaningless words; ``spans``, every other span
            of the language is told once too.
    """

    schema = "e2-llm/recall/1"
    max_new_tokens = SPAN - 1
    spare_tokens = 0

    def __init__(self, seed: int, among: str) -> None:
        self.seed, self.among = seed, among
        self.settings: dict[str, Any] = {"among": among}

    def sample(self, size: int) -> Question:
        """See :class:`e2_tools.evaluation.retrieval.question.Retrieval`."""
        return self.question(size, 0, 50, 0)

    def question(self, size: int, window: int, depth: float, trial: int) -> Question:
        """See :class:`e2_tools.evaluation.retrieval.question.Retrieval`."""
        generator = random.Random(f"{self.seed}/{self.among}/{window}/{depth:g}/{trial}")
        content = generator.sample(CONTENT, len(CONTENT))
        asked, *others = (content[i : i + SPAN] for i in range(0, len(content), SPAN))
        words = generator.choices(NOISE, k=size)
        slots = size // SPAN
        hidden = round(depth / 100 * max(slots - 1, 0))
        if slots:
            words[hidden * SPAN : (hidden + 1) * SPAN] = asked
        if self.among == "spans":
            free = [slot for slot in range(slots) if slot != hidden]
            chosen = generator.sample(free, min(len(others), len(free)))
            for slot, other in zip(chosen, others, strict=False):
                words[slot * SPAN : (slot + 1) * SPAN] = other
        return Question(" ".join([*words, asked[0]]), {"span": " ".join(asked)})

    def is_right(self, answer: str, hidden: dict[str, Any]) -> bool:
        """Whether an answer continues the span to its end."""
        return answer.split()[: SPAN - 1] == hidden["span"].split()[1:]

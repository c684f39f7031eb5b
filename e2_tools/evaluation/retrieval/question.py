# SPDX-License-Identifier: Apache-2.0
"""What a retrieval test is: how it asks, and which answers are right."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Question:
    """A question, and what it hides as the result file records it beside a wrong answer.

    Attributes:
        text: up to where the answer begins; a chat template goes around it.
        hidden: what is to be found.
        answer_prefix: how the answer begins; the model goes on.
    """

    text: str
    hidden: dict[str, Any]
    answer_prefix: str = ""

    @property
    def prompt(self) -> str:
        """What a base model reads."""
        return self.text + self.answer_prefix


class Retrieval(Protocol):
    """What differs between retrieval tests.

    Attributes:
        schema: of the result file.
        max_new_tokens: of an answer.
        spare_tokens: left free of a window, since prompts of one size differ in tokens; those that
            do not fit nevertheless get a smaller size.
        settings: the test's own, for the result file; results of others are not mixed with them.
    """

    schema: str
    max_new_tokens: int
    spare_tokens: int
    settings: dict[str, Any]

    def sample(self, size: int) -> Question:
        """Return a typical question, or the longest, of ``size`` units of text: to be measured."""
        ...

    def question(self, size: int, window: int, depth: float, trial: int) -> Question:
        """Return a question with ``size`` units of text around what it hides.

        What is hidden depends on the seed, window, depth and trial, and not on the size.
        """
        ...

    def is_right(self, answer: str, hidden: dict[str, Any]) -> bool:
        """Whether a text answers a question."""
        ...

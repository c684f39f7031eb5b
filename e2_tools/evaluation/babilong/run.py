# SPDX-License-Identifier: Apache-2.0
"""A whole BABILong evaluation.

A cell of the result file is one of :mod:`e2_tools.evaluation.ruler.results`; a score is 0 or 1.
"""

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from e2_common.errors import UserError
from e2_common.hf_tokenizer import load_hf_tokenizer, prompt_ids
from e2_tools.evaluation import model as models
from e2_tools.evaluation.babilong.facts import Story, read_stories
from e2_tools.evaluation.babilong.prompts import (
    MAX_NEW_TOKENS,
    SCHEMA,
    TASKS,
    is_right,
    question_of,
)
from e2_tools.evaluation.babilong.samples import Background, Mixer, order
from e2_tools.evaluation.retrieval.by_task import ask_tasks, chat_of, scored
from e2_tools.evaluation.retrieval.grid import begin, go_on
from e2_tools.evaluation.retrieval.results import Cell, draw_results
from e2_tools.evaluation.ruler.results import in_order, rows
from e2_tools.evaluation.ruler.score import percent
from e2_tools.evaluation.ruler.text import read_texts
from e2_tools.evaluation.table import aligned_text
from e2_tools.plotting import save_png


class Sample(NamedTuple):
    """A prompt, and the story that it asks about."""

    prompt: str
    story: Story


@dataclass
class BabiLong:
    """The test, see :class:`e2_tools.evaluation.retrieval.by_task.TaskTest`.

    Attributes:
        stories: of each task.
        texts: that they are hidden in.
        seed: of all draws.
        trials: that a cell has to have.
        tokenizer: the model's.
        chat: what stands around a question.
    """

    stories: dict[str, list[Story]]
    texts: list[str]
    seed: int
    trials: int
    tokenizer: Any
    chat: tuple[str, str]

    def samples(self, task: str, window: int) -> Iterator[Sample]:
        """See :class:`e2_tools.evaluation.retrieval.by_task.TaskTest`."""
        stories, limit = self.stories[task], window - MAX_NEW_TOKENS
        longest = max((story.question for story in stories), key=len)
        size = limit - self._length(self._prompt(task, "", longest))
        mixer = Mixer(Background(self.texts, self.tokenizer, self.seed), self.tokenizer, self.seed)
        asked = order(stories, size, self.seed)
        self._require(len(asked), task, window)  # told before a model is loaded
        found = 0
        for story in asked:
            room = size
            # Tokens of a text are not always those that it was made of.
            while (context := mixer.context(story, room)) is not None:
                prompt = self._prompt(task, context, story.question)
                excess = self._length(prompt) - limit
                if excess <= 0:
                    found += 1
                    yield Sample(prompt, story)
                    break
                room -= excess
        self._require(found, task, window)

    def _require(self, stories: int, task: str, window: int) -> None:
        if stories < self.trials:
            raise UserError(
                f"--windows {window}: {stories} stories of {task} fit, fewer than --trials; use a "
                "larger window or fewer trials"
            )

    def _prompt(self, task: str, context: str, question: str) -> str:
        before, behind = self.chat
        return before + question_of(TASKS[task], context, question) + behind

    def _length(self, prompt: str) -> int:
        return len(prompt_ids(self.tokenizer, prompt, special=self.chat == ("", "")))

    def max_new_tokens(self, task: str) -> int:
        """See :class:`e2_tools.evaluation.retrieval.by_task.TaskTest`."""
        return MAX_NEW_TOKENS

    def graded(self, task: str, told: list[tuple[Sample, str]]) -> Cell:
        """See :class:`e2_tools.evaluation.retrieval.by_task.TaskTest`."""
        cell = scored(
            [
                ([story.answer], answer, float(is_right(answer, story.answer, story.question)))
                for (_, story), answer in told
            ]
        )
        return cell | {"score": percent(cell["scores"])}


def evaluate(args: argparse.Namespace) -> str:
    """Evaluate what a command line asks for.

    Args:
        args: of ``evaluate_babilong.py``.

    Returns:
        the table of scores.

    Raises:
        UserError: anything about the model, the files or the output that the user can mend.
    """
    config = models.config_of(args)
    if not 0 <= args.seed < 2**32:
        raise UserError(f"--seed {args.seed}: has to be 0 to 4294967295")
    stories = {task: read_stories(args.babi, TASKS[task]) for task in TASKS}
    digest = hashlib.sha256(repr(stories).encode()).hexdigest()
    texts, described = read_texts(args.haystack)
    own = {"chat": args.chat, "babi": {"sha256": digest}, "haystack": described}
    results, load = begin(args, config, SCHEMA, own)
    go_on(args, config, results, own)
    tokenizer = load_hf_tokenizer(args.model)
    test = BabiLong(stories, texts, args.seed, args.trials, tokenizer, chat_of(args, tokenizer))
    tasks = [task for task in TASKS if task in args.tasks]
    ask_tasks(args, config, results, load, tokenizer, tasks, test, in_order)
    if args.heat_map:
        save_png(draw_results(results), args.heat_map)
    return aligned_text(rows(results), left=1)

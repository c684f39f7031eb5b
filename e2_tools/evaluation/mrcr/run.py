# SPDX-License-Identifier: Apache-2.0
"""A whole MRCR evaluation.

A cell of the result file is one of :mod:`e2_tools.evaluation.ruler.results`; a score is MRCR's.
"""

import argparse
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from e2_common.errors import UserError
from e2_common.hf_tokenizer import load_hf_tokenizer, prompt_ids
from e2_tools.evaluation import model as models
from e2_tools.evaluation.chat import has_chat_template
from e2_tools.evaluation.mrcr.records import SCHEMA, Record, grade, read_records
from e2_tools.evaluation.retrieval.by_task import ask_tasks, scored
from e2_tools.evaluation.retrieval.grid import begin, go_on
from e2_tools.evaluation.retrieval.results import Cell, draw_results
from e2_tools.evaluation.ruler.results import in_order, rows
from e2_tools.evaluation.ruler.score import percent
from e2_tools.evaluation.table import aligned_text
from e2_tools.plotting import save_png

CHARACTERS = 1, 16  # of a token, at least and at most: beyond, a record is not even tokenized


class Sample(NamedTuple):
    """A prompt, and the record that it is of."""

    prompt: str
    record: Record


@dataclass
class Mrcr:
    """The test, see :class:`e2_tools.evaluation.retrieval.by_task.TaskTest`.

    Attributes:
        records: of each task.
        seed: of their order.
        trials: that a cell has to have.
        tokenizer: the model's.
        chat: whether its chat template is used.
    """

    records: dict[str, list[Record]]
    seed: int
    trials: int
    tokenizer: Any
    chat: bool
    _longest: dict[str, int] = field(default_factory=dict)

    def samples(self, task: str, window: int) -> Iterator[Sample]:
        """Yield records that fill more than half of a window and leave room for any answer."""
        shortest, longest = (window / 2 * CHARACTERS[0], window * CHARACTERS[1])
        numbers = list(range(len(self.records[task])))
        random.Random(self.seed).shuffle(numbers)
        found: list[Sample] = []  # all of them first: too few are told before a model is loaded
        for record in (self.records[task][number] for number in numbers):
            if len(found) == self.trials:
                break
            if not shortest < record.characters < longest:
                continue
            prompt = self.prompt(record)
            tokens = self._length(prompt, special=not self.chat)
            fills = tokens + self._length(record.answer) > window / 2
            if fills and tokens + self.max_new_tokens(task) <= window:
                found.append(Sample(prompt, record))
        if len(found) < self.trials:
            raise UserError(
                f"--windows {window}: {len(found)} records of {task} fill it, fewer than --trials; "
                "name more --data, other windows, or fewer trials"
            )
        yield from found

    def prompt(self, record: Record) -> str:
        """Return a conversation up to where the answer begins."""
        if self.chat:
            return self.tokenizer.apply_chat_template(
                record.messages, tokenize=False, add_generation_prompt=True
            )
        turns = [f"{each['role'].capitalize()}: {each['content']}" for each in record.messages]
        return "\n\n".join([*turns, "Assistant:"])

    def _length(self, text: str, *, special: bool = False) -> int:
        return len(prompt_ids(self.tokenizer, text, special=special))

    def max_new_tokens(self, task: str) -> int:
        """Return the tokens of the task's longest answer."""
        if task not in self._longest:
            self._longest[task] = max(self._length(each.answer) for each in self.records[task])
        return self._longest[task]

    def graded(self, task: str, told: list[tuple[Sample, str]]) -> Cell:
        """See :class:`e2_tools.evaluation.retrieval.by_task.TaskTest`."""
        # Behind "Assistant:" stands a blank.
        answers = [answer if self.chat else answer.removeprefix(" ") for _, answer in told]
        cell = scored(
            [
                ([sample.record.answer], answer, grade(answer, sample.record))
                for (sample, _), answer in zip(told, answers, strict=True)
            ]
        )
        return cell | {"score": percent(cell["scores"])}


def evaluate(args: argparse.Namespace) -> str:
    """Evaluate what a command line asks for.

    Args:
        args: of ``evaluate_mrcr.py``.

    Returns:
        the table of scores.

    Raises:
        UserError: anything about the model, the files or the output that the user can mend.
    """
    config = models.config_of(args)
    records = read_records(args.data)
    names = [path.name for path in args.data]
    digest = hashlib.sha256(repr(records).encode()).hexdigest()
    own = {"chat": args.chat, "data": {"path": names, "sha256": digest}}
    results, load = begin(args, config, SCHEMA, own)
    go_on(args, config, results, own)
    tokenizer = load_hf_tokenizer(args.model)
    if args.chat and not has_chat_template(tokenizer):
        raise UserError(f"--chat: the tokenizer of {args.model} has no chat template; drop it")
    test = Mrcr(records, args.seed, args.trials, tokenizer, args.chat)
    ask_tasks(args, config, results, load, tokenizer, records, test, in_order)
    if args.heat_map:
        save_png(draw_results(results), args.heat_map)
    return aligned_text(rows(results), left=1)

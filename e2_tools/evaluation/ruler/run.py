# SPDX-License-Identifier: Apache-2.0
"""A whole RULER evaluation."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_common.json_file import read_json_object
from e2_tools.evaluation import model as models
from e2_tools.evaluation.result_file import Results
from e2_tools.evaluation.retrieval.by_task import ask_tasks, chat_of, scored
from e2_tools.evaluation.retrieval.grid import begin, go_on
from e2_tools.evaluation.ruler.results import SCHEMA, Cell, draw_scores, in_order, score_table
from e2_tools.evaluation.ruler.score import METRICS, cleaned, percent
from e2_tools.evaluation.ruler.sizing import Room, Sample
from e2_tools.evaluation.ruler.sources import FILES, Sources, chosen_tasks, read_sources
from e2_tools.evaluation.ruler.tasks import TASKS
from e2_tools.plotting import save_png


@dataclass
class Ruler:
    """The test, see :class:`e2_tools.evaluation.retrieval.by_task.TaskTest`.

    Attributes:
        sources: what its tasks draw from.
        seed: RULER's ``--random_seed``.
        tokenizer: the model's, which measures prompts.
        chat: what stands around a question.
    """

    sources: Sources
    seed: int
    tokenizer: Any
    chat: tuple[str, str]

    def samples(self, task: str, window: int) -> Iterator[Sample]:
        """See :class:`e2_tools.evaluation.retrieval.by_task.TaskTest`."""
        room = Room(self.seed, window, lambda text: len(self.tokenizer.tokenize(text)), self.chat)
        return self.sources.samples(task, room)

    def max_new_tokens(self, task: str) -> int:
        """See :class:`e2_tools.evaluation.retrieval.by_task.TaskTest`."""
        return TASKS[task].family.max_new_tokens

    def graded(self, task: str, told: list[tuple[Sample, str]]) -> Cell:
        """See :class:`e2_tools.evaluation.retrieval.by_task.TaskTest`."""
        pairs = [(sample.answers, answer) for sample, answer in told]
        return graded(TASKS[task].family.metric, pairs)


def evaluate(args: argparse.Namespace) -> str:
    """Evaluate what a command line asks for.

    Args:
        args: of ``evaluate_ruler.py``.

    Returns:
        the table of scores.

    Raises:
        UserError: anything about the model, the files or the output that the user can mend.
    """
    config = models.config_of(args)
    tasks, missing = chosen_tasks(args)
    sources = read_sources(args, tasks)
    results, load = begin(args, config, SCHEMA, {"chat": args.chat, **sources.settings})
    theirs = _files_of_before(args, results) if args.resume else ()
    go_on(args, config, results, ("words", *theirs))
    if missing:
        print(f"note: no files for {', '.join(missing)}: left out of the mean", file=sys.stderr)
    tokenizer = load_hf_tokenizer(args.model)
    test = Ruler(sources, args.seed, tokenizer, chat_of(args, tokenizer))
    ask_tasks(args, config, results, load, tokenizer, tasks, test, in_order)
    if args.heat_map:
        save_png(draw_scores(results), args.heat_map)
    return score_table(results)


def graded(metric: str, told: list[tuple[list[str], str]]) -> Cell:
    """Return the part of a cell that says how right its answers are.

    Args:
        metric: a key of :data:`e2_tools.evaluation.ruler.score.METRICS`.
        told: references and answer of each trial.
    """
    cell = scored(
        [
            (references, answer, METRICS[metric](cleaned(answer), references))
            for references, answer in told
        ]
    )
    return cell | {"score": percent(cell["scores"])}


def _files_of_before(args: argparse.Namespace, results: Results) -> list[str]:
    """The files of the output's cells: these need not be named again, but may not be others."""
    before = read_json_object(args.output, "drop --resume") if args.output.exists() else {}
    theirs = [name for name in FILES if before.get(name) is not None]
    for name in theirs:
        results[name] = results[name] or before[name]
    return theirs

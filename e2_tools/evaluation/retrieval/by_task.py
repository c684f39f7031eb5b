# SPDX-License-Identifier: Apache-2.0
"""A grid of windows and tasks: samples are drawn, asked window by window, results written."""

import argparse
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from transformers import PreTrainedModel

from e2_common.hf_tokenizer import prompt_ids
from e2_common.progress import progress_bar
from e2_llm.window import Config
from e2_tools.evaluation.chat import around_message
from e2_tools.evaluation.result_file import Results
from e2_tools.evaluation.retrieval.grid import Progress, answers_to, run_cells, shared_prefill
from e2_tools.evaluation.retrieval.results import Cell


class Asked(Protocol):
    """What is asked."""

    @property
    def prompt(self) -> str:
        """What the model reads, chat template and beginning of the answer included."""
        ...


class TaskTest[S: Asked](Protocol):
    """What differs between tests by task."""

    def samples(self, task: str, window: int) -> Iterator[S]:
        """Yield what is asked in a cell; as many as there are.

        Raises:
            UserError: the window is too small.
        """
        ...

    def max_new_tokens(self, task: str) -> int:
        """Return the tokens of an answer, at most."""
        ...

    def graded(self, task: str, told: list[tuple[S, str]]) -> Cell:
        """Return the part of a cell that says how right its answers are; see :func:`scored`."""
        ...


def chat_of(args: argparse.Namespace, tokenizer: Any) -> tuple[str, str]:
    """Return what ``--chat`` puts around a question; nothing without it.

    Raises:
        UserError: the tokenizer has no chat template, or one that changes messages.
    """
    return around_message(tokenizer, args.model) if args.chat else ("", "")


def ask_tasks(
    args: argparse.Namespace,
    config: Config,
    results: Results,
    load: Callable[[], PreTrainedModel],
    tokenizer: Any,
    tasks: Iterable[str],
    test: TaskTest,
    order: Callable[[Cell], Any],
) -> None:
    """Ask every task in every window that the results lack; write the file after each cell.

    Args:
        args: with the flags of :mod:`e2_tools.evaluation.retrieval.arguments`, ``--chat`` too.
        config: the dict of the model's ``config.json``.
        results: the settings, and the cells that are there already; is added to.
        load: gives the model.
        tokenizer: the model's.
        tasks: names.
        test: what is asked.
        order: sorts the cells.

    Raises:
        UserError: a window is too small, which is told before the model is loaded.
    """
    done = {(cell["window"], cell["task"]) for cell in results["results"]}
    places = itertools.product(dict.fromkeys(args.windows), tasks)
    todo = [place for place in places if place not in done]
    drawn, shared = {}, shared_prefill(args)
    with progress_bar(len(todo), "cell", "first prompts", delay=2, leave=False) as bar:
        for window, task in todo:
            samples = test.samples(task, window)
            drawn[window, task] = itertools.chain([next(samples)], samples)
            bar.update()

    def answer(model: PreTrainedModel, window: int, task: str, progress: Progress) -> Cell:
        asked = list(itertools.islice(drawn.pop((window, task)), args.trials))
        prompts = [prompt_ids(tokenizer, each.prompt, special=not args.chat) for each in asked]
        new = test.max_new_tokens(task)
        scale, answers = answers_to(
            model, config, tokenizer, prompts, window, new, args, shared, progress
        )
        told = {"scale": scale, "prompt_tokens": max(map(len, prompts))}
        graded = test.graded(task, list(zip(asked, answers, strict=True)))
        return {"window": window, "task": task} | told | graded

    named = {(window, task): f"window {window}, {task}" for window, task in todo}
    run_cells(args, results, named, load, answer, order)


def scored(told: Sequence[tuple[list[str], str, float]]) -> Cell:
    """Return trials, scores, their sum and mean, and each trial that is not wholly right.

    Args:
        told: references, answer and score from 0 to 1 of each trial.
    """
    scores = [score for *_, score in told]
    wrong = [
        {"trial": trial, "references": references, "answer": answer, "score": score}
        for trial, (references, answer, score) in enumerate(told)
        if score < 1
    ]
    return {
        "trials": len(scores),
        "correct": sum(scores),
        "accuracy": sum(scores) / len(scores),
        "scores": scores,
        "wrong": wrong,
    }

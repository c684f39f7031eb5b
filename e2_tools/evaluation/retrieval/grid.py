# SPDX-License-Identifier: Apache-2.0
"""A whole retrieval test: load, ask cell by cell, write results as they come.

:func:`run_cells`, :func:`answers_to` and :func:`settings_of` are for tests of other rows, too.
"""

import argparse
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from transformers import PreTrainedModel

from e2_common.errors import UserError
from e2_common.hf_tokenizer import load_hf_tokenizer, prompt_ids
from e2_common.outputs import check_output
from e2_common.progress import progress_bar
from e2_common.provenance import provenance
from e2_llm.window import Config, base_window
from e2_tools.arguments import check_png
from e2_tools.evaluation import model as models
from e2_tools.evaluation.chat import around_message
from e2_tools.evaluation.result_file import Results, write_results
from e2_tools.evaluation.retrieval.question import Question, Retrieval
from e2_tools.evaluation.retrieval.results import Cell, accuracy_table, cells_to_keep, draw_results
from e2_tools.plotting import save_png
from transformers_patches.generation import generate, scale_of_request
from transformers_patches.shared_prefill import SharedPrefill, in_order

Progress = Callable[[int], object]  # takes the tokens that are done
Read = Callable[[Question], list[int]]  # gives the token ids of a question's prompt


def evaluate(args: argparse.Namespace, test: Retrieval) -> str:
    """Evaluate what a command line asks for.

    Args:
        args: with the flags of :func:`e2_tools.evaluation.retrieval.arguments.add_grid_arguments`.
        test: what is asked, and which answers are right.

    Returns:
        the table of accuracies.

    Raises:
        UserError: anything about the model or the output that the user can mend.
    """
    config = models.config_of(args)
    depths = list(dict.fromkeys(args.depths))
    chat = bool(getattr(args, "chat", False))  # not every test asks in a template
    results, load = begin(args, config, test.schema, test.settings | {"chat": chat})
    go_on(args, config, results, test.settings)
    tokenizer = load_hf_tokenizer(args.model)
    read = reader(tokenizer, around_message(tokenizer, args.model) if chat else None)
    sizes = {window: fill(test, read, window) for window in dict.fromkeys(args.windows)}
    done = {(cell["window"], cell["depth"]) for cell in results["results"]}
    todo = [cell for cell in itertools.product(sizes, depths) if cell not in done]
    shared = shared_prefill(args)

    def answer(model: PreTrainedModel, window: int, depth: float, progress: Progress) -> Cell:
        asked = [
            fitting(test, read, sizes[window], window, depth, trial) for trial in range(args.trials)
        ]
        cell = ask(model, config, tokenizer, test, asked, window, args, shared, progress)
        return {"window": window, "depth": depth, **cell}

    named = {place: f"window {place[0]}, depth {place[1]:g} %" for place in todo}
    run_cells(args, results, named, load, answer, lambda cell: (cell["window"], cell["depth"]))
    if args.heat_map:
        save_png(draw_results(results), args.heat_map)
    return accuracy_table(results)


def begin(
    args: argparse.Namespace, config: Config, schema: str, own: Results
) -> tuple[Results, Callable[[], PreTrainedModel]]:
    """Return a run's settings without a cell, and what loads its model; its files can be written.

    Args:
        args: with the flags of :mod:`e2_tools.evaluation.retrieval.arguments`.
        config: the dict of the model's ``config.json``.
        schema: of the result file.
        own: the test's own settings.

    Raises:
        UserError: no such device here, or an output that cannot be written.
    """
    if args.heat_map:
        check_png("--heat-map", args.heat_map)
    results = settings_of(args, config, schema, own)
    load = models.model_loader(args)
    for path in filter(None, (args.output, args.heat_map)):
        check_output(path)
    return results, load


def go_on(
    args: argparse.Namespace, config: Config, results: Results, own_settings: Iterable[str]
) -> None:
    """With ``--resume``, put the cells into ``results`` that the output holds already.

    Args:
        args: with the flags of :mod:`e2_tools.evaluation.retrieval.arguments`.
        config: the dict of the model's ``config.json``.
        results: from :func:`begin`.
        own_settings: names of the test's own settings, which have to be the same too.

    Raises:
        UserError: the output was made with other settings.
    """
    if args.resume:

        def scale_of(window: int) -> float | None:
            return scale_of_request(config, window, 0, args.scale)

        results["results"] = cells_to_keep(args.output, results, own_settings, scale_of)


def run_cells(
    args: argparse.Namespace,
    results: Results,
    todo: dict[tuple[int, Any], str],
    load: Callable[[], PreTrainedModel],
    answer: Callable[[PreTrainedModel, int, Any, Progress], Cell],
    order: Callable[[Cell], Any],
) -> None:
    """Ask cell by cell behind a progress bar, and write the result file after each.

    Args:
        args: with the flags of :mod:`e2_tools.evaluation.retrieval.arguments`.
        results: the settings, and the cells that are there already; is added to.
        todo: (window in tokens, row) -> what the bar calls the cell.
        load: gives the model; not called if there is nothing to do.
        answer: a cell's part of the result file, from the model, window, row, and the function that
            takes the tokens done.
        order: sorts the cells.
    """
    if not todo:
        return
    model = load()
    with progress_bar(args.trials * sum(window for window, _ in todo), "tok") as bar:
        for (window, row), name in todo.items():
            bar.set_description(name)
            results["results"].append(answer(model, window, row, bar.update))
            results["results"].sort(key=order)
            write_results(args.output, results)


def reader(tokenizer: Any, chat: tuple[str, str] | None = None) -> Read:
    """Return how a question becomes the token ids of its prompt.

    Args:
        tokenizer: a transformers tokenizer.
        chat: what the chat template puts around a message, its BOS included; None without one.
    """
    before, behind = chat or ("", "")
    return lambda asked: prompt_ids(
        tokenizer, before + asked.text + behind + asked.answer_prefix, special=chat is None
    )


def fill(test: Retrieval, read: Read, window: int) -> int:
    """Return the largest size at which a prompt and its answer fit into a window.

    Args:
        test: its sample is measured.
        read: from :func:`reader`.
        window: in tokens.

    Raises:
        UserError: the window is too small for the prompt without any text around.
    """
    room = window - test.max_new_tokens - test.spare_tokens

    def fits(size: int) -> bool:
        return len(read(test.sample(size))) <= room

    if not fits(0):
        raise UserError(f"--windows {window}: too small for the question alone; use a larger one")
    below, above = 0, 256
    while fits(above):
        below, above = above, 2 * above
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if fits(middle) else (below, middle)
    return below


def fitting(
    test: Retrieval, read: Read, size: int, window: int, depth: float, trial: int
) -> tuple[Question, list[int]]:
    """Return a question of a cell with its token ids, a little below ``size`` if need be."""
    while True:
        question = test.question(size, window, depth, trial)
        ids = read(question)
        if len(ids) + test.max_new_tokens <= window:
            return question, ids
        size -= 1
        if size < 0:
            raise UserError(
                f"--windows {window}: a question takes {len(ids)} tokens; use a larger window"
            )


def ask(
    model: PreTrainedModel,
    config: Config,
    tokenizer: Any,
    test: Retrieval,
    asked: Sequence[tuple[Question, list[int]]],
    window: int,
    args: argparse.Namespace,
    shared: SharedPrefill | None = None,
    progress: Progress = lambda tokens: None,
) -> Cell:
    """Ask the questions of one cell; return its part of the result file."""
    prompts = [ids for _, ids in asked]
    scale, answers = answers_to(
        model, config, tokenizer, prompts, window, test.max_new_tokens, args, shared, progress
    )
    wrong = [
        {**question.hidden, "answer": answer}
        for (question, _), answer in zip(asked, answers, strict=True)
        if not test.is_right(answer, question.hidden)
    ]
    correct = len(asked) - len(wrong)
    return {
        "scale": scale,
        "prompt_tokens": max(map(len, prompts)),
        "trials": len(asked),
        "correct": correct,
        "accuracy": correct / len(asked),
        "wrong": wrong,
    }


def answers_to(
    model: PreTrainedModel,
    config: Config,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    window: int,
    max_new_tokens: int,
    args: argparse.Namespace,
    shared: SharedPrefill | None,
    progress: Progress,
) -> tuple[float | None, list[str]]:
    """Return the scale of a cell, None for the model's own RoPE, and the answers to its prompts."""
    # One scale for the cell, that of its window: prompts differ by a few tokens.
    scale = scale_of_request(config, window - max_new_tokens, max_new_tokens, args.scale)
    answers = {}
    order = range(len(prompts)) if shared is None else in_order(prompts)
    for numbers in itertools.batched(order, args.batch_size):
        batch, fixed = [prompts[n] for n in numbers], "none" if scale is None else scale
        new = generate(model, batch, max_new_tokens, config=config, scale=fixed, shared=shared)
        for number, ids in zip(numbers, new, strict=True):
            answers[number] = tokenizer.decode(ids, skip_special_tokens=True)
        progress(window * len(batch))
    return scale, [answers[number] for number in range(len(prompts))]


def shared_prefill(args: argparse.Namespace) -> SharedPrefill | None:
    """Return what keeps the beginnings of prompts for a whole run, unless it is switched off."""
    return SharedPrefill() if args.shared_prefill else None


def settings_of(
    args: argparse.Namespace, config: Config, schema: str, own: dict[str, Any]
) -> Results:
    """Return a result file without results: what all tests record, and a test's own settings."""
    return {
        "schema": schema,
        **models.described(args, config),
        "trials": args.trials,
        "seed": args.seed,
        "base_window": None if args.scale == "none" else base_window(config),
        **own,
        "results": [],
        "provenance": provenance(args.model),
    }

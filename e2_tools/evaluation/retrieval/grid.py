# SPDX-License-Identifier: Apache-2.0
"""A whole retrieval test: load, ask cell by cell, write results as they come."""

import argparse
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedModel

from e2_common.errors import UserError
from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_common.outputs import check_output
from e2_common.progress import progress_bar
from e2_common.provenance import provenance
from e2_llm.window import Config, base_window
from e2_tools.evaluation import model as models
from e2_tools.evaluation.generate import generate, scale_of_request
from e2_tools.evaluation.result_file import write_results
from e2_tools.evaluation.retrieval.question import Question, Retrieval
from e2_tools.evaluation.retrieval.results import Cell, accuracy_table, cells_to_keep, draw_results
from e2_tools.plotting import save_png


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
    results = _settings(args, config, test)
    load = models.model_loader(args)
    for path in filter(None, (args.output, args.heat_map)):
        check_output(path)
    if args.resume:
        results["results"] = cells_to_keep(args.output, results, test.settings)
    tokenizer = load_hf_tokenizer(args.model)
    sizes = {window: fill(test, tokenizer, window) for window in dict.fromkeys(args.windows)}
    done = {(cell["window"], cell["depth"]) for cell in results["results"]}
    todo = [cell for cell in itertools.product(sizes, depths) if cell not in done]
    if todo:
        model = load()
        with progress_bar(args.trials * sum(window for window, _ in todo), "tok") as bar:
            for window, depth in todo:
                bar.set_description(f"window {window}, depth {depth:g} %")
                asked = [
                    fitting(test, tokenizer, sizes[window], window, depth, trial)
                    for trial in range(args.trials)
                ]
                cell = ask(model, config, tokenizer, test, asked, window, args, bar.update)
                results["results"].append({"window": window, "depth": depth, **cell})
                results["results"].sort(key=lambda cell: (cell["window"], cell["depth"]))
                write_results(args.output, results)
    if args.heat_map:
        save_png(draw_results(results), args.heat_map)
    return accuracy_table(results)


def fill(test: Retrieval, tokenizer: Any, window: int) -> int:
    """Return the largest size at which a prompt and its answer fit into a window.

    Args:
        test: its sample is measured.
        tokenizer: a transformers tokenizer.
        window: in tokens.

    Raises:
        UserError: the window is too small for the prompt without any text around.
    """
    room = window - test.max_new_tokens - test.spare_tokens

    def fits(size: int) -> bool:
        return len(tokenizer(test.sample(size)).input_ids) <= room

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
    test: Retrieval, tokenizer: Any, size: int, window: int, depth: float, trial: int
) -> tuple[Question, list[int]]:
    """Return a question of a cell with its token ids, a little below ``size`` if need be."""
    while True:
        question = test.question(size, window, depth, trial)
        ids = tokenizer(question.prompt).input_ids
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
    progress: Callable[[int], object] = lambda tokens: None,
) -> Cell:
    """Ask the questions of one cell; return its part of the result file."""
    # One scale for the cell, that of its window: prompts differ by a few tokens.
    scale = scale_of_request(config, window - test.max_new_tokens, test.max_new_tokens, args.scale)
    wrong = []
    for batch in itertools.batched(asked, args.batch_size):
        fixed = "none" if scale is None else scale
        prompts = [ids for _, ids in batch]
        new = generate(model, config, prompts, test.max_new_tokens, scale=fixed)
        for (question, _), ids in zip(batch, new, strict=True):
            answer = tokenizer.decode(ids, skip_special_tokens=True)
            if not test.is_right(answer, question.hidden):
                wrong.append({**question.hidden, "answer": answer})
        progress(window * len(batch))
    correct = len(asked) - len(wrong)
    return {
        "scale": scale,
        "prompt_tokens": max(len(ids) for _, ids in asked),
        "trials": len(asked),
        "correct": correct,
        "accuracy": correct / len(asked),
        "wrong": wrong,
    }


def _settings(args: argparse.Namespace, config: Config, test: Retrieval) -> dict[str, Any]:
    return {
        "schema": test.schema,
        **models.described(args, config),
        "trials": args.trials,
        "seed": args.seed,
        "base_window": None if args.scale == "none" else base_window(config),
        **test.settings,
        "results": [],
        "provenance": provenance(args.model),
    }

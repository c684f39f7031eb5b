# SPDX-License-Identifier: Apache-2.0
"""A whole RULER evaluation: draw the samples, ask window by window, write results as they come."""

import argparse
import itertools
import sys
from typing import Any

from transformers import PreTrainedModel

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_common.json_file import read_json_object
from e2_common.outputs import check_output
from e2_common.progress import progress_bar
from e2_tools.evaluation import model as models
from e2_tools.evaluation.chat import around_message
from e2_tools.evaluation.result_file import Results
from e2_tools.evaluation.retrieval.grid import (
    Progress,
    answers_to,
    run_cells,
    settings_of,
    shared_prefill,
)
from e2_tools.evaluation.retrieval.results import cells_to_keep
from e2_tools.evaluation.ruler.results import SCHEMA, Cell, draw_scores, in_order, score_table
from e2_tools.evaluation.ruler.score import METRICS, cleaned, percent
from e2_tools.evaluation.ruler.sizing import Room
from e2_tools.evaluation.ruler.sources import FILES, chosen_tasks, read_sources
from e2_tools.evaluation.ruler.tasks import TASKS
from e2_tools.plotting import save_png


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
    results = settings_of(args, config, SCHEMA, {"chat": args.chat, **sources.settings})
    load = models.model_loader(args)
    for path in filter(None, (args.output, args.heat_map)):
        check_output(path)
    if args.resume:
        _go_on(args, results)
    if missing:
        print(f"note: no files for {', '.join(missing)}: left out of the mean", file=sys.stderr)
    tokenizer = load_hf_tokenizer(args.model)
    chat = around_message(tokenizer, args.model) if args.chat else ("", "")
    done = {(cell["window"], cell["task"]) for cell in results["results"]}
    todo = [
        place
        for place in itertools.product(dict.fromkeys(args.windows), tasks)
        if place not in done
    ]
    drawn, shared = {}, shared_prefill(args)
    with progress_bar(len(todo), "cell", "first prompts", delay=2, leave=False) as bar:
        for window, task in todo:
            # The first now, so that a window that is too small is told before a model is loaded.
            room = Room(args.seed, window, lambda text: len(tokenizer.tokenize(text)), chat)
            samples = sources.samples(task, room)
            drawn[window, task] = itertools.chain([next(samples)], samples)
            bar.update()

    def answer(model: PreTrainedModel, window: int, task: str, progress: Progress) -> Cell:
        asked = list(itertools.islice(drawn.pop((window, task)), args.trials))
        prompts = [
            tokenizer(sample.prompt, add_special_tokens=not args.chat).input_ids for sample in asked
        ]
        family = TASKS[task].family
        scale, answers = answers_to(
            model, config, tokenizer, prompts, window, family.max_new_tokens, args, shared, progress
        )
        told = [(sample.answers, answer) for sample, answer in zip(asked, answers, strict=True)]
        scored = {"scale": scale, "prompt_tokens": max(map(len, prompts))}
        return {"window": window, "task": task} | scored | graded(family.metric, told)

    named = {(window, task): f"window {window}, {task}" for window, task in todo}
    run_cells(args, results, named, load, answer, in_order)
    if args.heat_map:
        save_png(draw_scores(results), args.heat_map)
    return score_table(results)


def graded(metric: str, told: list[tuple[list[str], str]]) -> Cell:
    """Return the part of a cell that says how right its answers are.

    Args:
        metric: a key of :data:`e2_tools.evaluation.ruler.score.METRICS`.
        told: references and answer of each trial.
    """
    scores = [METRICS[metric](cleaned(answer), references) for references, answer in told]
    wrong: list[dict[str, Any]] = [
        {"trial": trial, "references": references, "answer": answer, "score": score}
        for trial, ((references, answer), score) in enumerate(zip(told, scores, strict=True))
        if score < 1
    ]
    return {
        "trials": len(scores),
        "correct": sum(scores),
        "accuracy": sum(scores) / len(scores),
        "score": percent(scores),
        "scores": scores,
        "wrong": wrong,
    }


def _go_on(args: argparse.Namespace, results: Results) -> None:
    """Keep the cells of the output. Their files need not be named again, but may not be others."""
    before = read_json_object(args.output, "drop --resume") if args.output.exists() else {}
    theirs = [name for name in FILES if before.get(name) is not None]
    for name in theirs:
        results[name] = results[name] or before[name]
    results["results"] = cells_to_keep(args.output, results, ("words", *theirs))

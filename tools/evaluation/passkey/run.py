# SPDX-License-Identifier: Apache-2.0
"""A whole passkey evaluation: load, ask cell by cell, write results as they come."""

import argparse
import itertools
import platform
import sys
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from tqdm import tqdm
from transformers import PreTrainedModel

from megatron_patches.errors import UserError
from tools.checkpoint.window import Config, base_window, frequency_rule
from tools.evaluation import model as models
from tools.evaluation.documents import load_tokenizer
from tools.evaluation.generate import generate, scale_of_request
from tools.evaluation.heat_map import draw_heat_map
from tools.evaluation.passkey.prompt import (
    MAX_NEW_TOKENS,
    build_prompt,
    draw_key,
    fill_window,
    is_right,
)
from tools.evaluation.passkey.results import SCHEMA, Cell, accuracy_table, cells_to_keep, grid
from tools.evaluation.plots import save_png
from tools.evaluation.results import check_output, write_results


def evaluate(args: argparse.Namespace) -> str:
    """Evaluate what the command line of ``evaluate_passkey.py`` asks for.

    Args:
        args: its parsed arguments.

    Returns:
        the table of accuracies.

    Raises:
        UserError: anything about the model or the output that the user can mend.
    """
    config = models.load_config(args.model)
    results = _settings(args, config)
    device = models.choose_device(args.device)
    for path in filter(None, (args.output, args.heat_map)):
        check_output(path)
    if args.resume:
        results["results"] = cells_to_keep(args.output, results)
    tokenizer = load_tokenizer(args.model)
    fillers = {window: fill_window(tokenizer, window) for window in dict.fromkeys(args.windows)}
    done = {(cell["window"], cell["depth"]) for cell in results["results"]}
    todo = [cell for cell in itertools.product(fillers, args.depths) if cell not in done]
    if todo:
        transformers.logging.disable_progress_bar()
        model = models.load_model(args.model, models.DTYPES[args.dtype], device)
        interval = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants few lines
        for window, depth in tqdm(todo, unit="cell", mininterval=interval):
            keys = [draw_key(args.seed, window, depth, trial) for trial in range(args.trials)]
            prompts = [build_prompt(fillers[window], depth, key) for key in keys]
            cell = ask(model, config, tokenizer, prompts, keys, window, args)
            results["results"].append({"window": window, "depth": depth, **cell})
            results["results"].sort(key=lambda cell: (cell["window"], cell["depth"]))
            write_results(args.output, results)
    if args.heat_map:
        save_png(draw_heat_map(*grid(results), title=results["label"]), args.heat_map)
    return accuracy_table(results)


def ask(
    model: PreTrainedModel,
    config: Config,
    tokenizer: Any,
    prompts: Sequence[str],
    keys: Sequence[int],
    window: int,
    args: argparse.Namespace,
) -> Cell:
    """Ask for the keys of one cell; return its part of the result file."""
    ids = [tokenizer(prompt).input_ids for prompt in prompts]
    longest = max(map(len, ids))
    if longest + MAX_NEW_TOKENS > window:
        raise UserError(f"--windows {window}: a prompt takes {longest} tokens; use another window")
    # One scale for the cell, that of its window: prompts differ by a token or two.
    scale = scale_of_request(config, window - MAX_NEW_TOKENS, MAX_NEW_TOKENS, args.scale)
    answers: list[str] = []
    for batch in itertools.batched(ids, args.batch_size):
        fixed = "none" if scale is None else scale
        new = generate(model, config, batch, MAX_NEW_TOKENS, scale=fixed)
        answers += [tokenizer.decode(answer, skip_special_tokens=True) for answer in new]
    wrong = [
        {"key": key, "answer": answer}
        for key, answer in zip(keys, answers, strict=True)
        if not is_right(answer, key)
    ]
    correct = len(keys) - len(wrong)
    return {
        "scale": scale,
        "prompt_tokens": longest,
        "trials": len(keys),
        "correct": correct,
        "accuracy": correct / len(keys),
        "wrong": wrong,
    }


def _settings(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "label": args.label or args.model.resolve().name,
        "model": str(args.model),
        "trials": args.trials,
        "seed": args.seed,
        "dtype": args.dtype,
        "base_window": None if args.scale == "none" else base_window(config),
        "scale_mode": args.scale,
        "frequencies": frequency_rule(config),
        "results": [],
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }

# SPDX-License-Identifier: Apache-2.0
"""A whole perplexity evaluation: load, score window by window, write results as they come."""

import argparse
import contextlib
import platform
import sys
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from tqdm import tqdm

from megatron_patches.errors import UserError
from tools.checkpoint.window import frequency_rule, with_rule
from tools.evaluation import model as models
from tools.evaluation.documents import load_corpus, load_tokenizer
from tools.evaluation.perplexity import evaluate_jobs, jobs_for, tokens_read
from tools.evaluation.results import SCHEMA, check_output, rows_to_keep, write_results
from tools.evaluation.table import run_table
from tools.evaluation.windows import full_context_from


def evaluate(args: argparse.Namespace) -> str:
    """Evaluate what the command line of ``evaluate_perplexity.py`` asks for.

    Args:
        args: its parsed arguments, ``windows`` and ``stride`` checked.

    Returns:
        the final table.

    Raises:
        UserError: anything about the model, the data or the output that the user can mend.
    """
    config = _config(args)
    base, scales = models.scales_for(config, args.windows, args.scale)
    device = models.choose_device(args.device)
    corpus = load_corpus(
        args.data,
        load_tokenizer(args.model),
        key=args.json_key,
        bos=not args.no_bos,
        max_tokens=args.max_tokens,
        max_documents=args.max_documents,
        min_document_tokens=args.min_document_tokens,
        max_document_tokens=args.max_document_tokens,
    )
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "label": args.label or args.model.resolve().name,
        "model": str(args.model),
        "data": {
            "path": corpus.path,
            "sha256": corpus.sha256,
            "documents": len(corpus.documents),
            "tokens": corpus.tokens,
        },
        "protocol": args.protocol,
        "stride": args.stride,
        "bos": corpus.bos,
        "dtype": args.dtype,
        "base_window": base,
        "scale_mode": args.scale,
        "frequencies": frequency_rule(config),
        "full_context_from": full_context_from(args.windows, args.stride),
        "results": [],
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    check_output(args.output)
    if args.resume:
        results["results"] = rows_to_keep(args.output, results)
    done = {row["window"] for row in results["results"]}
    todo = {
        window: jobs_for(corpus.documents, args.protocol, window, args.stride)
        for window in args.windows
        if window not in done
    }
    _note_short_documents(max(map(len, corpus.documents)), args.windows, results)
    if todo:
        transformers.logging.disable_progress_bar()
        model = models.load_model(args.model, models.DTYPES[args.dtype], device)
        with _progress(sum(map(tokens_read, todo.values()))) as bar:
            for window, jobs in todo.items():
                bar.set_description(f"window {window}")
                if args.scale != "none":  # frozen before the pass: one g for all its documents
                    models.set_scale(model, config, scales[window], window)
                row = evaluate_jobs(
                    model,
                    corpus.documents,
                    jobs,
                    window,
                    full_context_from=results["full_context_from"],
                    batch_size=args.batch_size,
                    progress=bar.update,
                )
                results["results"].append({"window": window, "scale": scales[window], **row})
                results["results"].sort(key=lambda row: row["window"])
                write_results(args.output, results)
    return run_table(results)


def _config(args: argparse.Namespace) -> dict[str, Any]:
    config = models.load_config(args.model)
    if args.frequencies is None:
        return config
    if args.scale == "none":
        raise UserError(
            f"--frequencies {args.frequencies}: nothing is rescaled with --scale none; drop one"
        )
    return with_rule(config, args.frequencies)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[tqdm]:
    """Show the tokens read, overlaps included: their number is what the time goes with."""
    interval = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants few lines
    with tqdm(total=total, unit="tok", unit_scale=True, mininterval=interval) as bar:
        yield bar


def _note_short_documents(longest: int, windows: list[int], results: dict[str, Any]) -> None:
    beyond = [window for window in windows if window > longest]
    if beyond:
        print(
            f"note: the longest document has {longest} tokens, fewer than window "
            f"{', '.join(map(str, beyond))}: nothing there is scored with so long a context",
            file=sys.stderr,
        )
    if longest <= results["full_context_from"]:
        print("note: no token has a full context at every window", file=sys.stderr)

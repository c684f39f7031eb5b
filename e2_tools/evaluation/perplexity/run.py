# SPDX-License-Identifier: Apache-2.0
"""A whole perplexity evaluation: load, score window by window, write results as they come."""

import argparse
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2_common.errors import UserError
from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_common.outputs import check_output
from e2_common.progress import progress_bar
from e2_common.provenance import provenance
from e2_tools.evaluation import model as models
from e2_tools.evaluation.key_tokens.run import described, key_list, load_listed
from e2_tools.evaluation.perplexity.documents import Corpus, load_selected, sample_of
from e2_tools.evaluation.perplexity.protocols import PROTOCOLS
from e2_tools.evaluation.perplexity.results import SCHEMA, rows_to_keep
from e2_tools.evaluation.perplexity.sampling import RULE
from e2_tools.evaluation.perplexity.scoring import Job, Material, evaluate_jobs, tokens_read
from e2_tools.evaluation.perplexity.streams import streams_of
from e2_tools.evaluation.perplexity.tables import run_table
from e2_tools.evaluation.perplexity.windows import full_context_from
from e2_tools.evaluation.result_file import Results, write_results
from transformers_patches.scale import set_scale


def evaluate(args: argparse.Namespace) -> str:
    """Evaluate what the command line of ``evaluate_perplexity.py`` asks for.

    Args:
        args: its parsed arguments, ``windows`` and ``stride`` checked.

    Returns:
        the final table.

    Raises:
        UserError: anything about the model, the data or the output that the user can mend.
    """
    config = models.config_of(args)
    base, scales = models.scales_for(config, args.windows, args.scale)
    load = models.model_loader(args)
    key_tokens = key_list(args) if args.key_tokens is not None else None
    corpus, keys, material = _material(args, key_tokens)
    results = _header(args, config, base, corpus, material)
    if key_tokens:
        results["key_tokens"] = described(args.key_tokens, key_tokens, keys)
    jobs = {window: _jobs(args, material, window) for window in args.windows}
    check_output(args.output)
    if args.resume:
        results["results"] = rows_to_keep(args.output, results, scales)
    done = {row["window"] for row in results["results"]}
    todo = {window: jobs[window] for window in args.windows if window not in done}
    _note_short_documents(material, args.windows, results["full_context_from"])
    if todo:
        model = load()
        # Tokens read, overlaps included: their number is what the time goes with.
        with progress_bar(sum(map(tokens_read, todo.values())), "tok") as bar:
            for window in todo:
                bar.set_description(f"window {window}")
                if args.scale != "none":  # frozen before the pass: one g for all its documents
                    set_scale(model, config, scales[window], window)
                row = evaluate_jobs(
                    model,
                    material,
                    todo[window],
                    window,
                    full_context_from=results["full_context_from"],
                    batch_size=args.batch_size,
                    progress=bar.update,
                )
                results["results"].append({"window": window, "scale": scales[window], **row})
                results["results"].sort(key=lambda row: row["window"])
                write_results(args.output, results)
    return run_table(results)


def _material(
    args: argparse.Namespace, key_tokens: Results | None
) -> tuple[Corpus, list[NDArray[np.bool_]], Material]:
    """Read the documents, find their key tokens, and lay them out as the protocol wants them."""
    protocol = PROTOCOLS[args.protocol]
    tokenizer = load_hf_tokenizer(args.model)
    prefix: list[int] = []
    if protocol.bos == "window" and not args.no_bos and tokenizer.bos_token_id is not None:
        prefix = [tokenizer.bos_token_id]
    if key_tokens:
        corpus, keys = load_listed(args, key_tokens, tokenizer)
    else:
        bos = protocol.bos == "document" and not args.no_bos
        shortest = 1 if prefix or protocol.joined else 2
        corpus, keys = load_selected(args, tokenizer, bos=bos, shortest=shortest), []
    tokens = [document.tokens for document in corpus.documents]
    streams = streams_of(tokens, joined=protocol.joined, keys=keys or None)
    return corpus, keys, Material(protocol, streams, prefix, len(tokens))


def _header(
    args: argparse.Namespace,
    config: dict[str, Any],
    base: int | None,
    corpus: Corpus,
    material: Material,
) -> dict[str, Any]:
    """Everything of the result file but the windows."""
    sample = sample_of(args)
    return {
        "schema": SCHEMA,
        **models.described(args, config),
        "data": {
            "path": corpus.path,
            "sha256": corpus.sha256,
            "documents": len(corpus.documents),
            "tokens": corpus.tokens,
        },
        "sample": sample and {**sample._asdict(), "rule": RULE},
        "documents": {
            "line": [document.line for document in corpus.documents],
            "tokens": [len(document.tokens) for document in corpus.documents],
            "sha256": [document.sha256 for document in corpus.documents],
        },
        "protocol": args.protocol,
        "average_over": material.protocol.average,
        "stride": args.stride,
        "bos": corpus.bos or bool(material.prefix),
        "base_window": base,
        "full_context_from": (
            full_context_from(args.windows, args.stride) if material.protocol.full_context else None
        ),
        "results": [],
        "provenance": provenance(args.model),
    }


def _jobs(args: argparse.Namespace, material: Material, window: int) -> list[Job]:
    jobs = material.jobs(window, args.stride)
    if not jobs:
        longest = max(len(stream.tokens) for stream in material.streams)
        what = "the documents together have" if material.protocol.joined else "no document exceeds"
        raise UserError(
            f"--windows {window}: protocol {args.protocol} has no window at stride {args.stride}, "
            f"{what} {longest} tokens; use more text or a smaller window"
        )
    return jobs


def _note_short_documents(material: Material, windows: list[int], full_context: int | None) -> None:
    longest = max(len(stream.tokens) for stream in material.streams) + len(material.prefix)
    beyond = [window for window in windows if window > longest]
    if beyond:
        print(
            f"note: the longest document has {longest} tokens, fewer than window "
            f"{', '.join(map(str, beyond))}: nothing there is scored with so long a context",
            file=sys.stderr,
        )
    if full_context is not None and longest <= full_context:
        print("note: no token has a full context at every window", file=sys.stderr)

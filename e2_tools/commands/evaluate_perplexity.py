# SPDX-License-Identifier: Apache-2.0
"""Measure a Hugging Face model's sliding-window perplexity at several windows.

Protocol press scores the same tokens at every window, all of a document's but its first, so the
numbers compare. Its second number, "full context", is over the tokens that no window leaves short
of context: those at index max(windows) - stride of their document and later, again the same at
every window. Protocols yarn, yarn-truncate and longlora cut and average as the published code of
those papers, for comparison with their numbers: docs/perplexity.md. yarn gives each window one
vote, steps by the stride exactly (at stride = window it leaves a token out between windows, where
press does not), and is not weighted by tokens; longlora gives each window one vote too, where its
code gives one to each batch, so that windows of a last, smaller batch count more there.
"""

import argparse
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.outputs import OutputFile
from e2_tools.arguments import command_parser, count_argument, flag_of
from e2_tools.evaluation.arguments import add_model_arguments
from e2_tools.evaluation.perplexity.protocols import PROTOCOLS
from e2_tools.evaluation.perplexity.windows import check_windows


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add_model_arguments(parser, dtype="fp32", label="for tables and plots")
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FILE.jsonl", help="a JSON object a line")
    add("--windows", type=int, nargs="+", required=True, metavar="N", help="in tokens")
    add(
        "--output",
        type=OutputFile,
        required=True,
        metavar="results.json",
        help="rewritten per window",
    )
    add("--stride", type=int, metavar="S", help="tokens between windows (default: 256)")
    add("--protocol", choices=list(PROTOCOLS), default="press", help="(default: press)")
    add(
        "--batch-size",
        type=count_argument,
        metavar="B",
        help="windows in a forward pass (default: 8192 tokens' worth)",
    )
    add("--max-tokens", type=count_argument, metavar="N", help="of all documents; cuts the last")
    add("--max-documents", type=count_argument, metavar="N", help="read no more documents")
    add(
        "--max-document-tokens",
        type=count_argument,
        metavar="N",
        help="keep only the first N tokens of each document",
    )
    add(
        "--min-document-tokens",
        type=count_argument,
        default=1,
        metavar="N",
        help="leave out shorter documents (a BOS does not count)",
    )
    add(
        "--sample-documents",
        type=count_argument,
        metavar="N",
        help="draw N of the documents that are long enough, from a file of any size",
    )
    add("--seed", type=int, metavar="S", help="of --sample-documents (default: 0)")
    add("--json-key", default="text", metavar="KEY", help="of a record's text (default: text)")
    add("--no-bos", action="store_true", help="no BOS, even if the tokenizer adds one by default")
    add(
        "--resume",
        action="store_true",
        help="keep the windows in the output, if made with the same settings (and model)",
    )
    return parser


def check_sample(args: argparse.Namespace) -> None:
    """Refuse flags that would mean nothing beside, or without, ``--sample-documents``."""
    if args.sample_documents is None:
        if args.seed is not None:
            raise UserError(f"--seed {args.seed}: nothing is drawn without --sample-documents")
        return
    for flag in ("max_documents", "max_tokens"):
        if getattr(args, flag) is not None:
            raise UserError(
                f"{flag_of(flag)}: takes the first documents, --sample-documents any; drop one"
            )


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Run the evaluation of the command line and print its table."""
    args = build_parser().parse_args(arguments)
    check_sample(args)
    slides = PROTOCOLS[args.protocol].slides
    if args.stride is not None and not slides:
        raise UserError(f"--stride {args.stride}: protocol {args.protocol} has none; drop it")
    args.windows, args.stride = check_windows(args.windows, args.stride, slides=slides)
    from e2_tools.evaluation.perplexity.run import (
        evaluate,  # torch and transformers take seconds to import
    )

    print(evaluate(args))

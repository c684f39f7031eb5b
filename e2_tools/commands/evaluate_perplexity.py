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

With --key-tokens there is another number, the perplexity of the tokens that a long context makes
easy (LongPPL, arXiv 2410.23771). --evaluator chooses them once and writes them to that file; then
the file chooses the documents as well, so that all models are scored on the same text.
"""

import argparse
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.outputs import OutputFile
from e2_tools.arguments import command_parser, count_argument, flag_of
from e2_tools.evaluation.arguments import add_model_arguments, scale_argument
from e2_tools.evaluation.perplexity.protocols import PROTOCOLS
from e2_tools.evaluation.perplexity.windows import check_windows

KEY_FLAGS = (
    "evaluator",
    "evaluator_scale",
    "short_context",
    "short_step",
    "min_gain",
    "max_loss",
)


def nats_argument(text: str) -> float:
    """Parse a loss or a difference of losses: a finite number from 0 on."""
    try:
        nats = float(text)
    except ValueError:
        nats = -1.0
    if not 0 <= nats < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return nats


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
    keys = parser.add_argument_group("key tokens").add_argument
    keys("--key-tokens", type=Path, metavar="FILE.json", help="which tokens; made if missing")
    keys("--evaluator", type=Path, metavar="DIR", help="Hugging Face model that chooses them")
    keys(
        "--evaluator-scale",
        type=scale_argument,
        help="its RoPE scale, as --scale; auto is what the longest document needs (default: auto)",
    )
    keys(
        "--short-context",
        type=count_argument,
        metavar="K",
        help="tokens of the short context (default: 4096)",
    )
    keys(
        "--short-step",
        type=count_argument,
        metavar="D",
        help="tokens that share a short context (default: 1024)",
    )
    keys(
        "--min-gain",
        type=nats_argument,
        metavar="NATS",
        help="by how much the long context lowers a key token's loss (default: 2)",
    )
    keys(
        "--max-loss",
        type=nats_argument,
        metavar="NATS",
        help="below which its loss is with the long context (default: 2)",
    )
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


def check_key_tokens(args: argparse.Namespace) -> None:
    """Refuse flags that would mean nothing without ``--key-tokens``, or beside it."""
    if args.key_tokens is None:
        for name in KEY_FLAGS:
            if getattr(args, name) is not None:
                raise UserError(f"{flag_of(name)}: chooses key tokens; add --key-tokens FILE.json")
        return
    if not PROTOCOLS[args.protocol].full_context:
        raise UserError(
            f"--key-tokens: protocol {args.protocol} does not score every token once; use press"
        )
    if args.key_tokens.resolve() == args.output.resolve():
        raise UserError(f"--key-tokens {args.key_tokens}: is the --output as well; name another")


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Run the evaluation of the command line and print its table."""
    args = build_parser().parse_args(arguments)
    check_sample(args)
    check_key_tokens(args)
    slides = PROTOCOLS[args.protocol].slides
    if args.stride is not None and not slides:
        raise UserError(f"--stride {args.stride}: protocol {args.protocol} has none; drop it")
    args.windows, args.stride = check_windows(args.windows, args.stride, slides=slides)
    from e2_tools.evaluation.perplexity.run import (
        evaluate,  # torch and transformers take seconds to import
    )

    print(evaluate(args))

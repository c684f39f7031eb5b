# SPDX-License-Identifier: Apache-2.0
"""Measure whether a Hugging Face model finds a needle in a haystack, by RULER's single-needle task.

Each cell of windows x depths asks for --trials random magic numbers; an answer of up to 128 tokens
is right if it holds the number. The prompt fills the window, less those 128 tokens.
"""

import argparse

from e2_common.errors import exit_on_user_error
from e2_tools.arguments import command_parser
from e2_tools.evaluation.needle.haystack import load_haystack
from e2_tools.evaluation.needle.prompt import VALUES, Needle
from e2_tools.evaluation.retrieval.arguments import add_chat_argument, add_grid_arguments


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add_grid_arguments(parser, hidden="needle", output="needle.json")
    add_chat_argument(parser)
    parser.add_argument(
        "--haystack",
        default="noise",
        metavar="noise|FILE",
        help="noise, the repeated sentences of RULER's niah_single_1; or a text (.jsonl: the text "
        "of each object), as in niah_single_2 and _3 (default: noise)",
    )
    parser.add_argument(
        "--values",
        choices=VALUES,
        default="numbers",
        help="what is hidden: numbers of 7 digits, or UUIDs as in niah_single_3 (default: numbers)",
    )
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Run the evaluation of the command line and print its table."""
    args = build_parser().parse_args(arguments)
    from e2_tools.evaluation.retrieval.grid import evaluate  # torch and transformers take seconds

    print(evaluate(args, Needle(args.seed, load_haystack(args.haystack), args.values)))

# SPDX-License-Identifier: Apache-2.0
"""Measure whether a Hugging Face model recalls a span of words that its window told once.

Each cell of windows x depths asks --trials questions in the language of examples/retrieval: the
first of four words stands at the end of the prompt, the other three are right or wrong together.
"""

import argparse

from e2_common.errors import exit_on_user_error
from e2_tools.arguments import command_parser
from e2_tools.evaluation.recall.prompt import AMONG, Recall
from e2_tools.evaluation.retrieval.arguments import add_grid_arguments


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add_grid_arguments(parser, hidden="span", output="recall.json")
    parser.add_argument(
        "--among",
        choices=AMONG,
        default="noise",
        help="what stands around the span: meaningless words, or every other span once "
        "(default: noise)",
    )
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Run the evaluation of the command line and print its table."""
    args = build_parser().parse_args(arguments)
    from e2_tools.evaluation.retrieval.grid import evaluate  # torch and transformers take seconds

    print(evaluate(args, Recall(args.seed, args.among)))

# SPDX-License-Identifier: Apache-2.0
"""Measure a Hugging Face model by BABILong's qa1, qa2 and qa3: facts hidden in a long text.

Who is where, where an item is, where it was before: one, two or three facts of a bAbI story have to
be put together. Prompts and scores equal those of BABILong's code under the same seed.
"""

import argparse
from pathlib import Path

from e2_common.errors import exit_on_user_error
from e2_tools.arguments import command_parser
from e2_tools.evaluation.babilong.prompts import TASKS
from e2_tools.evaluation.retrieval.arguments import add_cell_arguments, add_chat_argument


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add_cell_arguments(parser, output="babilong.json", seed=42, seeded="of all draws")
    add_chat_argument(parser)
    add = parser.add_argument
    add(
        "--babi",
        type=Path,
        required=True,
        metavar="DIR",
        help="bAbI's tasks_1-20_v1-2/en-10k, with the files of qa1 to qa3",
    )
    add(
        "--haystack",
        type=Path,
        required=True,
        metavar="FILE",
        help="the text around: a book, or books (.jsonl: the text of each object); BABILong takes "
        "PG-19's test set",
    )
    add(
        "--tasks",
        nargs="+",
        choices=list(TASKS),
        default=list(TASKS),
        metavar="TASK",
        help=f"{', '.join(TASKS)} (default: all)",
    )
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Run the evaluation of the command line and print its table."""
    args = build_parser().parse_args(arguments)
    from e2_tools.evaluation.babilong.run import evaluate  # torch and transformers take seconds

    print(evaluate(args))

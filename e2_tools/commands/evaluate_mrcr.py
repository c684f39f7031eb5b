# SPDX-License-Identifier: Apache-2.0
"""Measure a Hugging Face model by OpenAI's MRCR: the i-th of 2, 4 or 8 alike texts, word by word.

A window asks records of the data that fill more than half of it, answer included. The score is the
published one: how alike the texts are, 0 without the string that the answer has to begin with.
"""

import argparse
from pathlib import Path

from e2_common.errors import exit_on_user_error
from e2_tools.arguments import command_parser
from e2_tools.evaluation.retrieval.arguments import add_cell_arguments


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add_cell_arguments(parser, output="mrcr.json", seed=0, seeded="of the records' order")
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="MRCR's files, such as 2needle/2needle_0.parquet, or their rows as .jsonl",
    )
    add(
        "--chat",
        action="store_true",
        help="the conversation in the tokenizer's chat template (without it: User: and Assistant:)",
    )
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Run the evaluation of the command line and print its table."""
    args = build_parser().parse_args(arguments)
    from e2_tools.evaluation.mrcr.run import evaluate  # torch and transformers take seconds

    print(evaluate(args))

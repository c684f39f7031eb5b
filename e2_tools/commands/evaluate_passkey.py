# SPDX-License-Identifier: Apache-2.0
"""Measure whether a Hugging Face model finds a pass key in a window full of filler.

Each cell of windows x depths asks for --trials random keys; an answer is right if its first number
is the key. The prompt fills the window, less the ten tokens of the answer.
"""

import argparse

from e2_common.errors import exit_on_user_error
from e2_tools.arguments import command_parser
from e2_tools.evaluation.passkey.prompt import Passkey
from e2_tools.evaluation.retrieval.arguments import add_chat_argument, add_grid_arguments


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add_grid_arguments(parser, hidden="key", output="passkey.json")
    add_chat_argument(parser)
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Run the evaluation of the command line and print its table."""
    args = build_parser().parse_args(arguments)
    from e2_tools.evaluation.retrieval.grid import evaluate  # torch and transformers take seconds

    print(evaluate(args, Passkey(args.seed)))

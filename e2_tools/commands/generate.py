# SPDX-License-Identifier: Apache-2.0
"""Continue a text with a Hugging Face model, greedily, at the RoPE scale that its length needs.

The scale is chosen before the prompt is read and told on stderr; the new text goes to stdout as it
comes.
"""

import argparse
from pathlib import Path

from e2_common.errors import exit_on_user_error
from e2_tools.arguments import command_parser, count_argument
from e2_tools.evaluation.arguments import AUTO, add_model_arguments


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add_model_arguments(
        parser,
        dtype="bf16",
        auto=AUTO.format("(prompt + new tokens)"),
    )
    add = parser.add_argument
    add(
        "--prompt-file",
        type=Path,
        required=True,
        metavar="FILE",
        help="the text, without the newline at its end; - for stdin",
    )
    add("--max-new-tokens", type=count_argument, required=True, metavar="N")
    add("--chat", action="store_true", help="put the prompt into the tokenizer's chat template")
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Print what the model goes on with."""
    args = build_parser().parse_args(arguments)
    from e2_tools.evaluation.answer import answer  # torch and transformers take seconds

    answer(args)

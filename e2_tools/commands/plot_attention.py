# SPDX-License-Identifier: Apache-2.0
"""Draw what generated tokens attend to in a long input, as in figure 6 of the E2-LLM paper.

Three key-value pairs stand inside a long text, and a question for one of them at its end. For every
window the picture shows the attention of each token of the answer over the input, with the value
marked; FILE.json beside it has the numbers, and plot_results.py draws those of several models.
Memory grows with the window, not with its square.
"""

import argparse
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.outputs import OutputFile, check_outputs
from e2_tools.arguments import (
    check_png,
    command_parser,
    count_argument,
    index_argument,
    percentage_argument,
)
from e2_tools.evaluation.arguments import AUTO_OF_WINDOW, add_model_arguments
from e2_tools.evaluation.attention.by_window import FIRST, LAST


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add_model_arguments(
        parser,
        dtype="bf16",
        auto=f"{AUTO_OF_WINDOW}, chosen before the prompt is read",
        label="above the picture",
    )
    add = parser.add_argument
    add("--text", type=Path, required=True, metavar="FILE", help="a text as long as the windows")
    add("--windows", type=count_argument, nargs="+", required=True, metavar="N", help="in tokens")
    add(
        "--output",
        type=OutputFile,
        required=True,
        metavar="FILE.png",
        help="FILE.json goes beside it",
    )
    add(
        "--layers",
        type=index_argument,
        nargs="+",
        metavar="N",
        help="from 0, a column each (default: the middle one)",
    )
    add(
        "--heads",
        type=index_argument,
        nargs="+",
        metavar="N",
        help="query heads to average over, from 0 (default: all)",
    )
    add("--max-new-tokens", type=count_argument, default=64, metavar="N", help="(default: 64)")
    add(
        "--depth",
        type=percentage_argument,
        metavar="D",
        help="of the pairs, in percent of the text (default: 55)",
    )
    add("--seed", type=int, help="draw other UUIDs (default: the paper's)")
    add(
        "--suffix",
        default="",
        metavar="TEXT",
        help="behind the question, to lead on a base model; {key} becomes the key asked for",
    )
    add(
        "--pool",
        choices=["max", "mean"],
        default="max",
        help="over the tokens of a bin: max keeps thin stripes visible (default: max)",
    )
    add(
        "--no-question",
        action="store_true",
        help="read the text alone; in place of an answer, show what its own next tokens attend to",
    )
    add(
        "--table",
        action="store_true",
        help=f"also print a Markdown table: what lies on the first {FIRST} and last {LAST} tokens",
    )
    add("--bins", type=count_argument, default=400, metavar="N", help="a row (default: 400)")
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Run what the command line asks for and print the answers."""
    args = build_parser().parse_args(arguments)
    check_png("--output", args.output)
    check_outputs(argparse.Namespace(**vars(args) | {"output": args.output.with_suffix(".json")}))
    for name in ("depth", "seed", "suffix"):
        if args.no_question and getattr(args, name) not in (None, ""):
            raise UserError(f"--{name}: is of the question, and --no-question asks none; drop one")
    from e2_tools.evaluation.attention.run import evaluate  # torch and transformers take seconds

    print(evaluate(args))

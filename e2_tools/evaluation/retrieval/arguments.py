# SPDX-License-Identifier: Apache-2.0
"""The flags that all retrieval tests have; imports nothing heavy."""

import argparse

from e2_common.outputs import OutputFile
from e2_tools.arguments import count_argument, percentage_argument
from e2_tools.evaluation.arguments import (
    AUTO_DTYPE,
    add_model_arguments,
    add_shared_prefill_argument,
)


def add_grid_arguments(parser: argparse.ArgumentParser, *, hidden: str, output: str) -> None:
    """Add the flags of :func:`e2_tools.evaluation.retrieval.grid.evaluate`.

    Args:
        parser: of the command.
        hidden: what the test hides, for the help texts: ``key``.
        output: an example of a result file's name.
    """
    add_cell_arguments(parser, output=output, seed=0, seeded=f"of the {hidden}s")
    parser.add_argument(
        "--depths",
        type=percentage_argument,
        nargs="+",
        default=[float(depth) for depth in range(0, 101, 10)],
        metavar="D",
        help=f"of the {hidden}, in percent of the text around it (default: 0 10 ... 100)",
    )


def add_chat_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--chat``, for tests whose questions have an answer prefix."""
    parser.add_argument(
        "--chat",
        action="store_true",
        help="put each question into the tokenizer's chat template, the answer prefix behind it",
    )


def add_cell_arguments(
    parser: argparse.ArgumentParser, *, output: str, seed: int, seeded: str
) -> None:
    """Add the flags of a test by window and anything else.

    Args:
        parser: of the command.
        output: an example of a result file's name.
        seed: default of ``--seed``.
        seeded: what the seed is of, for the help text.
    """
    add_model_arguments(parser, dtype=AUTO_DTYPE, label="for the picture")
    add = parser.add_argument
    add("--windows", type=count_argument, nargs="+", required=True, metavar="N", help="in tokens")
    add("--output", type=OutputFile, required=True, metavar=output, help="rewritten per cell")
    add(
        "--trials", type=count_argument, default=10, metavar="N", help="questions a cell "
        "(default: 10)",
    )  # fmt: skip
    add("--seed", type=int, default=seed, help=f"{seeded} (default: {seed})")
    add("--heat-map", type=OutputFile, metavar="FILE.png", help="draw the accuracies")
    add("--batch-size", type=count_argument, default=1, metavar="B", help="prompts at once")
    add_shared_prefill_argument(parser, default=True)
    add(
        "--resume",
        action="store_true",
        help="keep the cells in the output, if made with the same settings (and model)",
    )

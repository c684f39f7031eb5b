# SPDX-License-Identifier: Apache-2.0
"""The flags that say which model is evaluated and how; imports nothing heavy."""

import argparse
from pathlib import Path

from e2_llm.frequencies import BY_SCALE

AUTO = "what {} / base window needs, a whole number if training drew whole ones"
AUTO_OF_WINDOW = AUTO.format("window")
AUTO_DTYPE = "auto"


def add_model_arguments(
    parser: argparse.ArgumentParser, *, dtype: str, auto: str = AUTO_OF_WINDOW, label: str = ""
) -> None:
    """Add what says which model is evaluated and how it is run.

    :func:`e2_tools.evaluation.model.model_loader` and :func:`e2_tools.evaluation.model.described`
    take them from there.

    Args:
        parser: of the command.
        dtype: default of ``--dtype``.
        auto: how ``--scale auto`` chooses g, for its help.
        label: what ``--label`` is for; without it there is no such flag.
    """
    add = parser.add_argument_group("model").add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="Hugging Face model folder")
    add(
        "--scale",
        type=scale_argument,
        default="auto",
        help=f"RoPE scale g: auto, {auto}; none, the model's own RoPE; or a number for all "
        "(default: auto)",
    )
    add(
        "--frequencies",
        choices=BY_SCALE,
        help="what the scale does to the frequencies (default: what the model was trained with, "
        "else linear)",
    )
    add(
        "--dtype",
        choices=[AUTO_DTYPE, "fp32", "bf16"],
        default=dtype,
        help="of the weights; auto: with --resume as before, else bf16 where this machine "
        f"multiplies it clearly faster than fp32 (default: {dtype})",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    if label:
        add("--label", metavar="NAME", help=f"{label} (default: the model folder's name)")


def add_shared_prefill_argument(parser: argparse.ArgumentParser, *, default: bool) -> None:
    """Add ``--shared-prefill``, for commands that ask many questions.

    Args:
        parser: to add to.
        default: of it; a published protocol is kept to the last digit only without.
    """
    parser.add_argument(
        "--shared-prefill",
        action=argparse.BooleanOptionalAction,
        default=default,
        help="read what prompts begin with once; answers are the same apart from rounding "
        f"(default: {'yes' if default else 'no'})",
    )


def scale_argument(text: str) -> str | float:
    """Parse ``--scale``: auto, none or a number of at least 1."""
    if text in ("auto", "none"):
        return text
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 1 <= scale < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto, none nor a number from 1 on")
    return scale

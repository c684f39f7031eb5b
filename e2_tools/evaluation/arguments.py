# SPDX-License-Identifier: Apache-2.0
"""Types of flags that several evaluation commands share; imports nothing heavy."""

import argparse


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


def count_argument(text: str) -> int:
    """Parse a count of at least 1."""
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return count


def percentage_argument(text: str) -> float:
    """Parse a percentage, 0 to 100."""
    try:
        percentage = float(text)
    except ValueError:
        percentage = -1.0
    if not 0 <= percentage <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage from 0 to 100")
    return percentage

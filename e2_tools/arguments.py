# SPDX-License-Identifier: Apache-2.0
"""Command lines: the parser of every command, types and checks of flags; imports nothing heavy."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.outputs import check_outputs


def command_parser(description: str | None, **options: Any) -> argparse.ArgumentParser:
    """Return a parser whose help shows a module's docstring with its line breaks.

    Args:
        description: the docstring.
        options: of ``argparse.ArgumentParser``.
    """
    formatter = argparse.RawDescriptionHelpFormatter
    return _Parser(description=description, formatter_class=formatter, **options)


class _Parser(argparse.ArgumentParser):
    """Looks, before any work, whether what a command line wants to write can be written."""

    def parse_args(self, *args: Any, **options: Any) -> argparse.Namespace:
        """See :class:`argparse.ArgumentParser`, and :func:`check_outputs` for what it raises."""
        parsed = super().parse_args(*args, **options)
        check_outputs(parsed)
        return parsed


def flag_of(name: str) -> str:
    """Return the flag of a parsed argument: ``--max-tokens`` of ``max_tokens``."""
    return f"--{name.replace('_', '-')}"


def check_counts(args: argparse.Namespace, names: Iterable[str]) -> None:
    """Refuse parsed numbers below 1; what is None was not given.

    Raises:
        UserError: one is below 1.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"{flag_of(name)} {value}: must be at least 1")


def check_png(flag: str, path: Path) -> None:
    """Refuse a picture's name that promises another format.

    Raises:
        UserError: it does not end in .png.
    """
    if path.suffix.lower() != ".png":
        raise UserError(f"{flag} {path}: is drawn as PNG; let the name end in .png")


def count_argument(text: str) -> int:
    """Parse a count of at least 1."""
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return count


def index_argument(text: str) -> int:
    """Parse a number of something that is counted from 0, a layer or a head."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def percentage_argument(text: str) -> float:
    """Parse a percentage, 0 to 100."""
    try:
        percentage = float(text)
    except ValueError:
        percentage = -1.0
    if not 0 <= percentage <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage from 0 to 100")
    return percentage

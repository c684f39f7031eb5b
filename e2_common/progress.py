# SPDX-License-Identifier: Apache-2.0
"""How far the work is: a bar with the time left on a terminal, a line now and then in a log."""

import sys
from typing import Any, TextIO

from tqdm import tqdm

TERMINAL_SECONDS = 0.5  # between two looks of a bar
LOG_SECONDS = 30.0  # a log that somebody follows needs no more; one of a week stays short
_COUNTED = ("B", "tok")  # units that come in thousands and millions


class Bar(tqdm):
    """A progress bar without tqdm's thread: processes may be forked beside it."""

    monitor_interval = 0


def progress_bar(
    total: int | None, unit: str, label: str | None = None, *, done: int = 0, **options: Any
) -> Bar:
    """Return a bar on stderr, to be used as a context manager and told of by ``update``.

    Args:
        total: units; None if nobody knows.
        unit: ``B``, ``tok``, or a word.
        label: shown before the bar.
        done: units that were done before this run.
        options: of tqdm, for instance ``delay``, the seconds before it shows, and ``leave``.
    """
    stream: TextIO = options.get("file") or sys.stderr
    return Bar(
        total=total,
        unit=unit,
        desc=label,
        initial=done,
        unit_scale=unit in _COUNTED,
        mininterval=TERMINAL_SECONDS if stream.isatty() else LOG_SECONDS,
        miniters=1,  # at each update the clock decides, so that a slow stretch shows too
        **options,
    )

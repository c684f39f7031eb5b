# SPDX-License-Identifier: Apache-2.0
"""The progress bar of an evaluation."""

import sys

from tqdm import tqdm


def progress_bar(total: int, unit: str = "tok", done: int = 0) -> tqdm:
    """Return a bar with ETA: lively on a terminal, a line now and then in a log file.

    Args:
        total: units; tokens are what the time goes with.
        unit: ``tok`` or a word.
        done: units before this run.
    """
    interval = 0.5 if sys.stderr.isatty() else 30.0
    tokens = unit == "tok"
    return tqdm(total=total, initial=done, unit=unit, unit_scale=tokens, mininterval=interval)
